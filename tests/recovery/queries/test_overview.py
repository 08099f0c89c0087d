"""Reads of many environments at once: as many statements for three as for one, and nothing of a stranger's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.access import scope_of, system_actor
from changecontrol.models import Environment, User
from recovery.actions.holds import place_hold
from recovery.actions.points import record_copy
from recovery.models import RecoveryPoint
from recovery.queries.catalogue import (
    Usage,
    backups_of,
    chain_of,
    environment_named,
    holds_on,
    kept_points,
    point_named,
    usage_in,
)
from recovery.queries.overview import environments_in, environments_page, standings, watched_in
from recovery.queries.points import coverages_of, retention_in, retention_of
from recovery.queries.policies import policy_in_force, policy_versions
from tests.factories import NOW, SmallEstate, actor, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    copy_attachments,
    finished_drill,
    recorded_point,
    recovery_owner,
    ship_wal,
)

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def fill(place: Environment, rio: User) -> RecoveryPoint:
    backup_policy(place)
    point = recorded_point(place, "p1", NOW - DAY, by=rio)
    ship_wal(place, NOW - DAY, NOW)
    copy_attachments(place, NOW - HOUR)
    finished_drill(place, by=rio, target_at=NOW - DAY)
    return point


def count(read: Callable[[], object]) -> int:
    with CaptureQueriesContext(connection) as seen:
        read()
    return len(seen)


def test_every_read_of_many_takes_the_same_statements_for_three_as_for_one(estate: SmallEstate, rio: User) -> None:
    scope = scope_of(actor(rio))

    def counts() -> dict[str, int]:
        watched = watched_in(scope, at=NOW)
        places, _, _ = environments_page(scope)
        policies = [one.policy for one in watched.values()]
        return {
            "page": count(lambda: environments_page(scope)),
            "watched": count(lambda: watched_in(scope, at=NOW)),
            "standings": count(lambda: [one.rpo_now for one in standings(places, watched=watched, at=NOW)]),
            "coverage": count(lambda: coverages_of(places)),
            "usage": count(lambda: usage_in(places)),
            "retention": count(lambda: retention_in(policies, at=NOW)),
        }

    fill(estate.production, rio)
    once = counts()
    for place in (estate.staging, estate.development):
        fill(place, rio)

    assert counts() == once
    assert once["standings"] == 5


def test_one_is_the_special_case_of_many(estate: SmallEstate, rio: User) -> None:
    for place in (estate.production, estate.staging):
        fill(place, rio)
    policies = [policy_in_force(place) for place in (estate.production, estate.staging)]
    known = [one for one in policies if one is not None]

    found = retention_in(known, at=NOW)

    assert {one.environment_id: retention_of(one, at=NOW) for one in known} == found


def test_a_hold_of_one_environment_keeps_nothing_of_another(estate: SmallEstate, rio: User) -> None:
    policies = []
    for place in (estate.production, estate.staging):
        policies.append(backup_policy(place, keep_last=1))
        for days in (2, 1):
            recorded_point(place, f"p{days}", NOW - days * DAY, by=rio)
    place_hold(actor=actor(rio), environment_id=estate.staging.pk, name="Case", reason="Because.", at=NOW)

    found = retention_in(policies, at=NOW)

    assert found[estate.production.pk].goes == ("p2",)
    assert found[estate.staging.pk].goes == ()
    assert [one.name for one in holds_on(estate.staging)] == ["Case"]
    assert holds_on(estate.production) == []


def test_what_would_be_lost_is_the_older_of_database_and_attachments(estate: SmallEstate, rio: User) -> None:
    fill(estate.production, rio)
    scope = scope_of(actor(rio))

    def lost() -> timedelta | None:
        return standings([estate.production], watched=watched_in(scope, at=NOW), at=NOW)[0].rpo_now

    of_attachments = lost()
    copy_attachments(estate.production, NOW)

    assert (of_attachments, lost()) == (HOUR, timedelta(0))


def test_usage_counts_what_is_kept(estate: SmallEstate, rio: User) -> None:
    point = fill(estate.production, rio)
    record_copy(point, store="s3://copies/northwind", actor=system_actor(), at=NOW)
    gone = recorded_point(estate.production, "gone", NOW - 2 * DAY, by=rio)
    RecoveryPoint.objects.filter(pk=gone.pk).update(state="removed")

    assert usage_in([estate.production, estate.staging]) == {
        estate.production.pk: Usage(
            point_count=1,
            point_size=1000,
            copy_count=1,
            oldest_at=NOW - DAY,
            attachment_count=1,
            attachment_size=400,
            wal_size=87_600,
        ),
        estate.staging.pk: Usage(0, 0, 0, None, 0, 0, 0),
    }
    assert list(kept_points(estate.production)) == ["p1"]


def test_chain_branches_and_leaves_out_what_was_removed(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.production)
    base = recorded_point(estate.production, "base", NOW - 5 * HOUR, by=rio)
    words: dict[str, Any] = {"by": rio, "kind": "incremental"}
    left = recorded_point(estate.production, "left", NOW - 4 * HOUR, parent_id=base.pk, **words)
    right = recorded_point(estate.production, "right", NOW - 3 * HOUR, parent_id=base.pk, **words)
    leaf = recorded_point(estate.production, "leaf", NOW - 2 * HOUR, parent_id=left.pk, **words)
    RecoveryPoint.objects.filter(pk=right.pk).update(state="removed")

    assert chain_of(base).needed_by == (left, leaf)
    assert chain_of(leaf).needs == (left, base)
    assert chain_of(right).needs == (base,)


def test_strangers_reach_nothing(estate: SmallEstate, rio: User) -> None:
    point = fill(estate.production, rio)
    kite, eve = stranger_estate()
    scope = scope_of(actor(eve))

    assert set(environments_in(scope)) == {kite.development, kite.staging, kite.production}
    assert environment_named(scope, tenant="northwind", slug="production") is None
    assert point_named(scope, point.pk) is None
    assert watched_in(scope, at=NOW) == {}
    assert backups_of(kite.production) == []
    assert policy_versions(kite.production) == []
