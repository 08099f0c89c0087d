"""How a change can be undone, as far as its manifests tell. What an image does to a database the requester says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from changecontrol.ports import ObjectRef
from changecontrol.rules.plan import differences


class RollbackClass(StrEnum):
    """R0 configuration or image only; R1 additive; R2 reversible only by restore; R3 irreversible."""

    R0 = "R0"
    R1 = "R1"
    R2 = "R2"
    R3 = "R3"


@dataclass(frozen=True, slots=True)
class Classification:
    """The strictest class found and why."""

    rollback_class: RollbackClass
    reasons: tuple[str, ...]


_CONFIGURATION_KINDS = frozenset({"ConfigMap", "Secret"})
_HOLDS_DATA = frozenset({"PersistentVolumeClaim", "StatefulSet", "PersistentVolume"})
RUNS_ONCE = frozenset({"Job"})
"""What runs as it is made: bringing back the one of the version before would run it again."""
_ROUTINE_FIELDS = frozenset(
    {
        "image", "imagePullPolicy", "env", "envFrom", "args", "command", "replicas", "resources", "annotations",
        "livenessProbe", "readinessProbe", "startupProbe", "schedule", "suspend", "strategy",
    }
)  # fmt: skip


def classify(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> Classification:
    """Compute the class from two rendered sets. Applying the old set again must undo an R0 wholly."""
    before = {ObjectRef.of(one): one for one in old}
    after = {ObjectRef.of(one): one for one in new}
    found: list[tuple[RollbackClass, str]] = []
    for ref in sorted(before.keys() | after.keys()):
        if ref not in after:
            found.append(_removed(ref))
        elif ref not in before:
            found.append(_added(ref))
        else:
            found.extend(_changed(ref, before[ref], after[ref]))
    if not found:
        return Classification(RollbackClass.R0, ("Nothing differs.",))
    worst = max(one for one, _ in found)
    reasons = tuple(sentence for one, sentence in found if one is worst)
    return Classification(worst, reasons)


def stricter(computed: RollbackClass, *, declared: RollbackClass) -> RollbackClass:
    """Return the class that counts: a requester may declare a stricter one, never a milder."""
    return max(computed, declared)


def _removed(ref: ObjectRef) -> tuple[RollbackClass, str]:
    if ref.kind in _HOLDS_DATA:
        return RollbackClass.R2, f"{ref} is removed, and data may go with it."
    return RollbackClass.R1, f"{ref} is removed."


def _added(ref: ObjectRef) -> tuple[RollbackClass, str]:
    if ref.kind in RUNS_ONCE:
        return RollbackClass.R1, f"{ref} runs once, and what it did stays."
    return RollbackClass.R1, f"{ref} is added."


def _changed(ref: ObjectRef, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[RollbackClass, str]]:
    fields = [difference.path.split("/") for difference in differences(old, new)]
    if not fields:
        return []
    if any("volumeClaimTemplates" in path for path in fields) or ref.kind in {
        "PersistentVolumeClaim",
        "PersistentVolume",
    }:
        return [(RollbackClass.R2, f"{ref} changes its storage.")]
    if ref.kind in RUNS_ONCE:
        return [(RollbackClass.R1, f"{ref} runs again, and what it did stays.")]
    if ref.kind in _CONFIGURATION_KINDS or all(_ROUTINE_FIELDS & set(path) for path in fields):
        return [(RollbackClass.R0, f"{ref} changes its configuration or image only.")]
    other = sorted(
        {path[0] if len(path) == 1 else "/".join(path[:3]) for path in fields if not _ROUTINE_FIELDS & set(path)}
    )
    return [(RollbackClass.R1, f"{ref} changes {', '.join(other[:3])}.")]
