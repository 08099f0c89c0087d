"""What recovery tells: how fresh, how far back, what is overdue, and to whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.access import operator_actor, scope_of, system_actor
from changecontrol.errors import Permanent
from changecontrol.models import BusinessProcess, User
from recovery.actions.holds import place_hold
from recovery.actions.points import record_verification
from recovery.actions.policies import publish_backup_policy
from recovery.actions.restores import ask_restore
from recovery.actions.wal import NewSegment, record_cluster_coverage, record_segment
from recovery.models import BackupPolicy, RecoveryPoint, WalSegment
from recovery.queries import Freshness, freshness_of
from recovery.queries.attachments import copy_for
from recovery.queries.drills import OverdueDrill, drills_of, overdue_drills
from recovery.queries.points import (
    coverage_of,
    holds_of,
    objectives_of,
    points_of,
    policies_of,
    restores_of,
    retention_of,
)
from recovery.rules.coverage import Span
from tests.factories import NOW, SmallEstate, actor, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    POLICY,
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
    found = small_estate()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def check(point: RecoveryPoint, level: int, *, is_passed: bool = True) -> None:
    record_verification(point, level=level, is_passed=is_passed, sentence="Looked at.", actor=system_actor(), at=NOW)


def test_freshness_is_of_the_newest_verified_point(estate: SmallEstate, rio: User) -> None:  # RBK-2
    check(recorded_point(estate.production, "old", NOW - 3 * DAY, by=rio), 4)
    check(recorded_point(estate.production, "newer", NOW - DAY, by=rio), 2)
    check(recorded_point(estate.production, "only copied", NOW - HOUR, by=rio), 1)

    assert freshness_of(estate.production, NOW) == Freshness(
        "Point newer of 22 Nov 2026 10:12:00 UTC, 1 day old, is verified at L2.",
        point_key="newer",
        level=2,
        consistent_at=NOW - DAY,
        age=DAY,
        checked_at=NOW,
    )
    assert freshness_of(estate.production, NOW - 2 * DAY).point_key == "old"


def test_a_point_that_broke_or_is_to_go_is_not_fresh(estate: SmallEstate, rio: User) -> None:
    broken = recorded_point(estate.production, "p1", NOW - DAY, by=rio)
    check(broken, 2)
    check(broken, 3, is_passed=False)
    going = recorded_point(estate.production, "p2", NOW - HOUR, by=rio)
    check(going, 2)
    RecoveryPoint.objects.filter(pk=going.pk).update(removal_asked_at=NOW)

    found = freshness_of(estate.production, NOW)

    assert (found.is_verified, found.level, found.age) == (False, 0, None)
    assert found.sentence == "No recovery point is verified. There is none that is even copied."


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (0, "No recovery point is verified. There is none that is even copied."),
        (1, "No recovery point is verified. 1 is only copied."),
        (2, "No recovery point is verified. 2 are only copied."),
    ],
)
def test_copied_is_not_verified(estate: SmallEstate, rio: User, count: int, sentence: str) -> None:
    for number in range(count):
        recorded_point(estate.production, f"p{number}", NOW - number * DAY, by=rio)

    assert freshness_of(estate.production, NOW).sentence == sentence


def test_a_verified_point_from_which_nothing_is_reached_is_no_way_back(
    estate: SmallEstate, rio: User
) -> None:  # RBK-2, BCK-3
    base = recorded_point(estate.production, "base", NOW - 3 * DAY, by=rio)
    check(recorded_point(estate.production, "p1", NOW - 2 * DAY, by=rio), 2)
    cut = recorded_point(estate.production, "cut", NOW - DAY, by=rio, kind="incremental", parent_id=base.pk)
    check(cut, 3)
    before = freshness_of(estate.production, NOW).point_key

    RecoveryPoint.objects.filter(pk=base.pk).update(removal_asked_at=NOW)
    older = freshness_of(estate.production, NOW).point_key
    RecoveryPoint.objects.filter(key="p1").update(state="broken")
    without = freshness_of(estate.production, NOW)

    assert (before, older) == ("cut", "p1")
    assert without == Freshness("No recovery point is verified. 1 that was can no longer be restored.")


def test_a_verified_point_that_its_operator_no_longer_has_is_no_way_back(
    estate: SmallEstate, rio: User
) -> None:  # RBK-2, BCK-3
    backup_policy(estate.staging, engine="cloudnativepg", source="")
    check(recorded_point(estate.staging, "p1", NOW - DAY, by=rio), 2)
    recorded_point(estate.staging, "p2", NOW - HOUR, by=rio)
    before = freshness_of(estate.staging, NOW).point_key

    record_cluster_coverage(
        environment=estate.staging,
        system_identifier="7012",
        starts_at=NOW,
        ends_at=NOW,
        actor=system_actor(),
        at=NOW,
    )

    assert (before, coverage_of(estate.staging).spans) == ("p1", ())
    assert freshness_of(estate.staging, NOW).sentence == (
        "No recovery point is verified. 1 is only copied. 1 that was can no longer be restored."
    )


def test_coverage_is_computed_from_what_is_recorded(estate: SmallEstate, rio: User) -> None:  # BCK-3
    recorded_point(estate.production, "p1", NOW - 9 * HOUR, by=rio)
    ship_wal(estate.production, NOW - 10 * HOUR, NOW - 7 * HOUR)
    ship_wal(estate.production, NOW - 6 * HOUR, NOW - HOUR)
    recorded_point(estate.production, "p2", NOW - 3 * HOUR, by=rio)

    found = coverage_of(estate.production)

    assert found.spans == (Span(NOW - 9 * HOUR, NOW - 7 * HOUR), Span(NOW - 3 * HOUR, NOW - HOUR))
    assert found.gaps == ((NOW - 7 * HOUR, NOW - 3 * HOUR),)


def test_wal_of_another_server_covers_nothing(estate: SmallEstate, rio: User) -> None:
    recorded_point(estate.production, "p1", NOW - 9 * HOUR, by=rio, system_identifier="9999")
    ship_wal(estate.production, NOW - 10 * HOUR, NOW - HOUR)

    assert coverage_of(estate.production).spans == (Span(NOW - 9 * HOUR, NOW - 9 * HOUR),)


def test_a_chain_that_broke_covers_nothing(estate: SmallEstate, rio: User) -> None:
    base = recorded_point(estate.production, "p1", NOW - 2 * DAY, by=rio)
    recorded_point(estate.production, "p2", NOW - DAY, by=rio, kind="incremental", parent_id=base.pk)
    check(base, 1, is_passed=False)

    assert coverage_of(estate.production).spans == ()


def test_objectives_are_the_strictest_of_the_processes(estate: SmallEstate) -> None:  # BIZ-2
    checkout = BusinessProcess.objects.create(
        tenant=estate.tenant, slug="checkout", name="Checkout", tier=0, rto_seconds=900, rpo_seconds=7_200
    )
    estate.production.processes.add(checkout)

    found = objectives_of(estate.production)

    assert (found.rto_of, found.rto, found.rpo_of, found.rpo) == ("Checkout", 0.25 * HOUR, "Warehouse", HOUR)


def test_retention_reads_chains_holds_and_proof(estate: SmallEstate, rio: User) -> None:
    policy = backup_policy(estate.staging, keep_last=1)
    base = recorded_point(estate.staging, "base", NOW - 5 * DAY, by=rio)
    held = recorded_point(estate.staging, "held", NOW - 4 * DAY, by=rio)
    check(recorded_point(estate.staging, "proved", NOW - 3 * DAY, by=rio), 2)
    recorded_point(estate.staging, "free", NOW - 2 * DAY, by=rio)
    recorded_point(estate.staging, "locked", NOW - DAY, by=rio, locked_until=NOW + DAY)
    recorded_point(estate.staging, "last", NOW, by=rio, kind="incremental", parent_id=base.pk)
    place_hold(
        actor=actor(rio), environment_id=estate.staging.pk, name="Case 7", reason="Tax.", point_id=held.pk, at=NOW
    )

    found = retention_of(policy, at=NOW)

    assert found.goes == ("free",)
    assert set(found.stays) == {"base", "held", "proved", "locked", "last"}


def edited(estate: SmallEstate, **words: Any) -> None:
    """Publish the second version of production's policy, now."""
    publish_backup_policy(
        actor=operator_actor(), environment_id=estate.production.pk, content=replace(POLICY, **words),
        seen_version=1, reason="An edit.", at=NOW,
    )  # fmt: skip


def test_a_drill_is_overdue_where_none_passed_in_time(estate: SmallEstate, rio: User) -> None:  # BCK-7
    backup_policy(estate.staging, at=NOW - DAY)
    edited(estate, keep_last=14)
    scope = scope_of(actor(rio))

    due = NOW - 10 * DAY  # a hundred days since its first version, and one every ninety
    assert overdue_drills(scope, at=NOW) == (OverdueDrill(estate.production, due, None),)
    assert overdue_drills(scope, at=due) == ()


def test_only_a_drill_counts_that_passed_restored_something_and_was_no_sabotage(estate: SmallEstate, rio: User) -> None:
    scope = scope_of(actor(rio))
    recorded_point(estate.production, "p1", NOW - DAY, by=rio)
    words: dict[str, Any] = {"by": rio, "target_at": NOW - DAY}

    finished_drill(estate.production, sabotage="flip", is_passed=False, at=NOW, **words)
    finished_drill(estate.production, level=1, at=NOW + 0.5 * HOUR, **words)
    assert [one.last_at for one in overdue_drills(scope, at=NOW + DAY)] == [None]
    drill = finished_drill(estate.production, at=NOW + HOUR, **words)

    assert overdue_drills(scope, at=NOW + DAY) == ()
    assert drill.finished_at is not None
    [found] = overdue_drills(scope, at=NOW + 100 * DAY)
    assert (found.last_at, found.due_at) == (drill.finished_at, drill.finished_at + 90 * DAY)


def test_no_query_tells_a_stranger_anything(estate: SmallEstate, rio: User) -> None:  # BIZ-1
    recorded_point(estate.production, "p1", NOW - DAY, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": NOW}
    place_hold(name="Case 7", reason="Tax.", **words)
    ask_restore(target_at=NOW - DAY, target_database="a_look", reason="A look.", **words)
    finished_drill(estate.production, by=rio, target_at=NOW - DAY)
    _, eve = stranger_estate()

    def found(who: User) -> dict[str, int]:
        scope = scope_of(actor(who))
        rows = {
            "policies": policies_of(scope), "points": points_of(scope), "restores": restores_of(scope),
            "holds": holds_of(scope), "drills": drills_of(scope),
        }  # fmt: skip
        return {
            **{name: len(one) for name, one in rows.items()},
            "overdue": len(overdue_drills(scope, at=NOW + 99 * DAY)),
        }

    assert set(found(eve).values()) == {0}
    assert set(found(estate.dee).values()) == {1}


def test_every_list_takes_the_same_statements_for_one_row_as_for_three(estate: SmallEstate, rio: User) -> None:
    scope = scope_of(actor(rio))

    def statements() -> list[int]:
        counts = []
        for read in (policies_of, points_of, drills_of, lambda scope: overdue_drills(scope, at=NOW + 99 * DAY)):
            with CaptureQueriesContext(connection) as queries:
                for row in read(scope):
                    str(row.environment.tenant)
            counts.append(len(queries))
        return counts

    recorded_point(estate.production, "p1", NOW - DAY, by=rio)
    finished_drill(estate.production, by=rio, target_at=NOW - DAY)
    once = statements()
    for place in (estate.staging, estate.development):
        backup_policy(place)
        recorded_point(place, "p1", NOW - DAY, by=rio)
        finished_drill(place, by=rio, target_at=NOW - DAY)

    assert statements() == once


def test_wal_of_another_server_leads_no_backup_on(estate: SmallEstate, rio: User) -> None:
    recorded_point(estate.production, "old", NOW - 3 * DAY, by=rio)
    ship_wal(estate.production, NOW - 3 * DAY, NOW - HOUR)

    recorded_point(estate.production, "new", NOW - 2 * DAY, by=rio, system_identifier="7099")

    assert coverage_of(estate.production).reaches == {
        "old": Span(NOW - 3 * DAY, NOW - HOUR),
        "new": Span(NOW - 2 * DAY, NOW - 2 * DAY),
    }


def test_a_copy_goes_with_times_at_which_the_attachments_lay_where_it_was_taken(estate: SmallEstate, rio: User) -> None:
    point = recorded_point(estate.production, "p1", NOW - 6 * HOUR, by=rio)  # BCK-2
    ship_wal(estate.production, NOW - 7 * HOUR, NOW)
    for hours in (5, 4):
        copy_attachments(estate.production, NOW - hours * HOUR)
    content = replace(POLICY, filestore="file:///srv/odoo/filestore/nw_shop_restored")
    words: dict[str, Any] = {"actor": operator_actor(), "environment_id": estate.production.pk, "content": content}
    publish_backup_policy(**words, seen_version=1, reason="It was put in its place.", at=NOW - 3 * HOUR)
    copy_attachments(estate.production, NOW - 2 * HOUR)

    coverage = coverage_of(estate.production)

    assert coverage.spans == (
        Span(NOW - 6 * HOUR, NOW - 4 * HOUR),
        Span(NOW - 3 * HOUR, NOW - 2 * HOUR),
    )
    assert coverage.backup_for(NOW - 2 * HOUR) == "p1"
    found = [copy_for(point, NOW - hours * HOUR) for hours in (4.5, 4, 3, 2)]
    assert [one.taken_at for one in found if one] == [NOW - hours * HOUR for hours in (4, 4, 2, 2)]
    for at in (NOW - 3.5 * HOUR, NOW - HOUR):
        with pytest.raises(Permanent, match="No copy of the attachments was taken"):
            copy_for(point, at)


def test_wal_in_another_store_carries_no_point_on(estate: SmallEstate, rio: User) -> None:
    policy = BackupPolicy.objects.get(environment=estate.production)
    recorded_point(estate.production, "old", NOW - 3 * HOUR, by=rio)
    copy_attachments(estate.production, NOW)
    start = int((NOW - 4 * HOUR).timestamp())
    older = NewSegment("7012", 1, start, start + 7200, NOW - 2 * HOUR, "wal/1", 16, "e" * 64, store=policy.store)
    newer = replace(older, start_lsn=start + 7200, end_lsn=start + 14_400, ends_at=NOW, store="s3://moved/northwind")
    for one in (older, newer):
        record_segment(environment=estate.production, segment=one, actor=system_actor(), at=NOW)
    before = coverage_of(estate.production)
    content = replace(POLICY, store=newer.store)
    words: dict[str, Any] = {"actor": operator_actor(), "environment_id": estate.production.pk, "content": content}
    publish_backup_policy(**words, seen_version=policy.version, reason="Another bucket.", at=NOW)

    recorded_point(estate.production, "new", NOW - HOUR, by=rio, store=newer.store)
    copy_attachments(estate.production, NOW + HOUR)

    assert before.spans == (Span(NOW - 3 * HOUR, NOW - 2 * HOUR),)
    found = coverage_of(estate.production).reaches
    assert found == {"old": Span(NOW - 3 * HOUR, NOW - 2 * HOUR), "new": Span(NOW - HOUR, NOW)}


def test_wal_of_which_no_store_is_recorded_counts_as_before_until_somebody_looks_there(
    estate: SmallEstate, rio: User
) -> None:
    policy = BackupPolicy.objects.get(environment=estate.production)
    recorded_point(estate.production, "p1", NOW - 3 * HOUR, by=rio)
    copy_attachments(estate.production, NOW)
    start = int((NOW - 4 * HOUR).timestamp())
    early = NewSegment("7012", 1, start, start + 7200, NOW - 2 * HOUR, "wal/1", 16, "e" * 64)
    record_segment(environment=estate.production, segment=early, actor=system_actor(), at=NOW)
    before = coverage_of(estate.production).spans

    record_segment(
        environment=estate.production, segment=replace(early, store=policy.store), actor=system_actor(), at=NOW
    )

    assert before == coverage_of(estate.production).spans == (Span(NOW - 3 * HOUR, NOW - 2 * HOUR),)
    assert [one.store for one in WalSegment.objects.all()] == [policy.store]
