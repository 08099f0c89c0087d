"""The `Kubernetes` port in memory, with time: what is applied becomes healthy later, or never.

It passes the same contract suite as the real adapter. Tests script failures through `script`, the fate of an image
through `spoil_image`, and other managers through `apply_as`; `effects` is what really changed at the far side.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from changecontrol.adapters.fakes.fields import Ownership
from changecontrol.adapters.fakes.rollout import Release, check_manifest, status_of
from changecontrol.adapters.fakes.script import Call, Script
from changecontrol.adapters.kubernetes.redaction import redact_object, text_in
from changecontrol.errors import Transient
from changecontrol.ports import (
    FIELD_MANAGER,
    INVENTORY_LABEL,
    SUPPORTED_KINDS,
    Applied,
    ApplyConflict,
    FieldConflict,
    Manifest,
    ObjectRef,
    Right,
    WorkloadStatus,
)

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
CLUSTER_SCOPED = {("v1", "Namespace"), ("rbac.authorization.k8s.io/v1", "ClusterRole")}
WORKLOADS = {"DaemonSet", "Deployment", "StatefulSet"}


@dataclass(frozen=True, slots=True)
class Effect:
    """One change at the far side: `applied`, `unchanged` or `deleted`."""

    verb: str
    ref: ObjectRef


@dataclass(slots=True)
class _Stored:
    uid: str
    generation: int = 1
    version: int = 0
    ownership: Ownership = field(default_factory=Ownership)
    content: dict[str, Any] = field(default_factory=dict)
    releases: list[Release] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    deleted_at: datetime | None = None


class FakeKubernetes:
    """A cluster with the given namespaces. Its clock stands still until `advance`, unless `clock` is given."""

    def __init__(
        self,
        *,
        namespaces: Iterable[str] = ("shop",),
        ready_after: timedelta = timedelta(),
        clock: Callable[[], datetime] | None = None,
        version: str = "v1.36.2",
    ) -> None:
        self.namespaces = set(namespaces)
        self.kinds = set(SUPPORTED_KINDS) | CLUSTER_SCOPED | {("v1", "Secret")}
        self.ready_after = ready_after
        self.version = version
        self.script = Script()
        self.effects: list[Effect] = []
        self.lacking: set[Right] = set()
        self.cluster_scoped = set(CLUSTER_SCOPED)
        self.ends_namespaces = True
        """Whether a namespace that is deleted goes, with all in it; else it stays as while a finalizer waits."""
        self.job_ends = "Complete"
        """The condition of every Job; empty while they run."""
        self.is_node_away = False
        """Whether a Job that is deleted stays, since nobody tells that its pod has ended."""
        self.warnings: dict[ObjectRef, list[str]] = {}
        """What events warn of about an object."""
        self._spoiled: dict[str, str] = {}
        self._now = START
        self._clock = clock
        self._objects: dict[ObjectRef, _Stored] = {}
        self._counter = 0
        self._lock = threading.RLock()

    # What tests do to the world.

    def now(self) -> datetime:
        return self._clock() if self._clock else self._now

    def advance(self, by: timedelta) -> None:
        self._now += by

    def spoil_image(self, words: str, *, reason: str = "ImagePullBackOff") -> None:
        """Keep pods whose image contains these words from ever becoming ready, for this reason."""
        self._spoiled[words] = reason

    def heal_image(self, words: str) -> None:
        self._spoiled.pop(words, None)

    def apply_as(self, manager: str, manifest: Manifest, *, force: bool = False) -> Applied:
        """Apply as somebody else, outside the script."""
        with self._lock:
            return self._apply(manager, manifest, dry_run=False, force=force)

    def say(self, ref: ObjectRef, status: Mapping[str, Any]) -> None:
        """Write the status of an object, as the controller of its kind would."""
        with self._lock:
            self._objects[ref].status = dict(status)

    def remove(self, ref: ObjectRef) -> None:
        """Take an object away, as a stranger with kubectl would."""
        with self._lock:
            self._objects.pop(ref, None)
            self._let_claims_go()

    def objects(self) -> dict[ObjectRef, dict[str, Any]]:
        """Return everything stored, secrets included."""
        return {ref: self._live(ref, stored) for ref, stored in sorted(self._objects.items())}

    # The port.

    def observe_version(self) -> str:
        version: str = self.script.run(Call("observe_version"), lambda: self.version)
        return version

    def ensure_applied(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        call = Call("ensure_applied", (ObjectRef.of(manifest),), {"dry_run": dry_run})
        with self._lock:
            applied: Applied = self.script.run(
                call, lambda: self._apply(FIELD_MANAGER, manifest, dry_run=dry_run, force=False)
            )
            return applied

    def observe_object(self, ref: ObjectRef) -> dict[str, Any] | None:
        def act() -> dict[str, Any] | None:
            stored = self._objects.get(ref)
            return redact_object(self._live(ref, stored)) if stored else None

        with self._lock:
            found: dict[str, Any] | None = self.script.run(Call("observe_object", (ref,)), act)
            return found

    def observe_secret(self, *, namespace: str, name: str) -> Mapping[str, str] | None:
        ref = ObjectRef("v1", "Secret", namespace, name)

        def act() -> Mapping[str, str] | None:
            stored = self._objects.get(ref)
            return text_in(self._live(ref, stored)) if stored else None

        with self._lock:
            found: Mapping[str, str] | None = self.script.run(Call("observe_secret", (ref,)), act)
            return found

    def observe_workloads(self, *, namespace: str, inventory: str) -> dict[ObjectRef, WorkloadStatus]:
        def act() -> dict[ObjectRef, WorkloadStatus]:
            return {
                ref: self._status(ref, stored)
                for ref, stored in sorted(self._objects.items())
                if ref.kind in WORKLOADS and ref.namespace == namespace and _inventory(stored) == inventory
            }

        with self._lock:
            statuses: dict[ObjectRef, WorkloadStatus] = self.script.run(
                Call("observe_workloads", (), {"namespace": namespace, "inventory": inventory}), act
            )
            return statuses

    def observe_workload(self, ref: ObjectRef) -> WorkloadStatus | None:
        def act() -> WorkloadStatus | None:
            stored = self._objects.get(ref)
            return self._status(ref, stored) if stored else None

        with self._lock:
            status: WorkloadStatus | None = self.script.run(Call("observe_workload", (ref,)), act)
            return status

    def observe_inventory(
        self, *, namespace: str, inventory: str, kinds: Iterable[tuple[str, str]], label: str = INVENTORY_LABEL
    ) -> tuple[ObjectRef, ...]:
        wanted = {(_group(api_version), kind): api_version for api_version, kind in kinds}

        def act() -> tuple[ObjectRef, ...]:
            return tuple(
                # Every version of a group serves the same objects: they are listed in the one that is asked for.
                replace(ref, api_version=wanted[_group(ref.api_version), ref.kind])
                for ref, stored in sorted(self._objects.items())
                if (_group(ref.api_version), ref.kind) in wanted
                and ref.namespace == namespace
                and _inventory(stored, label) == inventory
            )

        with self._lock:
            refs: tuple[ObjectRef, ...] = self.script.run(
                Call("observe_inventory", (), {"namespace": namespace, "inventory": inventory}), act
            )
            return refs

    def observe_labelled(
        self, kind: tuple[str, str], *, namespace: str, label: str, value: str
    ) -> tuple[dict[str, Any], ...]:
        def act() -> tuple[dict[str, Any], ...]:
            return tuple(
                redact_object(self._live(ref, stored))
                for ref, stored in sorted(self._objects.items())
                if (ref.api_version, ref.kind, ref.namespace) == (*kind, namespace)
                and _inventory(stored, label) == value
            )

        with self._lock:
            call = Call("observe_labelled", (kind,), {"namespace": namespace, "value": value})
            found: tuple[dict[str, Any], ...] = self.script.run(call, act)
            return found

    def observe_warnings(self, ref: ObjectRef) -> tuple[str, ...]:
        with self._lock:
            found: tuple[str, ...] = self.script.run(
                Call("observe_warnings", (ref,)), lambda: tuple(self.warnings.get(ref, ()))
            )
            return found

    def observe_served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        wanted = frozenset(kinds)
        served: frozenset[tuple[str, str]] = self.script.run(
            Call("observe_served", (), {"kinds": wanted}), lambda: wanted & self.kinds
        )
        return served

    def ensure_deleted(self, ref: ObjectRef, *, inventory: str, label: str = INVENTORY_LABEL) -> bool:
        def act() -> bool:
            known = next((one for one in self._objects if _same(one, ref)), ref)
            stored = self._objects.get(known)
            if stored is None or _inventory(stored, label) != inventory or stored.deleted_at is not None:
                return False
            is_kept = ref.kind == "Job" and self.is_node_away
            if is_kept or (ref.kind == "PersistentVolumeClaim" and self._is_in_use(known)):
                stored.deleted_at = self.now()
            elif ref.kind != "Namespace":
                del self._objects[known]
            elif self.ends_namespaces:
                self._end_namespace(ref.name)
            else:
                stored.deleted_at = self.now()
            self._let_claims_go()
            self.effects.append(Effect("deleted", ref))
            return True

        with self._lock:
            deleted: bool = self.script.run(Call("ensure_deleted", (ref,), {"inventory": inventory}), act)
            return deleted

    def observe_rights(self, *, namespace: str, rights: Iterable[Right]) -> tuple[Right, ...]:
        asked = sorted(set(rights))
        lacked: tuple[Right, ...] = self.script.run(
            Call("observe_rights", (), {"namespace": namespace}),
            lambda: tuple(right for right in asked if right in self.lacking),
        )
        return lacked

    # How it works.

    def _apply(self, manager: str, manifest: Manifest, *, dry_run: bool, force: bool) -> Applied:
        ref = ObjectRef.of(manifest)
        if (ref.api_version, ref.kind) in self.cluster_scoped:
            ref = replace(ref, namespace="")
        made = {one.name for one in self._objects if one.kind == "Namespace"}
        check_manifest(
            ref,
            manifest,
            kinds=self.kinds | self.cluster_scoped,
            namespaces=self.namespaces | made,
            cluster_scoped=self.cluster_scoped,
        )
        known = self._objects.get(ref)
        if known is not None and known.deleted_at is not None:
            raise Transient(f"{ref} is still being deleted.")
        stored = copy.deepcopy(known) if known else _Stored(uid=self._next("uid"))
        words = _owned_part(manifest)
        conflicts = stored.ownership.conflicts_of(manager, words)
        if conflicts and not force:
            raise _conflict_error(ref, conflicts)
        stored.ownership.apply(manager, words)
        content = stored.ownership.merged()
        is_changed = known is None or content != known.content
        if known is not None and content.get("spec") != known.content.get("spec"):
            stored.generation += 1
        if is_changed:
            stored.content = content
            stored.version = int(self._next("")) if not dry_run else stored.version
            self._start_release(ref, stored)
        if not dry_run:
            self._objects[ref] = stored
            if manager == FIELD_MANAGER:
                self.effects.append(Effect("applied" if is_changed else "unchanged", ref))
        return Applied(
            ref=ref,
            uid=stored.uid,
            generation=stored.generation if "spec" in content else 0,
            resource_version=str(stored.version),
            live=redact_object(self._live(ref, stored)),
        )

    def _end_namespace(self, name: str) -> None:
        gone = [ref for ref in self._objects if ref.namespace == name or (ref.kind, ref.name) == ("Namespace", name)]
        for ref in gone:
            del self._objects[ref]

    def _is_in_use(self, claim: ObjectRef) -> bool:
        """Say whether a pod on a node uses a claim, which then goes after it (`kubernetes.io/pvc-protection`)."""
        pods = [one for ref, one in self._objects.items() if (ref.kind, ref.namespace) == ("Pod", claim.namespace)]
        specs = [one.content.get("spec") or {} for one in pods]
        return any(
            (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim.name
            for spec in specs
            if spec.get("nodeName")
            for volume in spec.get("volumes") or ()
        )

    def _let_claims_go(self) -> None:
        for ref, stored in list(self._objects.items()):
            if ref.kind == "PersistentVolumeClaim" and stored.deleted_at is not None and not self._is_in_use(ref):
                del self._objects[ref]

    def _start_release(self, ref: ObjectRef, stored: _Stored) -> None:
        if ref.kind not in WORKLOADS:
            return
        spec = stored.content.get("spec") or {}
        template = spec.get("template") or {}
        replicas = int(spec.get("replicas", 1))
        last = stored.releases[-1] if stored.releases else None
        if last and last.template == template and last.replicas == replicas:
            return
        stored.releases.append(
            Release(
                template=copy.deepcopy(template),
                replicas=replicas,
                at=self.now(),
                ready_at=self.now() + self.ready_after,
                spoiled=self._spoiled,
            )
        )

    def _status(self, ref: ObjectRef, stored: _Stored) -> WorkloadStatus:
        return status_of(
            ref,
            uid=stored.uid,
            generation=stored.generation,
            spec=stored.content.get("spec") or {},
            releases=stored.releases,
            at=self.now(),
        )

    def _live(self, ref: ObjectRef, stored: _Stored) -> dict[str, Any]:
        live = copy.deepcopy(stored.content)
        metadata = live.setdefault("metadata", {})
        metadata |= {"name": ref.name, "uid": stored.uid, "resourceVersion": str(stored.version)}
        if ref.namespace:
            metadata["namespace"] = ref.namespace
        if stored.deleted_at is not None:
            metadata["deletionTimestamp"] = stored.deleted_at.isoformat()
        if "spec" in live:
            metadata["generation"] = stored.generation
        if stored.status:
            live["status"] = copy.deepcopy(stored.status)
        if ref.kind == "Job" and self.job_ends:
            live["status"] = {"conditions": [{"type": self.job_ends, "status": "True", "message": "It ended."}]}
        return {"apiVersion": ref.api_version, "kind": ref.kind, **live}

    def _next(self, prefix: str) -> str:
        self._counter += 1
        return f"{prefix}-{self._counter}" if prefix else str(self._counter)


def _owned_part(manifest: Manifest) -> dict[str, Any]:
    part = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    metadata = manifest.get("metadata") or {}
    kept = {key: metadata[key] for key in ("labels", "annotations") if metadata.get(key)}
    return {**part, "metadata": kept} if kept else part


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _same(one: ObjectRef, other: ObjectRef) -> bool:
    return _group(one.api_version) == _group(other.api_version) and replace(one, api_version="") == replace(
        other, api_version=""
    )


def _inventory(stored: _Stored, label: str = INVENTORY_LABEL) -> str:
    metadata: Mapping[str, Any] = stored.content.get("metadata") or {}
    return str((metadata.get("labels") or {}).get(label, ""))


def _conflict_error(ref: ObjectRef, conflicts: tuple[FieldConflict, ...]) -> ApplyConflict:
    owners = ", ".join(sorted({conflict.manager for conflict in conflicts}))
    paths = ", ".join(sorted({conflict.path for conflict in conflicts}))
    return ApplyConflict(
        f"Could not apply {ref}: {paths} belongs to {owners}. Take the field out of the definition, or have the other "
        "manager release it.",
        conflicts=conflicts,
    )
