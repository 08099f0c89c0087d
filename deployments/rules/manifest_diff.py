"""The difference between two rendered sets, object by object, as a person reads it. Secret values never appear."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml

from changecontrol.ports import ObjectRef
from deployments.rules.redaction import redact

CONTEXT_LINES = 3
MAX_COMPARISONS = 1_000_000
"""Beyond this many pairs of lines the middle is shown as replaced: difflib would take minutes."""


class ObjectFate(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class ObjectDifference:
    """`text` is a unified diff of the object as YAML with sorted keys."""

    ref: ObjectRef
    fate: ObjectFate
    text: str
    added_count: int
    removed_count: int


def diff_rendered(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]], *, key: bytes
) -> tuple[ObjectDifference, ...]:
    """Compare two sets of manifests. Equal objects are left out. `key` is the redaction's."""
    before = {ObjectRef.of(one): one for one in old}
    after = {ObjectRef.of(one): one for one in new}
    found: list[ObjectDifference] = []
    for ref in sorted(before.keys() | after.keys()):
        left, right = _lines(before.get(ref), key), _lines(after.get(ref), key)
        if left == right:
            continue
        fate = ObjectFate.CHANGED if left and right else ObjectFate.ADDED if right else ObjectFate.REMOVED
        body = _unified(left, right)
        added = sum(line.startswith("+") for line in body)
        removed = sum(line.startswith("-") for line in body)
        names = ["--- " + (str(ref) if left else "nothing"), "+++ " + (str(ref) if right else "nothing")]
        found.append(ObjectDifference(ref, fate, "\n".join([*names, *body]) + "\n", added, removed))
    return tuple(found)


def _lines(manifest: Mapping[str, Any] | None, key: bytes) -> list[str]:
    if manifest is None:
        return []
    text = yaml.dump(
        redact(manifest, key=key), Dumper=_PlainDumper, sort_keys=True, allow_unicode=True, default_flow_style=False
    )
    return text.splitlines()


class _PlainDumper(yaml.CSafeDumper):
    """Repeats what is shared: anchors would make a difference depend on the identity of Python objects.

    Written by libyaml: every target of a wave shows its difference, and in Python that took longer than applying it.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _unified(left: list[str], right: list[str]) -> list[str]:
    head = _common(left, right)
    tail = _common(left[head:][::-1], right[head:][::-1])
    middle = (len(left) - head - tail) * (len(right) - head - tail)
    if middle <= MAX_COMPARISONS:
        return list(difflib.unified_diff(left, right, lineterm="", n=CONTEXT_LINES))[2:]
    first = max(0, head - CONTEXT_LINES)
    last = max(0, tail - CONTEXT_LINES)
    gone, come = left[head : len(left) - tail], right[head : len(right) - tail]
    above, below = left[first:head], left[len(left) - tail : len(left) - last]
    around = len(above) + len(below)
    return [
        f"@@ -{first + 1},{len(gone) + around} +{first + 1},{len(come) + around} @@",
        *(f" {line}" for line in above),
        *(f"-{line}" for line in gone),
        *(f"+{line}" for line in come),
        *(f" {line}" for line in below),
    ]


def _common(left: list[str], right: list[str]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
