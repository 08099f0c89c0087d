"""Deployments roll from one ReplicaSet to the next, step by step, as kube-controller-manager's do."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from deployments.practice.controllers.world import MANAGER, Key, World, condition, reference_to, without_zeros
from deployments.practice.eviction import share
from deployments.practice.status import ApiError
from deployments.practice.store import Body, Item, cloned

REVISION = "deployment.kubernetes.io/revision"
_DESIRED = "deployment.kubernetes.io/desired-replicas"
_MAXIMUM = "deployment.kubernetes.io/max-replicas"
_HASH_LABEL = "pod-template-hash"
_COMPONENT = "deployment-controller"
_ALPHABET = "bcdf2456789"


def template_hash(template: Body) -> str:
    """Name a pod template by what it says; equal templates share a name, and with it a ReplicaSet."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:10])


def bounds(item: Item) -> tuple[int, int, int]:
    """Return the wanted replicas, the surge and the unavailable ones allowed."""
    spec = item.body["spec"]
    replicas = int(spec.get("replicas", 1))
    if (spec.get("strategy") or {}).get("type") != "RollingUpdate":
        return replicas, 0, replicas
    rolling = spec["strategy"].get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), replicas, rounds_up=True)
    unavailable = min(share(rolling.get("maxUnavailable", "25%"), replicas, rounds_up=False), replicas)
    return replicas, surge, unavailable if surge or unavailable else 1


def look(world: World, key: Key) -> None:
    item = world.get("Deployment", "apps", key)
    if item is None:
        return
    sets = sorted(world.store.owned_by(item.metadata["uid"], world.kind("ReplicaSet", "apps")), key=_revision)
    new = _current(item, sets)
    old = [entry for entry in sets if entry is not new]
    if item.metadata.get("deletionTimestamp"):
        return
    if item.body["spec"].get("paused"):
        _count(world, item, new, old)
        return
    if item.body["spec"]["strategy"]["type"] == "Recreate":
        _recreate(world, item, new, old)
    else:
        _roll(world, item, new, old)


def _current(item: Item, sets: list[Item]) -> Item | None:
    wanted = item.body["spec"]["template"]
    for entry in sets:
        template = cloned(entry.body["spec"]["template"])
        (template["metadata"].get("labels") or {}).pop(_HASH_LABEL, None)
        if template == {**wanted, "metadata": wanted.get("metadata") or {}}:
            return entry
    return None


def _revision(entry: Item) -> int:
    return int((entry.metadata.get("annotations") or {}).get(REVISION, 0))


def _wanted(entry: Item) -> int:
    return int(entry.body["spec"].get("replicas", 0))


def _reported(entry: Item, field: str) -> int:
    return int((entry.body.get("status") or {}).get(field) or 0)


def _recreate(world: World, item: Item, new: Item | None, old: list[Item]) -> None:
    for entry in old:
        if _wanted(entry):
            _scale(world, item, entry, 0)
    old = _fresh(world, old)
    pods = world.kind("Pod")
    if any(world.store.owned_by(entry.metadata["uid"], pods) for entry in old):
        _count(world, item, new, old)
        return
    new = _ensure_new(world, item, new, old)
    if new is not None and _wanted(new) != item.body["spec"]["replicas"]:
        new = _scale(world, item, new, item.body["spec"]["replicas"])
    _count(world, item, new, old)
    _clean_up(world, item, old)


def _roll(world: World, item: Item, new: Item | None, old: list[Item]) -> None:
    was_new = new
    new = _ensure_new(world, item, new, old)
    if new is None:
        return
    if was_new is None:
        # Counted before its pods are there: only then is what they bring seen as progress.
        _count(world, item, new, old)
        return
    replicas, surge, unavailable = bounds(item)
    live = _fresh(world, [item])[0]
    if _wanted(new) > replicas:
        new = _scale(world, live, new, replicas)
    elif _wanted(new) < replicas:
        room = replicas + surge - sum(map(_wanted, [*old, new]))
        if room > 0:
            new = _scale(world, live, new, _wanted(new) + min(room, replicas - _wanted(new)))
            _count(world, live, new, old)
            return
    if _shrink_old(world, live, new, old, replicas - unavailable):
        _count(world, live, new, _fresh(world, old))
        return
    _count(world, live, new, old)
    _clean_up(world, live, old)


def _shrink_old(world: World, item: Item, new: Item, old: list[Item], least: int) -> bool:
    total_old = sum(map(_wanted, old))
    if not total_old:
        return False
    unready_new = _wanted(new) - _reported(new, "availableReplicas")
    room = total_old + _wanted(new) - least - unready_new
    if room <= 0:
        return False
    has_shrunk = False
    # Unhealthy replicas of old sets go first: they serve nobody.
    for entry in old:
        unhealthy = _wanted(entry) - _reported(entry, "availableReplicas")
        if unhealthy > 0 and room > 0:
            gone = min(unhealthy, room)
            _scale(world, item, entry, _wanted(entry) - gone)
            room -= gone
            has_shrunk = True
    old = _fresh(world, old)
    spare = sum(_reported(entry, "availableReplicas") for entry in [*old, new]) - least
    for entry in old:
        if spare > 0 and _wanted(entry) > 0:
            gone = min(_wanted(entry), spare)
            _scale(world, item, entry, _wanted(entry) - gone)
            spare -= gone
            has_shrunk = True
    return has_shrunk


def _ensure_new(world: World, item: Item, new: Item | None, old: list[Item]) -> Item | None:
    last = max(map(_revision, old), default=0)
    replicas, surge, _ = bounds(item)
    notes = {_DESIRED: str(replicas), _MAXIMUM: str(replicas + surge)}
    if new is None:
        return _create_set(world, item, old, {**notes, REVISION: str(last + 1)})
    revision = max(last + 1, _revision(new)) if old else max(_revision(new), 1)
    annotations = {**(new.metadata.get("annotations") or {}), **notes, REVISION: str(revision)}
    if annotations != new.metadata.get("annotations"):
        body = cloned(new.body)
        body["metadata"]["annotations"] = annotations
        world.objects.adjust(new, body, manager=MANAGER)
        new = _fresh(world, [new])[0]
    live = _fresh(world, [item])[0]
    own = live.metadata.get("annotations") or {}
    if own.get(REVISION) != str(revision):
        status = dict(live.body.get("status") or {})
        if condition(status, "Progressing") is None:
            message = f'Found new replica set "{new.name}"'
            _progress(world, status, "FoundNewReplicaSet", message)
        status["observedGeneration"] = live.metadata["generation"]
        world.objects.set_status(live, status, manager=MANAGER, annotations={**own, REVISION: str(revision)})
    return new


def _create_set(world: World, item: Item, old: list[Item], annotations: dict[str, str]) -> Item | None:
    spec = item.body["spec"]
    name = template_hash(spec["template"])
    replicas, surge, _ = bounds(item)
    room = replicas + surge - sum(map(_wanted, old)) if spec["strategy"]["type"] == "RollingUpdate" else replicas
    first = max(0, min(replicas, room))
    template = cloned(spec["template"])
    template["metadata"] = dict(template.get("metadata") or {})
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), _HASH_LABEL: name}
    selector = cloned(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), _HASH_LABEL: name}
    body: Body = {
        "metadata": {
            "name": f"{item.name}-{name}",
            "namespace": item.namespace,
            "labels": template["metadata"]["labels"],
            "annotations": annotations,
            "ownerReferences": [reference_to(item)],
        },
        "spec": {"replicas": first, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    try:
        made = world.create("ReplicaSet", "apps", body)
    except ApiError as error:
        if error.reason == "AlreadyExists":
            return None
        raise
    world.event(item, "ScalingReplicaSet", f"Scaled up replica set {made.name} from 0 to {first}", component=_COMPONENT)
    live = _fresh(world, [item])[0]
    status = dict(live.body.get("status") or {})
    status.pop("updatedReplicas", None)
    _progress(world, status, "NewReplicaSetCreated", f'Created new replica set "{made.name}"')
    own = {**(live.metadata.get("annotations") or {}), REVISION: annotations[REVISION]}
    status["observedGeneration"] = live.metadata["generation"]
    world.objects.set_status(live, status, manager=MANAGER, annotations=own)
    return made


def _scale(world: World, item: Item, entry: Item, replicas: int) -> Item:
    before = _wanted(entry)
    body = cloned(entry.body)
    body["spec"]["replicas"] = replicas
    wanted, surge, _ = bounds(item)
    notes = {_DESIRED: str(wanted), _MAXIMUM: str(wanted + surge)}
    body["metadata"]["annotations"] = {**(body["metadata"].get("annotations") or {}), **notes}
    world.objects.adjust(entry, body, manager=MANAGER)
    verb = "up" if replicas > before else "down"
    message = f"Scaled {verb} replica set {entry.name} from {before} to {replicas}"
    world.event(item, "ScalingReplicaSet", message, component=_COMPONENT)
    return _fresh(world, [entry])[0]


def _fresh(world: World, items: list[Item]) -> list[Item]:
    found = [world.store.get(item.kind, item.namespace, item.name) for item in items]
    return [item for item in found if item is not None]


def _count(world: World, item: Item, new: Item | None, old: list[Item]) -> None:
    item = _fresh(world, [item])[0]
    sets = _fresh(world, [*old, *([new] if new else [])])
    new = next((entry for entry in sets if new is not None and entry.name == new.name), None)
    before: Body = item.body.get("status") or {}
    available = sum(_reported(entry, "availableReplicas") for entry in sets)
    counts = {
        "observedGeneration": item.metadata["generation"],
        "replicas": sum(_reported(entry, "replicas") for entry in sets),
        "updatedReplicas": _reported(new, "replicas") if new else 0,
        "readyReplicas": sum(_reported(entry, "readyReplicas") for entry in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(_wanted, sets)) - available),
    }
    status: Body = without_zeros(counts)
    status["terminatingReplicas"] = sum(_reported(entry, "terminatingReplicas") for entry in sets)
    status["conditions"] = [dict(entry) for entry in before.get("conditions") or ()]
    replicas, _, unavailable = bounds(item)
    if available >= replicas - unavailable:
        _set(world, status, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        _set(world, status, "Available", "False", "MinimumReplicasUnavailable", message)
    if new is not None and not item.body["spec"].get("paused"):
        _judge_progress(world, item, new, before, status)
    failure = next(
        (found for entry in sets if (found := condition(entry.body.get("status") or {}, "ReplicaFailure"))), None
    )
    if failure is not None:
        _set(world, status, "ReplicaFailure", "True", failure["reason"], failure["message"])
    else:
        status["conditions"] = [entry for entry in status["conditions"] if entry["type"] != "ReplicaFailure"]
    world.objects.set_status(item, status, manager=MANAGER)


def _judge_progress(world: World, item: Item, new: Item, before: Body, status: Body) -> None:
    replicas = int(item.body["spec"]["replicas"])
    known = condition(status, "Progressing")
    is_done = known is not None and known["reason"] == "NewReplicaSetAvailable"
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    if is_done and total == updated and known is not None and f'"{new.name}"' in known["message"]:
        return
    old_total, old_updated = before.get("replicas", 0), before.get("updatedReplicas", 0)
    has_moved = (
        updated > old_updated
        or total - updated < old_total - old_updated
        or status.get("readyReplicas", 0) > before.get("readyReplicas", 0)
        or status.get("availableReplicas", 0) > before.get("availableReplicas", 0)
    )
    if updated == replicas == total == status.get("availableReplicas", 0):
        world.progress_times.pop(item.metadata["uid"], None)
        message = f'ReplicaSet "{new.name}" has successfully progressed.'
        _progress(world, status, "NewReplicaSetAvailable", message)
        return
    if has_moved:
        _progress(world, status, "ReplicaSetUpdated", f'ReplicaSet "{new.name}" is progressing.')
        world.progress_times[item.metadata["uid"]] = world.clock.now()
    deadline = int(item.body["spec"].get("progressDeadlineSeconds") or 600)
    since = world.progress_times.setdefault(item.metadata["uid"], _updated_at(status, world.clock.now()))
    left = since + world.clock.real(deadline) - world.clock.now()
    if left > 0:
        world.wake("deployments", (item.namespace, item.name), left * world.clock.speed + 0.05)
        return
    message = f'ReplicaSet "{new.name}" has timed out progressing.'
    _set(world, status, "Progressing", "False", "ProgressDeadlineExceeded", message)


def _updated_at(status: Body, now: float) -> float:
    known = condition(status, "Progressing")
    if known is None:
        return now
    # Stamps are to the second; a stamp of this very second means now.
    at = datetime.fromisoformat(known["lastUpdateTime"]).timestamp()
    return now if now - at < 1 else at


def _progress(world: World, status: Body, reason: str, message: str) -> None:
    """Put the Progressing condition last, as every step of the rollout does."""
    known = condition(status, "Progressing")
    now = world.now()
    since = known["lastTransitionTime"] if known and known["status"] == "True" else now
    entry = {"type": "Progressing", "status": "True", "lastUpdateTime": now, "lastTransitionTime": since}
    rest = [other for other in status.get("conditions") or () if other["type"] != "Progressing"]
    status["conditions"] = [*rest, {**entry, "reason": reason, "message": message}]


def _set(world: World, status: Body, name: str, value: str, reason: str, message: str) -> None:
    """Put a condition last unless it says the same already."""
    known = condition(status, name)
    if known and (known["status"], known["reason"]) == (value, reason):
        return
    now = world.now()
    since = known["lastTransitionTime"] if known and known["status"] == value else now
    entry = {"type": name, "status": value, "lastUpdateTime": now, "lastTransitionTime": since}
    rest = [other for other in status.get("conditions") or () if other["type"] != name]
    status["conditions"] = [*rest, {**entry, "reason": reason, "message": message}]


def _clean_up(world: World, item: Item, old: list[Item]) -> None:
    limit = int(item.body["spec"].get("revisionHistoryLimit", 10))
    idle = [entry for entry in _fresh(world, old) if not _wanted(entry) and not _reported(entry, "replicas")]
    for entry in sorted(idle, key=_revision)[: max(0, len(idle) - limit)]:
        world.deletions.end(entry, {})
