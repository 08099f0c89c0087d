"""Database clusters come up, empty or recovered from an archive, and say whether they archive their WAL."""

from __future__ import annotations

import secrets
from base64 import b64encode

from deployments.practice.controllers.database_facts import (
    COMPONENT,
    HEALTHY,
    MANAGER,
    Ailment,
    ails,
    archive_of,
    find,
    first_recoverable,
    origin_of,
    set_condition,
    source_of,
    status_of,
    system_id,
    time_of,
    write,
)
from deployments.practice.controllers.database_instances import (
    ensure_pod,
    ensure_volumes,
    metadata_of,
    pod_spec_of,
    volumes_of,
)
from deployments.practice.controllers.world import Key, World, condition
from deployments.practice.eviction import is_ready
from deployments.practice.store import Body, Item

IMAGE = "ghcr.io/cloudnative-pg/postgresql:18.1"
SETTING_UP = "Setting up primary"
WAITING = "Waiting for the instances to become active"
UNRECOVERABLE = "Cluster is unrecoverable and needs manual intervention"
INACTIVE = ("Pending", "Succeeded", "Failed")
"""Phases in which the operator takes a pod for one that will not answer."""
NOT_REACHED = "FATAL: recovery ended before configured recovery target was reached"
NO_BACKUP = "no target backup found"


def look(world: World, key: Key) -> None:
    item = find(world, "Cluster", key)
    if item is None or item.metadata.get("deletionTimestamp"):
        return
    phase = (item.body.get("status") or {}).get("phase")
    if phase is None:
        _set_up(world, item)
    elif phase == SETTING_UP:
        _go_on(world, item, key)
    elif phase == WAITING:
        _come_up(world, item)
    elif phase == HEALTHY:
        status = _instances(item, status_of(item), primary=ensure_pod(world, item))
        write(world, item, _archiving(world, item, status))


def _set_up(world: World, item: Item) -> None:
    status: Body = {"phase": SETTING_UP, "phaseReason": f"Creating primary instance {item.name}-1"}
    status |= {"image": item.body["spec"].get("imageName") or IMAGE, "targetPrimary": f"{item.name}-1"}
    status |= {"instances": 1, "instanceNames": [f"{item.name}-1"], "jobCount": 1}
    status["pvcCount"] = len(volumes_of(item))
    status |= {"writeService": f"{item.name}-rw", "readService": f"{item.name}-r"}
    message = "Cluster Is Not Ready"
    set_condition(status, "Ready", value="False", reason="ClusterIsNotReady", message=message, at=world.now())
    written = write(world, item, status)
    world.event(item, "CreatingInstance", f"Primary instance {item.name}-1", component=COMPONENT)
    ensure_volumes(world, written)
    _ensure_secret(world, written)
    if source_of(written) is not None:
        _ensure_job(world, written)
    world.wake("clusters", (item.namespace, item.name), 0)


def _ensure_secret(world: World, item: Item) -> None:
    """Write how the superuser reaches the cluster, as the operator does where its definition wants it."""
    name, host = f"{item.name}-superuser", f"{item.name}-rw"
    if not item.body["spec"].get("enableSuperuserAccess") or world.get("Secret", "", (item.namespace, name)):
        return
    password = secrets.token_urlsafe(24)
    said = {"username": "postgres", "user": "postgres", "password": password, "dbname": "*", "host": host}
    said |= {"port": "5432", "uri": f"postgresql://postgres:{password}@{host}.{item.namespace}:5432/*"}
    data = {key: b64encode(value.encode()).decode() for key, value in said.items()}
    body = {"metadata": metadata_of(item, name, {}), "type": "kubernetes.io/basic-auth", "data": data}
    world.create("Secret", "", body, manager=MANAGER)


def _go_on(world: World, item: Item, key: Key) -> None:
    if source_of(item) is None:
        if world.waited(item.metadata["uid"], "initdb", world.delays.ready, "clusters", key):
            _come_up(world, item)
        return
    job = world.get("Job", "batch", (item.namespace, _job_name(item)))
    job_status: Body = (job.body.get("status") or {}) if job is not None else {}
    if condition(job_status, "Complete"):
        _come_up(world, item)
    elif condition(job_status, "Failed"):
        why = f"Instance creation failed for the following jobs: {_job_name(item)}. "
        why += "Check the job logs to investigate the cause of the failure."
        write(world, item, {**status_of(item), "phase": UNRECOVERABLE, "phaseReason": why})


def _come_up(world: World, item: Item) -> None:
    """Go on once the data is there: the cluster is well when its pod is."""
    if is_ready(ensure_pod(world, item)):
        write(world, item, _healthy(world, item))
        return
    status = status_of(item)
    status.pop("phaseReason", None)
    write(world, item, {**status, "phase": WAITING})


def _healthy(world: World, item: Item) -> Body:
    status, origin = status_of(item), origin_of(world, item)
    status.pop("phaseReason", None)
    count = int(item.body["spec"]["instances"])
    status |= {"phase": HEALTHY, "instances": count, "currentPrimary": f"{item.name}-1"}
    status["instanceNames"] = [f"{item.name}-{number}" for number in range(1, count + 1)]
    before: Body = (origin.body.get("status") or {}) if origin is not None else {}
    # A recovered server is the old one on a timeline of its own.
    status["timelineID"] = int(before.get("timelineID", 1)) + 1 if source_of(item) is not None else 1
    status["systemID"] = before.get("systemID") or system_id(item.metadata["uid"])
    status = _instances(item, status, primary=ensure_pod(world, item))
    set_condition(status, "Ready", value="True", reason="ClusterIsReady", message="Cluster is Ready", at=world.now())
    return _archiving(world, item, status)


def _instances(item: Item, status: Body, *, primary: Item) -> Body:
    """Say which instances are ready, as the operator does from their pods; those of standbys are not played.

    A primary that is down is named as before, and nobody is promoted: as with a delay of failover that never ends.
    """
    names = list(status["instanceNames"])
    up = names if is_ready(primary) else names[1:]
    down = "failed" if (primary.body.get("status") or {}).get("phase") in INACTIVE else "replicating"
    told = {"healthy": up, down: [one for one in names if one not in up]}
    status["instancesStatus"] = {words: pods for words, pods in told.items() if pods}
    said = {one: {"isPrimary": one == primary.name, "timeLineID": status["timelineID"], "ip": ""} for one in up}
    status["instancesReportedState"] = {**{one: {"isPrimary": False, "ip": ""} for one in names}, **said}
    status.pop("readyInstances", None)
    return status | ({"readyInstances": len(up)} if up else {})


def _archiving(world: World, item: Item, status: Body) -> Body:
    if archive_of(item) is None:
        return status
    if ails(item, Ailment.ARCHIVING_FAILS):
        message = "unexpected failure invoking barman-cloud-wal-archive: exit status 1"
        words = {"value": "False", "reason": "ContinuousArchivingFailing", "message": message}
    else:
        message = "Continuous archiving is working"
        words = {"value": "True", "reason": "ContinuousArchivingSuccess", "message": message}
    set_condition(status, "ContinuousArchiving", **words, at=world.now())
    return status


def _ensure_job(world: World, item: Item) -> None:
    name = _job_name(item)
    if world.get("Job", "batch", (item.namespace, name)) is not None:
        return
    metadata = metadata_of(item, name, {"cnpg.io/jobRole": "full-recovery"})
    failure = _failure(world, item)
    container: Body = {"name": "full-recovery"}
    container["command"] = ["sh", "-c", f"echo '{failure}'; exit 1"] if failure else ["/controller/manager", "instance"]
    template = {"metadata": {"labels": dict(metadata["labels"])}}
    spec = {"template": {**template, "spec": {**pod_spec_of(item, container), "restartPolicy": "Never"}}}
    world.create("Job", "batch", {"metadata": metadata, "spec": spec}, manager=MANAGER)


def _failure(world: World, item: Item) -> str:
    """Say why a recovery cannot succeed; empty where it does."""
    source, origin = source_of(item), origin_of(world, item)
    assert source is not None
    target = (item.body["spec"]["bootstrap"]["recovery"].get("recoveryTarget") or {}).get("targetTime")
    to = time_of(target) if target else None
    if any(ails(one, Ailment.RECOVERY_FAILS) for one in (item, origin) if one is not None):
        return "FATAL: could not restore the backup"
    if origin is not None and (strange := sorted(_tablespaces(item) ^ _tablespaces(origin))):
        return f"FATAL: tablespaces without a volume of their own: {', '.join(strange)}"
    first = first_recoverable(world, origin or item, source)
    if first is None or (to is not None and to < first):
        return NO_BACKUP
    archiving = condition((origin.body.get("status") or {}), "ContinuousArchiving") if origin is not None else None
    end = time_of((archiving or {}).get("lastTransitionTime")) if (archiving or {}).get("status") == "False" else None
    if to is not None and to.timestamp() > (end.timestamp() if end is not None else world.clock.now()):
        return NOT_REACHED
    return ""


def _tablespaces(item: Item) -> set[str]:
    return {one["name"] for one in item.body["spec"].get("tablespaces") or ()}


def _job_name(item: Item) -> str:
    return f"{item.name}-1-full-recovery"
