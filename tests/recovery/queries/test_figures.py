"""What /metrics tells of recovery: how old, how well proved, how much would be lost, what alarms."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changecontrol.access import system_actor
from changecontrol.models import User
from recovery.actions.backups import ask_backup
from recovery.actions.points import record_verification
from recovery.models import BackupPolicy, FilestoreCopy, RaisedAlarm, Upkeep, WalSegment
from recovery.queries.figures import contribute
from recovery.rules.alarms import AlarmKind
from tests.factories import NOW, SmallEstate, actor, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    finished_drill,
    recorded_point,
    recovery_owner,
    ship_wal,
)

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def test_the_handbook_names_every_kind_of_alarm() -> None:
    handbook = (Path(__file__).resolve().parents[3] / "docs/administrator.md").read_text()

    assert [one for one in AlarmKind if f"`{one}`" not in handbook] == []


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def figures(at: Any = NOW) -> dict[str, dict[tuple[str, ...], float]]:
    return {one.name: {sample.labels: sample.value for sample in one.samples} for one in contribute(at)}


def copy_attachments(environment: Any, *, at: datetime) -> None:
    policy = BackupPolicy.objects.active().get(environment=environment)
    counts = {"size": 1, "file_count": 1, "byte_count": 1, "stored_bytes": 1}
    FilestoreCopy.objects.create(
        environment=environment, policy=policy, name="between", key="k", sha256="f" * 64, taken_at=at, **counts
    )


def raise_alarm(environment: Any, kind: str, **words: Any) -> RaisedAlarm:
    values = {"sentence": "It is wrong.", "since": NOW, "raised_at": NOW, "told_at": NOW, **words}
    return RaisedAlarm.objects.create(environment=environment, kind=kind, **values)


def test_each_environment_tells_how_it_stands(estate: SmallEstate, rio: User) -> None:
    place = estate.production
    backup_policy(place)
    proved = recorded_point(place, "p1", NOW - 3 * DAY, by=rio)
    finished_drill(place, by=rio, target_at=proved.consistent_at, level=3, at=NOW - 2 * DAY)
    recorded_point(place, "p2", NOW - DAY, by=rio)
    ship_wal(place, NOW - DAY, NOW - timedelta(seconds=40))
    copy_attachments(place, at=NOW - timedelta(seconds=50))
    raise_alarm(place, "wal_failing")
    raise_alarm(place, "no_success", quiet_since=NOW)
    raise_alarm(place, "size_anomaly", ended_at=NOW)
    ask_backup(actor=actor(rio), environment_id=place.pk, reason="Before the release.", at=NOW)
    Upkeep.objects.create(environment=place, kind="copies", reached_at=NOW - timedelta(minutes=1))
    label = (str(place.pk),)

    found = figures()

    assert found.pop("recovery_alarm") == {
        (*label, "database_failing"): 0,
        (*label, "no_success"): 0,
        (*label, "wal_failing"): 1,
        (*label, "wal_retained"): 0,
        (*label, "slot_left"): 0,
        (*label, "attachments_failing"): 0,
        (*label, "size_anomaly"): 0,
        (*label, "store_unreachable"): 0,
        (*label, "objects_lost"): 0,
        (*label, "not_locked"): 0,
        (*label, "drill_overdue"): 0,
    }
    assert found == {
        "recovery_last_success_age_seconds": {label: (DAY - timedelta(minutes=5)).total_seconds()},
        "recovery_verified_point_age_seconds": {label: 3 * 86_400},
        "recovery_verified_point_level": {label: 3},
        "recovery_rpo_seconds": {label: 50},
        "recovery_copy_lag_seconds": {label: 60},
        "recovery_wal_retained_bytes": {label: 0},
        "recovery_drill_overdue_seconds": {label: 0},
        "recovery_fault": {(*label, kind): 0 for kind in ("point_broken", "drill_failed", "action_open")},
        "recovery_backups_running": {(): 1},
    }


def test_attachments_that_lag_behind_are_what_would_be_lost(estate: SmallEstate, rio: User) -> None:  # BCK-2
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    ship_wal(estate.production, NOW - HOUR, NOW - timedelta(seconds=5))
    label = (str(estate.production.pk),)

    without = figures()["recovery_rpo_seconds"][label]
    copy_attachments(estate.production, at=NOW - HOUR / 2)

    assert (without, figures()["recovery_rpo_seconds"][label]) == (5, 1800)


def test_wal_behind_a_hole_saves_nothing(estate: SmallEstate, rio: User) -> None:  # BCK-3
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - 2 * DAY, by=rio)
    ship_wal(estate.production, NOW - 2 * DAY, NOW - DAY)
    ship_wal(estate.production, NOW - HOUR, NOW - timedelta(seconds=5))

    assert figures()["recovery_rpo_seconds"] == {(str(estate.production.pk),): 86_400}


def test_a_verified_point_without_its_wal_proves_nothing(estate: SmallEstate, rio: User) -> None:  # BCK-3
    backup_policy(estate.production, at=NOW - 100 * DAY)
    point = recorded_point(estate.production, "p1", NOW - 2 * DAY, by=rio)
    finished_drill(estate.production, by=rio, target_at=point.consistent_at, level=3, at=NOW - DAY)
    WalSegment.objects.all().delete()
    label = (str(estate.production.pk),)

    found = figures()

    assert found["recovery_verified_point_level"][label] == 0
    assert found["recovery_verified_point_age_seconds"][label] == 100 * 86_400
    assert found["recovery_rpo_seconds"][label] == 100 * 86_400


def test_what_never_was_is_as_old_as_the_first_policy(estate: SmallEstate) -> None:  # BCK-1
    backup_policy(estate.production, at=NOW - 100 * DAY)
    label = (str(estate.production.pk),)
    ship_wal(estate.production, NOW - DAY, NOW)

    found = figures()

    assert {name: values[label] for name, values in found.items() if label in values} == {
        "recovery_last_success_age_seconds": 100 * 86_400,
        "recovery_verified_point_age_seconds": 100 * 86_400,
        "recovery_verified_point_level": 0,
        "recovery_rpo_seconds": 100 * 86_400,
        "recovery_copy_lag_seconds": 100 * 86_400,
        "recovery_wal_retained_bytes": 0,
        "recovery_drill_overdue_seconds": 10 * 86_400,
    }


def test_what_checks_found_is_told_and_no_success(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - 2 * DAY, by=rio)
    point = recorded_point(estate.production, "p2", NOW - DAY, by=rio)
    finished_drill(estate.production, by=rio, target_at=point.consistent_at, is_passed=False, at=NOW - HOUR)
    label = (str(estate.production.pk),)

    found = figures()

    assert found["recovery_fault"] == {
        (*label, "point_broken"): 1,
        (*label, "drill_failed"): 1,
        (*label, "action_open"): 0,
    }
    assert found["recovery_last_success_age_seconds"][label] == (2 * DAY - timedelta(minutes=5)).total_seconds()


def test_a_point_that_broke_proves_nothing_and_saves_nothing(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.production)
    point = recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    record_verification(point, level=1, is_passed=False, sentence="A part is gone.", actor=system_actor(), at=NOW)

    found = figures()

    label = (str(estate.production.pk),)
    assert (found["recovery_verified_point_level"][label], found["recovery_rpo_seconds"][label]) == (0, 100 * 86_400)


def test_a_drill_that_restores_nothing_leaves_the_next_overdue(estate: SmallEstate, rio: User) -> None:  # BCK-7
    backup_policy(estate.production, at=NOW - 100 * DAY)
    recorded_point(estate.production, "p1", NOW - DAY, by=rio)

    finished_drill(estate.production, by=rio, target_at=NOW - DAY, level=1, at=NOW - HOUR)

    label = (str(estate.production.pk),)
    assert figures()["recovery_drill_overdue_seconds"] == {label: 10 * 86_400}


def test_as_many_statements_for_one_environment_as_for_many_and_no_name(
    estate: SmallEstate, rio: User, django_assert_num_queries: Any
) -> None:  # BIZ-1
    backup_policy(estate.production)
    with django_assert_num_queries(11):
        figures()
    kite, _ = stranger_estate()
    for place in (estate.staging, kite.production):
        backup_policy(place)
        raise_alarm(place, "store_unreachable", subject="s3://points/northwind")

    with django_assert_num_queries(11):
        found = figures()

    assert BackupPolicy.objects.active().count() == 3
    assert "northwind" not in str(found).lower()
