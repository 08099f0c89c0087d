"""Do two changes get in each other's way? Judged from what each will touch and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from changecontrol.rules.intervals import Interval


class ConflictKind(StrEnum):
    ENVIRONMENT = "environment"
    DATABASE = "database"
    TENANT = "tenant"
    CLUSTER = "cluster"
    ASSIGNEE = "assignee"


BLOCKING = frozenset({ConflictKind.ENVIRONMENT, ConflictKind.DATABASE})
"""Two changes never execute on one of these together; the other kinds are said and left to people."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a change will touch and when. `tenants` are those it acts on, `parents` their ancestors."""

    change: str
    interval: Interval
    environments: frozenset[str] = frozenset()
    databases: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    parents: frozenset[str] = frozenset()
    clusters: frozenset[str] = frozenset()
    assignee: str = ""


@dataclass(frozen=True, slots=True)
class FoundConflict:
    kind: ConflictKind
    change: str
    names: tuple[str, ...]
    sentence: str

    @property
    def is_blocking(self) -> bool:
        return self.kind in BLOCKING


def find_conflicts(claim: Claim, *, others: Iterable[Claim]) -> tuple[FoundConflict, ...]:
    """List what the claim shares with other changes at the same time. Intervals that only touch do not conflict."""
    found: list[FoundConflict] = []
    for other in others:
        if other.change == claim.change or not claim.interval.meets(other.interval):
            continue
        for kind, shared in _shared(claim, other).items():
            if shared:
                names = tuple(sorted(shared))
                sentence = f"{other.change} has the {kind.value} {', '.join(names)} at the same time."
                found.append(FoundConflict(kind, other.change, names, sentence))
    return tuple(found)


def _shared(one: Claim, other: Claim) -> dict[ConflictKind, frozenset[str]]:
    return {
        ConflictKind.ENVIRONMENT: one.environments & other.environments,
        ConflictKind.DATABASE: one.databases & other.databases,
        # Work on a parent reaches its subsidiaries. Two changes of one tenant are no conflict by themselves.
        ConflictKind.TENANT: (one.tenants & other.parents) | (one.parents & other.tenants),
        ConflictKind.CLUSTER: one.clusters & other.clusters,
        ConflictKind.ASSIGNEE: frozenset({one.assignee} & {other.assignee}) - {""},
    }
