"""Wakes controllers: a change wakes those it concerns, a timer those that asked. All on the one event loop."""

from __future__ import annotations

import asyncio
import logging
import time

from deployments.practice.controllers import (
    daemon_sets,
    database_backups,
    database_clusters,
    database_instances,
    database_schedules,
    deployments,
    garbage,
    jobs,
    namespaces,
    nodes,
    replica_sets,
    services,
    stateful_sets,
)
from deployments.practice.controllers.database_facts import GROUP
from deployments.practice.controllers.world import Key, World, owner_of
from deployments.practice.status import ApiError
from deployments.practice.store import Change

log = logging.getLogger(__name__)

SLICE_SECONDS = 0.004
"""How long controllers work before requests get their turn."""
BUSY_SLICE_SECONDS, BUSY_PAUSE_SECONDS = 0.001, 0.003
"""The same while requests come one after the other, and how long controllers then wait for their next turn."""

_CONTROLLERS = {
    "deployments": deployments.look,
    "replicasets": replica_sets.look,
    "statefulsets": stateful_sets.look,
    "daemonsets": daemon_sets.look,
    "jobs": jobs.look,
    "pods": nodes.look,
    "services": services.look,
    "namespaces": namespaces.look,
    "quotas": namespaces.look_at_quotas,
    "orphans": garbage.look_at_orphans,
    "owners": garbage.look_at_owner,
    "definitions": garbage.look_at_definition,
    "clusters": database_clusters.look,
    "persistentvolumeclaims": database_instances.look_at_claim,
    "backups": database_backups.look,
    "scheduledbackups": database_schedules.look,
}
_OWNERS = {
    "ReplicaSet": "replicasets", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets", "Job": "jobs",
    "Deployment": "deployments", "Cluster": "clusters",
}  # fmt: skip
_SELF = {
    ("apps", "deployments"), ("apps", "replicasets"), ("apps", "statefulsets"), ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("", "pods"), ("", "services"), ("", "namespaces"), ("", "persistentvolumeclaims"),
    (GROUP, "clusters"), (GROUP, "backups"), (GROUP, "scheduledbackups"),
}  # fmt: skip


class Manager:
    """The controllers at work."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._due: dict[tuple[str, Key], None] = {}
        self._timers: dict[tuple[str, Key], tuple[float, asyncio.TimerHandle]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_scheduled = False
        self._busy_until = 0.0
        world.wake = self.wake

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen, and look at everything there is."""
        self._loop = loop
        self._world.store.listeners.append(self._hear)
        for item in self._world.store.every():
            if item.kind.key in _SELF:
                self.wake(item.kind.plural, (item.namespace, item.name), 0)
            elif item.kind.kind == "CustomResourceDefinition":
                self.wake("definitions", (item.namespace, item.name), 0)
        self._schedule_drain()

    def stop(self) -> None:
        self._loop = None
        for _, handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        self._due.clear()

    def wake(self, controller: str, key: Key, after: float) -> None:
        """Look at an object again after the estate's `after` seconds; the earliest wish counts."""
        entry = (controller, key)
        if after <= 0:
            self._due[entry] = None
            self._schedule_drain()
            return
        if self._loop is None:
            return
        at = self._loop.time() + self._world.clock.real(after)
        if entry in self._timers:
            known, handle = self._timers[entry]
            if known <= at:
                return
            handle.cancel()
        self._timers[entry] = (at, self._loop.call_at(at, self._ring, entry))

    def note_request(self) -> None:
        """Step back for a moment: where one request came, the next is near."""
        self._busy_until = time.perf_counter() + BUSY_PAUSE_SECONDS

    def _ring(self, entry: tuple[str, Key]) -> None:
        self._timers.pop(entry, None)
        self.wake(*entry, 0)

    def _schedule_drain(self) -> None:
        if not self._is_scheduled and self._loop is not None:
            self._is_scheduled = True
            if time.perf_counter() < self._busy_until:
                self._loop.call_later(BUSY_PAUSE_SECONDS, self._drain)
            else:
                self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._is_scheduled = False
        start = time.perf_counter()
        until = start + (BUSY_SLICE_SECONDS if start < self._busy_until else SLICE_SECONDS)
        while self._due and time.perf_counter() < until:
            entry = next(iter(self._due))
            del self._due[entry]
            controller, key = entry
            try:
                _CONTROLLERS[controller](self._world, key)
            except ApiError as error:
                # Somebody else's write came between; the change it made wakes this controller again.
                log.info("practice controller %s on %s/%s: %s", controller, *key, error.message)
                self.wake(controller, key, 0.5)
        if self._due:
            self._schedule_drain()

    def _hear(self, change: Change) -> None:
        item = change.after
        key = (item.namespace, item.name)
        if item.kind.key in _SELF:
            self.wake(item.kind.plural, key, 0)
        for reference in item.metadata.get("ownerReferences") or ():
            if reference.get("controller") and reference.get("kind") in _OWNERS:
                self.wake(_OWNERS[reference["kind"]], (item.namespace, reference["name"]), 0)
        if item.kind.key == ("", "pods"):
            replica_set = owner_of(item, kind="ReplicaSet")
            if replica_set is not None and change.verb == "DELETED":
                self.wake("replicasets", replica_set, 0)
            services.hear_pod(self._world, change)
        if item.kind.key in (("", "pods"), ("", "resourcequotas")):
            namespaces.hear_quota(self._world, change)
        if item.kind.key == ("", "nodes"):
            for owner in self._world.store.items(self._world.kind("DaemonSet", "apps")):
                self.wake("daemonsets", (owner.namespace, owner.name), 0)
        if item.kind.key == (GROUP, "clusters"):
            database_backups.hear_cluster(self._world, item)
        if item.kind.key == (GROUP, "backups"):
            database_backups.hear_backup(self._world, change)
        database_instances.hear(self._world, change)
        garbage.hear(self._world, change)
        if item.namespace and change.verb == "DELETED":
            namespaces.hear_end(self._world, item.namespace)
