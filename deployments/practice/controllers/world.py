"""What every controller needs: the store, writes, waits, and the kinds by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployments.practice.clock import fine_stamp, stamp
from deployments.practice.deletion import Deletions
from deployments.practice.kinds import Kind
from deployments.practice.objects import Objects, Options, random_suffix
from deployments.practice.status import ApiError
from deployments.practice.store import Body, Item, Store

MANAGER = "kube-controller-manager"
EVENTS_KEPT = 3000

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Delays:
    """How long things take, in the estate's seconds."""

    schedule: float = 0.05
    pull: float = 0.4
    ready: float = 1.0
    slow_start: float = 15.0
    run_job: float = 1.0
    crash: float = 0.5
    back_off: float = 2.0
    terminate: float = 0.3
    end_namespace: float = 0.5
    take_backup: float = 3.0


class World:
    """The controllers' hands. `wake` asks for another look at one object, now or after the estate's `after` seconds."""

    def __init__(self, objects: Objects, deletions: Deletions, delays: Delays, *, authority: str) -> None:
        self.objects = objects
        self.store: Store = objects.store
        self.deletions = deletions
        self.delays = delays
        self.authority = authority
        self.clock = objects.clock
        self.wake: Callable[[str, Key, float], None] = lambda controller, key, after: None
        self.ready_times: dict[str, float] = {}
        self.progress_times: dict[str, float] = {}
        self._steps: dict[str, dict[str, float]] = {}
        self._event_names: list[Key] = []

    def kind(self, name: str, group: str = "") -> Kind:
        return self.objects.registry.of(name, group)

    def get(self, name: str, group: str, key: Key) -> Item | None:
        return self.store.get(self.kind(name, group), *key)

    def ready_since(self, pod: Item) -> float:
        """Return when a ready pod became so; a pod from before a restart counts from now on."""
        return self.ready_times.setdefault(pod.metadata["uid"], self.clock.now())

    def waited(self, uid: str, step: str, seconds: float, controller: str, key: Key) -> bool:
        """Say whether the estate's `seconds` have passed since this step was first asked for; else come back then."""
        now = self.clock.now()
        steps = self._steps.setdefault(uid, {})
        since = steps.setdefault(step, now)
        left = seconds - (now - since) * self.clock.speed
        if left <= 0:
            return True
        self.wake(controller, key, left + 0.001)
        return False

    def forget(self, uid: str) -> None:
        """Drop what was remembered about an object that is gone."""
        self._steps.pop(uid, None)
        self.ready_times.pop(uid, None)
        self.progress_times.pop(uid, None)

    def now(self) -> str:
        return stamp(self.clock.now())

    def create(self, name: str, group: str, body: Body, *, manager: str = MANAGER) -> Item:
        """Create an object; it cannot be refused but by quota, the namespace's end or its name being taken."""
        kind = self.kind(name, group)
        made = self.objects.create(kind, body["metadata"].get("namespace", ""), body, Options(manager=manager))
        found = self.store.get(kind, made["metadata"].get("namespace", ""), made["metadata"]["name"])
        assert found is not None
        # What controllers create is nobody's request.
        self.objects.effects.pop(f"create {kind.resource} {found.namespace}/{found.name}", None)
        return found

    def event(self, about: Item, reason: str, message: str, *, component: str, is_warning: bool = False) -> None:
        """Record an event about an object; the oldest are dropped beyond `EVENTS_KEPT`."""
        now = self.clock.now()
        is_scheduler = component == "default-scheduler"
        body: Body = {
            "metadata": {"name": f"{about.name}.{int(now * 1e6):x}{random_suffix()}", "namespace": about.namespace},
            "involvedObject": {
                "kind": about.kind.kind,
                "apiVersion": about.kind.api_version,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.metadata["uid"],
                "resourceVersion": about.metadata["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if is_warning else "Normal",
            "source": {} if is_scheduler else {"component": component},
            "reportingComponent": component,
            "reportingInstance": f"{component}-practice" if is_scheduler else "",
            "firstTimestamp": None if is_scheduler else stamp(now),
            "lastTimestamp": None if is_scheduler else stamp(now),
            "eventTime": fine_stamp(now) if is_scheduler else None,
        }
        if is_scheduler:
            body["action"] = "Scheduling" if is_warning else "Binding"
        else:
            body["count"] = 1
        kind = self.kind("Event")
        body |= {"kind": "Event", "apiVersion": "v1"}
        body["metadata"] |= {"uid": about.metadata["uid"][:-5] + random_suffix(), "creationTimestamp": stamp(now)}
        self.store.put(kind, body)
        self._event_names.append((about.namespace, body["metadata"]["name"]))
        if len(self._event_names) > EVENTS_KEPT:
            old = self.store.get(kind, *self._event_names.pop(0))
            if old is not None:
                self.store.remove(old)


def owner_of(item: Item, *, kind: str) -> Key | None:
    """Return the controlling owner of a kind."""
    for reference in item.metadata.get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == kind:
            return item.namespace, reference["name"]
    return None


def reference_to(owner: Item) -> Body:
    return {
        "apiVersion": owner.kind.api_version,
        "kind": owner.kind.kind,
        "name": owner.name,
        "uid": owner.metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(item_status: Body, name: str) -> Body | None:
    found = [entry for entry in item_status.get("conditions") or () if entry.get("type") == name]
    return found[0] if found else None


def template_of(owner: Item, *, extra_labels: dict[str, str]) -> Body:
    """Return the pod that an owner's template describes."""
    template: Body = json.loads(json.dumps(owner.body["spec"]["template"]))
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), **extra_labels}
    kept = {"labels": labels} if labels else {}
    if metadata.get("annotations"):
        kept["annotations"] = metadata["annotations"]
    return {
        "metadata": {**kept, "namespace": owner.namespace, "ownerReferences": [reference_to(owner)]},
        "spec": template["spec"],
    }


def refused(error: ApiError) -> str:
    """Say why a controller's creation was refused, as its event does."""
    return f"Error creating: {error.message}"


def without_zeros(counts: dict[str, Any]) -> Body:
    return {key: value for key, value in counts.items() if value}
