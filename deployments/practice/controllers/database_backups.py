"""Backups of database clusters: one after another, each with its positions, into the archive of its cluster."""

from __future__ import annotations

from datetime import UTC, datetime

from deployments.practice.clock import stamp
from deployments.practice.controllers.database_facts import (
    COMPONENT,
    HEALTHY,
    OBJECT_STORE,
    PLUGIN,
    PLUGIN_GROUP,
    Ailment,
    ails,
    archive_of,
    find,
    plugin_of,
    set_condition,
    siblings,
    status_of,
    write,
)
from deployments.practice.controllers.world import Key, World
from deployments.practice.store import Body, Change, Item

DONE = frozenset({"completed", "failed"})
EXECUTING = frozenset({"started", "running"})
PARENT = "cnpg.io/scheduled-backup"
"""The label that names the ScheduledBackup that made a Backup."""
WAL_FAILING = "walArchivingFailing"
RETRY_SECONDS = 10.0
WAL_START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
WAL_BYTES_PER_SECOND = 65_536


def look(world: World, key: Key) -> None:
    item = find(world, "Backup", key)
    if item is None or _phase(item) in DONE:
        return
    cluster = find(world, "Cluster", (item.namespace, _cluster_name(item)))
    if cluster is None:
        message = f"Unknown cluster {_cluster_name(item)}, will retry in 30 seconds"
        world.event(item, "FindingCluster", message, component=COMPONENT, is_warning=True)
        _wait(world, item, key, seconds=30.0)
    elif missing := _missing(item, cluster):
        _fail(world, item, cluster, missing)
    elif _phase(item) in ("", "pending"):
        _begin(world, item, cluster, key)
    else:
        _go_on(world, item, cluster, key)


def hear_cluster(world: World, cluster: Item) -> None:
    """Wake the backups that wait for their cluster."""
    for one in siblings(world, cluster, "Backup"):
        if _cluster_name(one) == cluster.name and _phase(one) not in DONE:
            world.wake("backups", (one.namespace, one.name), 0)


def hear_backup(world: World, change: Change) -> None:
    """Give the next backup of the same cluster, and the schedule that made this one, their turn when one ends."""
    item = change.after
    if change.verb != "DELETED" and _phase(item) not in DONE:
        return
    for one in siblings(world, item, "Backup"):
        if _cluster_name(one) == _cluster_name(item) and _phase(one) not in DONE:
            world.wake("backups", (one.namespace, one.name), 0)
    if parent := item.labels.get(PARENT):
        world.wake("scheduledbackups", (item.namespace, parent), 0)


def _begin(world: World, item: Item, cluster: Item, key: Key) -> None:
    others = [one for one in siblings(world, item, "Backup") if _cluster_name(one) == cluster.name]
    executing = [one for one in others if _phase(one) in EXECUTING]
    waiting = [one for one in others if _phase(one) not in DONE]
    is_turn = not executing and waiting[0].name == item.name
    if not is_turn or (cluster.body.get("status") or {}).get("phase") != HEALTHY:
        _wait(world, item, key, seconds=RETRY_SECONDS)
        return
    now, pod = world.now(), cluster.body["status"]["currentPrimary"]
    instance = {"podName": pod, "ContainerID": f"containerd://{cluster.metadata['uid']}", "sessionID": now}
    status: Body = {"phase": "started", "method": item.body["spec"]["method"], "instanceID": instance}
    status |= {"majorVersion": _major(cluster), "reconciliationStartedAt": now}
    write(world, item, status)
    world.event(item, "Starting", f"Starting backup for cluster {cluster.name}", component=COMPONENT)
    _tell_cluster(world, cluster, value="False", reason="BackupStarted", message="New Backup starting up")


def _go_on(world: World, item: Item, cluster: Item, key: Key) -> None:
    status, uid = status_of(item), item.metadata["uid"]
    is_archiving, is_plugin = not ails(cluster, Ailment.ARCHIVING_FAILS), status["method"] == "plugin"
    if not is_plugin and not is_archiving:
        write(world, item, {**status, "phase": WAL_FAILING})
        world.wake("backups", key, RETRY_SECONDS)
    elif not is_plugin and status["phase"] != "running":
        archive = archive_of(cluster)
        assert archive is not None
        where = {"destinationPath": archive.store, "serverName": archive.server}
        # The server and its place are known as soon as it runs; what was taken, only at the end.
        write(world, item, {**status, **where, "phase": "running", "backupName": _name(world)})
    elif not world.waited(uid, "take", world.delays.take_backup, "backups", key):
        return
    elif ails(cluster, Ailment.BACKUPS_FAIL):
        _fail(world, item, cluster, "exit status 1")
    elif is_archiving:
        _complete(world, item, cluster)
    else:
        # The plugin waits for the last WAL of the backup, as `pg_backup_stop` does.
        world.wake("backups", key, RETRY_SECONDS)


def _complete(world: World, item: Item, cluster: Item) -> None:
    status, now = status_of(item), world.clock.now()
    began = datetime.fromisoformat(status["reconciliationStartedAt"]).timestamp()
    timeline = int(cluster.body["status"]["timelineID"])
    begin, end = _position(began) + 0x28, _position(now) + 0x150
    status |= {"phase": "completed", "startedAt": status["reconciliationStartedAt"], "stoppedAt": stamp(now)}
    status |= {
        "backupId": f"{datetime.fromtimestamp(began, UTC):%Y%m%dT%H%M%S}",
        "reconciliationTerminatedAt": stamp(now),
    }
    status |= {"beginLSN": _lsn(begin), "endLSN": _lsn(end)}
    status |= {"beginWal": _segment(timeline, begin), "endWal": _segment(timeline, end)}
    status.setdefault("backupName", _name(world))
    if status["method"] == "plugin":
        status |= {"online": True, "pluginMetadata": {"timeline": str(timeline), "pluginName": PLUGIN, "name": PLUGIN}}
    write(world, item, status)
    world.event(item, "Completed", "Backup completed", component=COMPONENT)
    _note_window(world, cluster, stamp(now), is_plugin=status["method"] == "plugin")
    message = "Backup was successful"
    _tell_cluster(world, cluster, value="True", reason="LastBackupSucceeded", message=message)


def _note_window(world: World, cluster: Item, at: str, *, is_plugin: bool) -> None:
    if is_plugin:
        parameters: Body = (plugin_of(cluster) or {}).get("parameters") or {}
        key = (cluster.namespace, str(parameters.get("barmanObjectName", "")))
        store = find(world, "ObjectStore", key, group=PLUGIN_GROUP)
        if store is None:
            return
        status, server = status_of(store), str(parameters.get("serverName") or cluster.name)
        window = status.setdefault("serverRecoveryWindow", {}).setdefault(server, {})
        window.setdefault("firstRecoverabilityPoint", at)
        window["lastSuccessfulBackupTime"] = at
        write(world, store, status)
        return
    status = status_of(cluster)
    first = status.setdefault("firstRecoverabilityPoint", at)
    status |= {"lastSuccessfulBackup": at, "lastSuccessfulBackupByMethod": {OBJECT_STORE: at}}
    status["firstRecoverabilityPointByMethod"] = {OBJECT_STORE: first}
    write(world, cluster, status)


def _fail(world: World, item: Item, cluster: Item, error: str) -> None:
    terminated = {"reconciliationTerminatedAt": world.now()}
    write(world, item, {**status_of(item), "phase": "failed", "error": error, **terminated})
    world.event(item, "Failed", "Backup failed", component=COMPONENT)
    _tell_cluster(world, cluster, value="False", reason="LastBackupFailed", message=error)


def _tell_cluster(world: World, cluster: Item, *, value: str, reason: str, message: str) -> None:
    live = find(world, "Cluster", (cluster.namespace, cluster.name))
    if live is None:
        return
    status = status_of(live)
    set_condition(status, "LastBackupSucceeded", value=value, reason=reason, message=message, at=world.now())
    if reason == "LastBackupFailed":
        status["lastFailedBackup"] = world.now()
    write(world, live, status)


def _missing(item: Item, cluster: Item) -> str:
    method = item.body["spec"]["method"]
    if method == "plugin":
        has_none = not cluster.body["spec"].get("plugins")
        return "cannot proceed with the backup as the cluster has no plugin configured" if has_none else ""
    backup = cluster.body["spec"].get("backup")
    if not backup:
        return "cannot proceed with the backup as the cluster has no backup section"
    return "" if backup.get(method) else f"no {method} section defined on the target cluster"


def _wait(world: World, item: Item, key: Key, *, seconds: float) -> None:
    write(world, item, {**status_of(item), "phase": "pending"})
    world.wake("backups", key, seconds)


def _phase(item: Item) -> str:
    return str((item.body.get("status") or {}).get("phase", ""))


def _cluster_name(item: Item) -> str:
    return str(item.body["spec"]["cluster"]["name"])


def _name(world: World) -> str:
    return f"backup-{datetime.fromtimestamp(world.clock.now(), UTC):%Y%m%d%H%M%S}"


def _major(cluster: Item) -> int:
    tag = str(cluster.body["status"].get("image", "")).partition("@")[0].rpartition(":")[2].partition(".")[0]
    return int(tag) if tag.isdecimal() else 18


def _position(at: float) -> int:
    return int(max(at - WAL_START, 0.0)) * WAL_BYTES_PER_SECOND


def _lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _segment(timeline: int, position: int) -> str:
    return f"{timeline:08X}{position >> 32:08X}{(position >> 24) & 0xFF:08X}"
