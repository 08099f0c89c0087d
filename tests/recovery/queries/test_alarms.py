"""A dead man's switch, from what is recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol.access import system_actor
from changecontrol.models import User
from recovery.actions.alarms import ensure_watch, note_database
from recovery.actions.points import record_copy
from recovery.models import AlarmWatch, BackupPolicy, PointCopy, RecoveryPoint
from recovery.queries.alarms import alarms_of
from recovery.rules.locks import ToldLock
from tests.factories import NOW, SmallEstate, small_estate, stranger_estate
from tests.factories.recovery import (
    ELSEWHERE,
    HOUR,
    backup_policy,
    finished_drill,
    new_point,
    put_in_force,
    recorded_point,
    recovery_owner,
    ship_wal,
)

pytestmark = pytest.mark.django_db

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
NIGHT = datetime(2026, 11, 23, 2, tzinfo=UTC)
"""When the last backup was due."""


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def policy(estate: SmallEstate) -> BackupPolicy:
    return backup_policy(estate.production)


def kinds(policy: BackupPolicy, at: datetime = NOW) -> list[str]:
    return [str(one.kind) for one in alarms_of(policy, at=at)]


def run_well(estate: SmallEstate, rio: User, policy: BackupPolicy) -> None:
    """Take the points of four nights, ship WAL, and let a drill pass."""
    for number in range(3, -1, -1):
        recorded_point(policy.environment, f"p{number}", NIGHT + HOUR - number * DAY, by=rio)
    ship_wal(policy.environment, NIGHT, NOW)
    finished_drill(policy.environment, by=rio, target_at=NIGHT + HOUR, at=NOW - HOUR)


def test_what_runs_well_is_silent_and_silence_alarms_when_it_lasts(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:  # BCK-1
    run_well(estate, rio, policy)

    assert kinds(policy) == []
    assert kinds(policy, NOW + timedelta(seconds=30)) == []
    assert kinds(policy, NOW + timedelta(seconds=31)) == ["wal_failing"]
    assert kinds(policy, NIGHT + DAY + HOUR) == ["wal_failing"]
    assert kinds(policy, NIGHT + DAY + HOUR + timedelta(seconds=1)) == ["no_success", "wal_failing"]
    assert kinds(policy, NOW + 91 * DAY) == ["no_success", "wal_failing", "drill_overdue"]


def test_a_new_policy_alarms_once_something_is_due(estate: SmallEstate) -> None:
    policy = backup_policy(estate.production, at=NOW)

    assert kinds(policy) == []
    assert kinds(policy, NIGHT + DAY + HOUR) == []
    assert kinds(policy, NIGHT + DAY + 2 * HOUR) == ["no_success"]


@pytest.mark.parametrize(
    "rrule", ["FREQ=DAILY", "FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24)))], ids=["nightly", "hourly"]
)
def test_starts_that_fail_end_no_alarm_and_leave_since_when_it_is_wrong(
    estate: SmallEstate, rio: User, rrule: str
) -> None:  # BCK-1
    policy = backup_policy(estate.production, rrule=rrule)
    recorded_point(policy.environment, "last", NIGHT + timedelta(minutes=30), by=rio)
    first = NIGHT + (DAY if rrule == "FREQ=DAILY" else HOUR)
    minutes = (0, 1, 30, 59, 60, 61)

    looks = [first + HOUR + days * DAY + number * timedelta(minutes=1) for days in range(9) for number in minutes]
    found = [{(str(one.kind), one.since) for one in alarms_of(policy, at=at)} for at in looks[1:]]

    assert ("no_success", first + HOUR) not in {(str(one.kind), one.since) for one in alarms_of(policy, at=looks[0])}
    assert [("no_success", first + HOUR) in one for one in found] == [True] * len(found)


def test_a_database_alarms_while_somebody_asks_it_and_since_it_was_first_gone(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:  # BCK-1
    run_well(estate, rio, policy)
    backup_policy(estate.staging)
    for place in (estate.production, estate.staging):
        ensure_watch(place, at=NOW)
    note_database(estate.production, trouble="shop: it does not exist.", at=NOW - 3 * MINUTE)
    note_database(estate.production, trouble="shop: nobody answers.", at=NOW)

    [alarm] = alarms_of(policy, at=NOW)
    of_another = AlarmWatch.objects.get(environment=estate.staging).database_trouble
    elsewhere = [
        kinds(put_in_force(estate.production, **words))
        for words in ({"engine": "pg_dump", "wal_seconds": None}, {"engine": "cloudnativepg", "wal_seconds": 10})
    ]
    asked = kinds(put_in_force(estate.production, engine="cloudnativepg", has_sentinel=True))
    note_database(estate.production, trouble="", at=NOW)

    assert (alarm.kind, alarm.since, of_another) == ("database_failing", NOW - 3 * MINUTE, "")
    assert "shop: nobody answers." in alarm.sentence
    assert (elsewhere, asked, kinds(policy)) == ([[], []], ["database_failing"], [])


def test_a_backup_of_another_environment_is_no_success(estate: SmallEstate, rio: User, policy: BackupPolicy) -> None:
    kite, _ = stranger_estate()
    other = backup_policy(kite.production)
    run_well(kite, recovery_owner(kite, "kim"), other)

    assert kinds(policy) == ["no_success", "drill_overdue"]


def told(days: int | None, at: datetime) -> ToldLock:
    return ToldLock(at, None if days is None else at + days * DAY)


def test_a_lock_shorter_than_promised_alarms_for_each_store_until_a_point_is_locked_as_promised(
    estate: SmallEstate, rio: User
) -> None:
    policy = backup_policy(estate.production, lock_days=30)
    run_well(estate, rio, policy)
    first, second, third, fourth = RecoveryPoint.objects.order_by("pk")
    of_each = []

    # A store that does not say of a later point leaves what it said of the one before.
    for point, primary, copy in (
        (first, told(30, NIGHT), told(30, NIGHT)),
        (second, told(7, NIGHT), told(None, NIGHT)),
        (third, None, None),
        (fourth, told(30, NIGHT + DAY), None),
    ):
        PointCopy.objects.filter(point=point).delete()
        for store, lock in ((policy.store, primary), (policy.copy_store, copy)):
            record_copy(point, store=store, lock=lock, actor=system_actor(), at=NOW)
        found = [one for one in alarms_of(policy, at=NOW) if one.kind == "not_locked"]
        of_each.append([(one.subject, point.key if point.key in one.sentence else "") for one in found])

    stores = (policy.store, policy.copy_store)
    assert of_each == [
        [],
        [(store, second.key) for store in stores],
        [(store, "") for store in stores],
        [(policy.copy_store, "")],
    ]
    assert [(one.since, second.key in one.sentence) for one in found] == [(second.finished_at, True)]


@pytest.mark.parametrize(
    "words",
    [{"lock_days": 0}, {"store": "s3://elsewhere"}, ELSEWHERE],
    ids=["nothing promised", "another store", "another tool"],
)
def test_a_lock_that_nobody_promises_any_more_is_no_alarm(
    estate: SmallEstate, rio: User, words: dict[str, Any]
) -> None:
    policy = backup_policy(estate.production, lock_days=30, copy_store="")
    recorded_point(policy.environment, "p1", NIGHT + HOUR, by=rio, lock=told(None, NIGHT))
    before = kinds(policy)

    after = kinds(put_in_force(policy.environment, **words))

    assert "not_locked" in before
    assert "not_locked" not in after


def test_a_lock_of_another_environment_is_no_alarm_here(estate: SmallEstate, rio: User) -> None:
    policy = backup_policy(estate.production, lock_days=30)
    kite, _ = stranger_estate()
    other = backup_policy(kite.production, lock_days=30)
    recorded_point(kite.production, "p1", NIGHT, by=recovery_owner(kite, "kim"), lock=told(None, NIGHT))

    assert "not_locked" in kinds(other)
    assert "not_locked" not in kinds(policy)


def test_an_odd_size_alarms_among_backups_of_one_kind(estate: SmallEstate, rio: User, policy: BackupPolicy) -> None:
    run_well(estate, rio, policy)
    ship_wal(policy.environment, NOW, NIGHT + DAY + 2 * HOUR)
    base = policy.points.latest("pk")
    at = NIGHT + DAY + HOUR
    tiny = (replace(new_point("tiny", at).parts[0], size=20),)

    recorded_point(policy.environment, "small", at, by=rio, parts=tiny, kind="incremental", parent_id=base.pk)
    of_incremental = kinds(policy, at + HOUR)
    recorded_point(policy.environment, "tiny", at + timedelta(minutes=30), by=rio, parts=tiny)

    assert (of_incremental, kinds(policy, at + HOUR)) == ([], ["size_anomaly"])
