"""Scheduled backups make a Backup whenever their schedule says so: by the wall clock, whatever the estate's speed."""

from __future__ import annotations

from datetime import UTC, datetime

from deployments.practice.clock import stamp
from deployments.practice.cloudnativepg.schedule import Schedule, parse_schedule
from deployments.practice.controllers.database_backups import DONE, PARENT
from deployments.practice.controllers.database_facts import (
    COMPONENT,
    GROUP,
    MANAGER,
    find,
    siblings,
    status_of,
    write,
)
from deployments.practice.controllers.world import Key, World, reference_to
from deployments.practice.store import Body, Item

IMMEDIATE = "cnpg.io/immediateBackup"
RETRY_SECONDS = 60.0


def look(world: World, key: Key) -> None:
    item = find(world, "ScheduledBackup", key)
    if item is None or item.metadata.get("deletionTimestamp") or item.body["spec"].get("suspend"):
        return
    if any(_is_of(one, item) and _is_open(one) for one in siblings(world, item, "Backup")):
        world.wake("scheduledbackups", key, RETRY_SECONDS)
        return
    schedule, now = parse_schedule(item.body["spec"]["schedule"]), world.clock.now()
    checked = (item.body.get("status") or {}).get("lastCheckTime")
    if checked is None and item.body["spec"].get("immediate"):
        _make(world, item, schedule, at=now, is_immediate=True)
    elif checked is None:
        write(world, item, {**status_of(item), "lastCheckTime": stamp(now)})
    else:
        due = schedule.next_after(datetime.fromisoformat(checked))
        if due is not None and due.timestamp() <= now:
            _make(world, item, schedule, at=due.timestamp(), is_immediate=False)
        else:
            _wait_for(world, item, key, due)


def _make(world: World, item: Item, schedule: Schedule, *, at: float, is_immediate: bool) -> None:
    name = f"{item.name}-{datetime.fromtimestamp(at, UTC):%Y%m%d%H%M%S}"
    spec = item.body["spec"]
    wanted = {key: spec[key] for key in ("cluster", "target", "method", "online", "pluginConfiguration") if key in spec}
    labels = {PARENT: item.name, IMMEDIATE: str(is_immediate).lower(), "cnpg.io/cluster": spec["cluster"]["name"]}
    metadata: Body = {"name": name, "namespace": item.namespace, "labels": labels}
    if owner := _owner(world, item):
        metadata["ownerReferences"] = [reference_to(owner)]
    if find(world, "Backup", (item.namespace, name)) is None:
        world.create("Backup", GROUP, {"metadata": metadata, "spec": wanted}, manager=MANAGER)
        world.event(item, "BackupCreation", f"Created backup {name}", component=COMPONENT)
    now = world.clock.now()
    status = {**status_of(item), "lastCheckTime": stamp(now), "lastScheduleTime": stamp(at)}
    following = schedule.next_after(datetime.fromtimestamp(now, UTC))
    if following is not None:
        status["nextScheduleTime"] = stamp(following.timestamp())
    write(world, item, status)


def _wait_for(world: World, item: Item, key: Key, due: datetime | None) -> None:
    if due is None:
        message = f'No time satisfying the schedule "{item.body["spec"]["schedule"]}" have been found'
        world.event(item, "NoSchedule", message, component=COMPONENT, is_warning=True)
        return
    left = due.timestamp() - world.clock.now()
    world.wake("scheduledbackups", key, max(left, 0.0) * world.clock.speed + 0.01)


def _owner(world: World, item: Item) -> Item | None:
    wanted = item.body["spec"].get("backupOwnerReference", "none")
    if wanted == "self":
        return item
    name = item.body["spec"]["cluster"]["name"]
    return find(world, "Cluster", (item.namespace, name)) if wanted == "cluster" else None


def _is_of(backup: Item, schedule: Item) -> bool:
    return backup.labels.get(PARENT) == schedule.name


def _is_open(backup: Item) -> bool:
    return (backup.body.get("status") or {}).get("phase", "") not in DONE
