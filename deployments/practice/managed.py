"""Ownership of fields: what `metadata.managedFields` becomes after a write, and when an apply conflicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployments.practice import fields
from deployments.practice.fields import Paths
from deployments.practice.schema import Node
from deployments.practice.status import apply_conflict

Owner = tuple[str, str, str, str]
"""Manager, operation (`Apply` or `Update`), apiVersion, subresource."""

# Fields that exist, empty, in a new object of the kind: nobody comes to own the container itself.
_ALWAYS_THERE: dict[str, dict[str, Any]] = {
    "Deployment": {
        "spec": {"selector": None, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": None}}}
    },
    "ReplicaSet": {"spec": {"selector": None, "template": {"metadata": {}, "spec": {"containers": None}}}},
    "StatefulSet": {
        "spec": {"selector": None, "updateStrategy": {}, "template": {"metadata": {}, "spec": {"containers": None}}}
    },
    "DaemonSet": {
        "spec": {"selector": None, "updateStrategy": {}, "template": {"metadata": {}, "spec": {"containers": None}}}
    },
    "Job": {"spec": {"template": {"metadata": {}, "spec": {"containers": None}}}},
    "CronJob": {
        "spec": {"jobTemplate": {"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {"containers": None}}}}}
    },
    "Pod": {"spec": {"containers": None}},
    "Service": {"status": {"loadBalancer": {}}},
    "Ingress": {"status": {"loadBalancer": {}}},
    "PersistentVolumeClaim": {"spec": {"resources": {}}},
    "HorizontalPodAutoscaler": {"spec": {"scaleTargetRef": {}}},
    "Event": {"involvedObject": {}, "source": {}},
    "CustomResourceDefinition": {"spec": {"names": {}}},
    "RoleBinding": {"roleRef": {}},
    "ClusterRoleBinding": {"roleRef": {}},
}


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, through which door, and when (RFC 3339)."""

    manager: str
    api_version: str
    at: str
    subresource: str = ""

    def owner(self, operation: str) -> Owner:
        return self.manager, operation, self.api_version, self.subresource


def blank(kind: str) -> dict[str, Any]:
    """Return what an object of the kind holds before anything is set."""
    return {"metadata": {}, "spec": {}, "status": {}, **_ALWAYS_THERE.get(kind, {})}


def read(entries: list[dict[str, Any]] | None) -> tuple[dict[Owner, Paths], dict[Owner, str]]:
    """Read `managedFields` into sets and times by owner."""
    sets: dict[Owner, Paths] = {}
    times: dict[Owner, str] = {}
    for entry in entries or ():
        owner = (
            str(entry.get("manager", "")), str(entry.get("operation", "")), str(entry.get("apiVersion", "")),
            str(entry.get("subresource", "")),
        )  # fmt: skip
        sets[owner] = fields.decoded(entry.get("fieldsV1") or {})
        times[owner] = str(entry.get("time", ""))
    return sets, times


def write(sets: dict[Owner, Paths], times: dict[Owner, str]) -> list[dict[str, Any]]:
    """Write the entries: applies first, then by time and name; owners of nothing are dropped."""
    out = []
    for owner in sorted(
        (owner for owner, paths in sets.items() if paths), key=lambda it: (it[1], times[it], it[0], it[3])
    ):
        manager, operation, api_version, subresource = owner
        entry: dict[str, Any] = {"manager": manager, "operation": operation, "apiVersion": api_version}
        entry |= {"time": times[owner], "fieldsType": "FieldsV1", "fieldsV1": fields.encoded(sets[owner])}
        if subresource:
            entry["subresource"] = subresource
        out.append(entry)
    return out


def after_update(
    node: Node,
    *,
    old: dict[str, Any],
    new: dict[str, Any],
    entries: list[dict[str, Any]] | None,
    writer: Writer,
    is_ours: Callable[[fields.Path], bool],
) -> list[dict[str, Any]]:
    """Return the entries after a plain write. `is_ours` says which paths this door may set (status or the rest)."""
    difference = fields.compare(node, old, new)
    taken = {path for path in fields.without_identity(difference.added | difference.modified) if is_ours(path)}
    removed = difference.removed
    if not taken and not removed:
        return entries or []
    sets, times = read(entries)
    owner = writer.owner("Update")
    before = sets.get(owner, frozenset())
    after = (before | taken) - removed
    lost = taken | removed
    is_shared = False
    for other, paths in sets.items():
        if other != owner and not paths.isdisjoint(lost):
            sets[other] = paths - lost
            is_shared = True
    if after == before and not is_shared:
        return entries or []
    sets[owner] = after
    if after != before:
        times[owner] = writer.at
    return write(sets, times)


@dataclass(frozen=True, slots=True)
class AppliedFields:
    """What an apply makes of the live object, before defaults, and who owns what then."""

    body: dict[str, Any]
    sets: dict[Owner, Paths]
    times: dict[Owner, str]


def apply(
    node: Node, *, live: dict[str, Any], config: dict[str, Any], entries: list[dict[str, Any]] | None, writer: Writer,
    is_forced: bool, is_ours: Callable[[fields.Path], bool],
) -> AppliedFields:  # fmt: skip
    """Merge a configuration into the live object. Raises the 409 when another manager owns what would change."""
    sets, times = read(entries)
    owner = writer.owner("Apply")
    last = sets.get(owner, frozenset())
    named = {path for path in fields.without_identity(fields.named_paths(node, config)) if is_ours(path)}
    body: dict[str, Any] = fields.merged(node, live, config)
    sets[owner] = named
    dropped = last - set().union(*sets.values())
    if dropped:
        body = _pruned(node, body, dropped, fields.prefixes(sets.values()))
    difference = fields.compare(node, live, body)
    changed = difference.added | difference.modified
    conflicts = []
    for other in sets:
        if other != owner and (overlap := sets[other] & changed):
            conflicts += [(_manager_shown(other, times[other]), fields.shown(path)) for path in sorted(overlap)]
            sets[other] = sets[other] - overlap
        if other != owner:
            sets[other] = sets[other] - difference.removed
    if conflicts and not is_forced:
        raise apply_conflict(conflicts)
    times.setdefault(owner, writer.at)
    return AppliedFields(body, sets, times)


def _pruned(node: Node, body: dict[str, Any], dropped: Paths, owned: Paths) -> dict[str, Any]:
    # What nobody owns any more goes, with the containers that held nothing else anybody owns.
    for path in sorted(dropped, key=len):
        for length in range(1, len(path) + 1):
            head = path[:length]
            if head not in owned:
                body = fields.without(node, body, head)
                break
    return body


def _manager_shown(owner: Owner, at: str) -> str:
    manager, operation, api_version, subresource = owner
    shown = f'"{manager}"'
    if subresource:
        shown += f' with subresource "{subresource}"'
    return f"{shown} using {api_version} at {at}" if operation == "Update" else shown
