"""Deleting objects: preconditions, grace, finalizers, propagation."""

from __future__ import annotations

from typing import Any

from deployments.practice import status
from deployments.practice.clock import stamp
from deployments.practice.kinds import Kind
from deployments.practice.objects import Objects
from deployments.practice.store import Body, Item, cloned

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Deletions:
    """The deleting half of the API."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._store = objects.store

    def delete(self, kind: Kind, namespace: str, name: str, wishes: dict[str, Any], *, is_dry_run: bool) -> Body:
        """Delete one object; return it where it lingers, else a `Status`. Raises `ApiError`."""
        item = self._objects.existing(kind, namespace, name)
        self._check_preconditions(item, wishes.get("preconditions") or {})
        if is_dry_run:
            return _done(item)
        was_deleting = bool(item.metadata.get("deletionTimestamp"))
        lingering = self.end(item, wishes)
        if not was_deleting:
            self._objects.count_effect("delete", kind, namespace, name)
        return lingering.body if lingering is not None else _done(item)

    def end(self, item: Item, wishes: dict[str, Any]) -> Item | None:
        """Begin the end of an object; return it where it lingers for its finalizers, its node or its content."""
        finalizers = list(item.metadata.get("finalizers") or ())
        wanted = wishes.get("propagationPolicy")
        if wanted == "Foreground" and FOREGROUND not in finalizers:
            finalizers.append(FOREGROUND)
        if wanted == "Orphan" and ORPHAN not in finalizers:
            finalizers.append(ORPHAN)
        if item.kind.kind == "Namespace":
            return self._mark(item, finalizers, None)
        grace = self._grace(item, wishes)
        if not finalizers and not grace:
            self._store.remove(item)
            return None
        return self._mark(item, finalizers, grace or 0)

    def finalize(self, item: Item, finalizer: str) -> None:
        """Take one finalizer off; the object goes with its last one."""
        live = self._store.get(item.kind, item.namespace, item.name)
        if live is None or finalizer not in (live.metadata.get("finalizers") or ()):
            return
        body = cloned(live.body)
        left = [name for name in body["metadata"]["finalizers"] if name != finalizer]
        if left:
            body["metadata"]["finalizers"] = left
        else:
            del body["metadata"]["finalizers"]
        stored = self._store.put(live.kind, body)
        if not left and body["metadata"].get("deletionTimestamp") and live.kind.kind not in ("Pod", "Namespace"):
            self._store.remove(stored)

    def _grace(self, item: Item, wishes: dict[str, Any]) -> int:
        if item.kind.kind != "Pod" or item.kind.group:
            return 0
        spec = item.body.get("spec") or {}
        is_over = (item.body.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if not spec.get("nodeName") or is_over:
            return 0
        asked = wishes.get("gracePeriodSeconds")
        return int(spec.get("terminationGracePeriodSeconds", 30) if asked is None else asked)

    def _mark(self, item: Item, finalizers: list[str], grace: int | None) -> Item:
        metadata = item.metadata
        if metadata.get("deletionTimestamp") and (metadata.get("finalizers") or []) == finalizers:
            return item
        body = cloned(item.body)
        metadata = body["metadata"]
        metadata.setdefault("deletionTimestamp", stamp(self._objects.clock.now() + (grace or 0)))
        if grace is not None:
            metadata["deletionGracePeriodSeconds"] = grace
        if finalizers:
            metadata["finalizers"] = finalizers
        if metadata.get("generation"):
            metadata["generation"] += 1
        if item.kind.kind == "Namespace":
            body["status"] = {**(body.get("status") or {}), "phase": "Terminating"}
        return self._store.put(item.kind, body)

    def _check_preconditions(self, item: Item, wanted: dict[str, Any]) -> None:
        for field, shown, live in (
            ("uid", "UID", item.metadata["uid"]),
            ("resourceVersion", "ResourceVersion", item.metadata["resourceVersion"]),
        ):
            if wanted.get(field) and wanted[field] != live:
                why = f"Precondition failed: {shown} in precondition: {wanted[field]}, {shown} in object meta: {live}"
                raise status.conflict(item.kind, item.name, why)


def _done(item: Item) -> Body:
    details = status.details_of(item.kind, item.name, uid=item.metadata["uid"])
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
