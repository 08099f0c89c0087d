"""What the controllers of database clusters share: objects of the operator, conditions, archives and behaviours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from deployments.practice.behaviour import ANNOTATION
from deployments.practice.controllers.world import Key, World, condition
from deployments.practice.store import Body, Item, cloned

GROUP, PLUGIN_GROUP = "postgresql.cnpg.io", "barmancloud.cnpg.io"
PLUGIN = "barman-cloud.cloudnative-pg.io"
MANAGER = "cloudnative-pg"
COMPONENT = "cloudnative-pg"
HEALTHY = "Cluster in healthy state"
OBJECT_STORE = "barmanObjectStore"


class Ailment(StrEnum):
    """What a database cluster's annotation makes go wrong."""

    ARCHIVING_FAILS = "archiving-fails"
    BACKUPS_FAIL = "backups-fail"
    RECOVERY_FAILS = "recovery-fails"


@dataclass(frozen=True, slots=True)
class Archive:
    """Where a server's backups and WAL lie. `is_plugin` tells that `store` names an ObjectStore."""

    store: str
    server: str
    is_plugin: bool


def find(world: World, kind: str, key: Key, *, group: str = GROUP) -> Item | None:
    """Return an object of the operator; None too where its kind is no longer defined."""
    try:
        return world.get(kind, group, key)
    except KeyError:
        return None


def siblings(world: World, item: Item, kind: str) -> list[Item]:
    """Return the objects of a kind in the same namespace, the oldest first."""
    found = world.store.items(world.kind(kind, GROUP), item.namespace)
    return sorted(found, key=lambda one: (one.metadata["creationTimestamp"], one.name))


def status_of(item: Item) -> Body:
    """Return a copy of an object's status, to be changed and written."""
    status: Body = cloned(item.body.get("status") or {})
    return status


def write(world: World, item: Item, status: Body) -> Item:
    return world.objects.set_status(item, status, manager=MANAGER)


def ails(item: Item, ailment: Ailment) -> bool:
    words = str((item.metadata.get("annotations") or {}).get(ANNOTATION, "")).split(",")
    return ailment in {word.strip() for word in words}


def set_condition(status: Body, name: str, *, value: str, reason: str, message: str, at: str) -> None:
    """Set a condition, in place. The time of its turning stays as long as it says the same."""
    known = condition(status, name) or {}
    since = known["lastTransitionTime"] if known.get("status") == value else at
    new = {"type": name, "status": value, "lastTransitionTime": since, "reason": reason, "message": message}
    others = [one for one in status.get("conditions") or () if one.get("type") != name]
    status["conditions"] = sorted([*others, new], key=lambda one: str(one["type"]))


def plugin_of(cluster: Item) -> Body | None:
    plugins = cluster.body["spec"].get("plugins") or ()
    return next((one for one in plugins if one.get("name") == PLUGIN and one.get("enabled", True)), None)


def archive_of(cluster: Item) -> Archive | None:
    """Return where a cluster archives its WAL, or None where it does nowhere."""
    store = (cluster.body["spec"].get("backup") or {}).get(OBJECT_STORE)
    if store:
        return Archive(str(store.get("destinationPath", "")), str(store.get("serverName") or cluster.name), False)
    plugin = plugin_of(cluster)
    return _by_plugin(plugin, cluster.name) if plugin is not None and plugin.get("isWALArchiver") else None


def source_of(cluster: Item) -> Archive | None:
    """Return where a cluster is recovered from, or None where it is not."""
    spec = cluster.body["spec"]
    name = ((spec.get("bootstrap") or {}).get("recovery") or {}).get("source")
    external = next((one for one in spec.get("externalClusters") or () if one.get("name") == name), None)
    if not name or external is None:
        return None
    store = external.get(OBJECT_STORE)
    if store:
        return Archive(str(store.get("destinationPath", "")), str(store.get("serverName") or name), False)
    plugin = external.get("plugin")
    return _by_plugin(plugin, cluster.name) if plugin else None


def _by_plugin(plugin: Body, cluster_name: str) -> Archive:
    parameters = plugin.get("parameters") or {}
    server = str(parameters.get("serverName") or cluster_name)
    return Archive(str(parameters.get("barmanObjectName", "")), server, True)


def origin_of(world: World, cluster: Item) -> Item | None:
    """Return the cluster whose archive another is recovered from, where it is still there."""
    source = source_of(cluster)
    others = [one for one in siblings(world, cluster, "Cluster") if one.name != cluster.name]
    return next((one for one in others if source is not None and _is_archive(world, one, source)), None)


def _is_archive(world: World, cluster: Item, source: Archive) -> bool:
    archive = archive_of(cluster)
    if archive is None or archive.server != source.server:
        return False
    # Another ObjectStore may name the same place, with credentials that can only read.
    return place_of(world, cluster.namespace, archive) == place_of(world, cluster.namespace, source)


def place_of(world: World, namespace: str, archive: Archive) -> str:
    if not archive.is_plugin:
        return archive.store
    store = find(world, "ObjectStore", (namespace, archive.store), group=PLUGIN_GROUP)
    return _place(store) if store is not None else ""


def _place(store: Item) -> str:
    return str(store.body["spec"]["configuration"].get("destinationPath", ""))


def _window(store: Item, server: str) -> datetime | None:
    windows = (store.body.get("status") or {}).get("serverRecoveryWindow") or {}
    return time_of((windows.get(server) or {}).get("firstRecoverabilityPoint"))


def first_recoverable(world: World, cluster: Item, archive: Archive) -> datetime | None:
    """Return the earliest time that an archive can restore, as the operator keeps it of the cluster that wrote it."""
    written = archive_of(cluster) or archive
    if written.is_plugin:
        place = place_of(world, cluster.namespace, archive)
        # The backups lie at the place, whichever ObjectStore of it they were written through.
        stores = world.store.items(world.kind("ObjectStore", PLUGIN_GROUP), cluster.namespace)
        windows = [_window(store, archive.server) for store in stores if _place(store) == place]
        return min((at for at in windows if at is not None), default=None)
    return time_of((cluster.body.get("status") or {}).get("firstRecoverabilityPoint"))


def time_of(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def system_id(uid: str) -> str:
    """Return a PostgreSQL system identifier that an object's uid decides."""
    return str(7_000_000_000_000_000_000 + int(hashlib.sha256(uid.encode()).hexdigest()[:14], 16))
