from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.rules.conflicts import Claim, ConflictKind, find_conflicts
from changecontrol.rules.intervals import Interval

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = Interval(NOON, NOON + timedelta(hours=1))
OURS = Claim(
    "CHG-000001",
    HOUR,
    environments=frozenset({"e1"}),
    databases=frozenset({"d1"}),
    tenants=frozenset({"north"}),
    parents=frozenset({"acme"}),
    clusters=frozenset({"k1"}),
    assignee="ada",
)
OTHER = Claim("CHG-000002", HOUR)


@pytest.mark.parametrize(
    ("shared", "kind", "is_blocking"),
    [
        ({"environments": frozenset({"e1", "e2"})}, ConflictKind.ENVIRONMENT, True),
        ({"databases": frozenset({"d1"})}, ConflictKind.DATABASE, True),
        ({"tenants": frozenset({"acme"})}, ConflictKind.TENANT, False),
        ({"parents": frozenset({"north"})}, ConflictKind.TENANT, False),
        ({"clusters": frozenset({"k1"})}, ConflictKind.CLUSTER, False),
        ({"assignee": "ada"}, ConflictKind.ASSIGNEE, False),
    ],
)
def test_changes_that_share_something_conflict(
    shared: dict[str, object], kind: ConflictKind, is_blocking: bool
) -> None:
    (found,) = find_conflicts(OURS, others=[replace(OTHER, **shared)])  # type: ignore[arg-type]

    assert (found.kind, found.is_blocking) == (kind, is_blocking)


def test_conflict_says_with_what() -> None:
    (found,) = find_conflicts(OURS, others=[replace(OTHER, environments=frozenset({"e1"}))])

    assert found.sentence == "CHG-000002 has the environment e1 at the same time."


def test_changes_one_after_the_other_do_not_conflict() -> None:
    later = replace(OURS, change="CHG-000002", interval=Interval(HOUR.end, HOUR.end + timedelta(hours=1)))

    assert find_conflicts(OURS, others=[later]) == ()


def test_change_does_not_conflict_with_itself_nor_with_a_stranger() -> None:
    assert find_conflicts(OURS, others=[OURS, OTHER]) == ()
    assert find_conflicts(replace(OURS, assignee=""), others=[replace(OTHER, assignee="")]) == ()
