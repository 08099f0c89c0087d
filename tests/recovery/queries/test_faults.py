"""What checks found, from what is recorded: of the newest alone, of what proves something, until it is mended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.access import system_actor
from changecontrol.models import Environment, User
from recovery.actions.points import record_verification
from recovery.models import BackupPolicy, CorrectiveAction, RecoveryPoint
from recovery.queries.alarms import backup_facts
from recovery.queries.faults import faults_in
from tests.factories import NOW, SmallEstate, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    canceled_drill,
    finished_drill,
    recorded_point,
    recovery_owner,
)

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def policy(estate: SmallEstate) -> BackupPolicy:
    return backup_policy(estate.production)


def break_it(point: RecoveryPoint) -> None:
    record_verification(point, level=1, is_passed=False, sentence="A part is gone.", actor=system_actor(), at=NOW)


def found(place: Environment) -> list[tuple[str, bool]]:
    return [(str(one.kind), one.is_bad) for one in faults_in([place.pk], at=NOW)[place.pk]]


def test_the_newest_point_counts_alone(estate: SmallEstate, rio: User, policy: BackupPolicy) -> None:
    place = estate.production
    proved = recorded_point(place, "p1", NOW - 3 * DAY, by=rio)
    finished_drill(place, by=rio, target_at=proved.consistent_at, at=NOW - 2 * DAY)
    point = recorded_point(place, "p2", NOW - DAY, by=rio)
    break_it(point)

    [fault] = faults_in([place.pk], at=NOW)[place.pk]
    facts = backup_facts([policy], at=NOW)[place.pk]
    recorded_point(place, "p3", NOW - HOUR, by=rio)

    assert (fault.kind, fault.number, fault.since, fault.is_bad) == ("point_broken", point.pk, NOW, False)
    assert "A part is gone. Restores begin on an older one." in fault.sentence
    assert (facts.last_success_at, facts.due_at) == (
        proved.finished_at,
        backup_facts([policy], at=NOW - 2 * HOUR)[place.pk].due_at,
    )
    assert found(place) == []


def test_however_many_broke_since_the_last_success_is_of_what_did_not(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    good = recorded_point(estate.production, "good", NOW - 20 * DAY, by=rio)
    for number in range(11):
        break_it(recorded_point(estate.production, f"p{number}", NOW - (12 - number) * DAY, by=rio))

    facts = backup_facts([policy], at=NOW)[estate.production.pk]

    assert (facts.last_success_at, len(facts.sizes)) == (good.finished_at, 10)
    assert found(estate.production) == [("point_broken", True)]


def test_a_drill_that_failed_counts_until_a_newer_one_has_its_verdict(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    place = estate.production
    point = recorded_point(place, "p1", NOW - 3 * DAY, by=rio)
    finished_drill(place, by=rio, target_at=point.consistent_at, at=NOW - 2 * DAY, is_passed=False)
    newer = recorded_point(place, "p2", NOW - DAY, by=rio)
    failed = found(place)
    finished_drill(place, by=rio, target_at=newer.consistent_at, at=NOW - 20 * HOUR, level=1)
    finished_drill(place, by=rio, target_at=newer.consistent_at, at=NOW - 18 * HOUR, sabotage="flip")
    canceled_drill(place, by=rio, target_at=newer.consistent_at, at=NOW - 16 * HOUR)
    still = found(place)
    finished_drill(place, by=rio, target_at=newer.consistent_at, at=NOW - HOUR)

    assert (failed, still[0]) == ([("drill_failed", True)], ("drill_failed", True))
    assert found(place)[0] == ("action_open", False)


def test_an_action_is_a_fault_where_something_was_found_until_it_is_closed(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    place = estate.production
    recorded_point(place, "p1", NOW - 3 * DAY, by=rio)
    drill = finished_drill(place, by=rio, target_at=NOW - 3 * DAY, at=NOW - DAY)
    todo = CorrectiveAction.objects.create(drill=drill, title="Drill 1 failed: no room.", opened_at=NOW)
    of_nothing = found(place)
    CorrectiveAction.objects.update(problem="No change was opened: nobody may file one.")
    of_something = found(place)
    CorrectiveAction.objects.filter(pk=todo.pk).update(closed_at=NOW, closed_by=rio, closing_note="Mended.")

    assert (of_nothing, of_something, found(place)) == ([], [("action_open", False)], [])


def test_it_takes_three_statements_and_nothing_of_another_is_told(estate: SmallEstate, rio: User) -> None:
    kite, _ = stranger_estate()
    for place, person in ((estate.production, rio), (kite.production, recovery_owner(kite, "kim"))):
        backup_policy(place)
        break_it(recorded_point(place, "p1", NOW - DAY, by=person))
    keys = [estate.production.pk, estate.staging.pk]

    with CaptureQueriesContext(connection) as seen:
        rows = faults_in(keys, at=NOW)

    assert len(seen) == 3
    assert {key: len(one) for key, one in rows.items()} == {estate.production.pk: 1, estate.staging.pk: 0}
