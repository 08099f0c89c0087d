"""The job that removes: what it leaves to whoever is at work, and that it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import User
from recovery import doors
from recovery.actions.backups import ask_backup
from recovery.actions.points import NewPart, begin_removal
from recovery.actions.retention import ask_retention
from recovery.actions.wal import NewSegment, let_wal_go, record_segment
from recovery.adapters.postgres.wal import archive_folder, finished_key, segment_name, segment_start
from recovery.jobs.removal import remove
from recovery.models import BackupPolicy, BackupRun, RecoveryPoint, WalSegment
from recovery.queries.points import coverage_of
from recovery.queries.upkeep import leaving
from tests.factories import NOW, SmallEstate, small_estate
from tests.factories.estate import actor
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    put_in_force,
    recorded_point,
    recovery_owner,
    seen_removal,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def policy(estate: SmallEstate, rio: User, tmp_path: Path) -> BackupPolicy:
    """A store that holds one point, and attachments nowhere."""
    found = backup_policy(estate.production, store=f"file://{tmp_path}/points", copy_store="")
    BackupPolicy.objects.update(filestore="")
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio, store=found.store)
    doors.open_store(found).ensure_object(f"{doors.prefix_of(estate.production)}/base/p1/facts.json", b"{}")
    return BackupPolicy.objects.get()


def ask(estate: SmallEstate, rio: User) -> None:
    ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="A point.", at=NOW)


def test_job_that_meets_a_backup_says_that_wal_and_copies_stayed(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    order = leaving(policy, at=NOW).to_order(policy)
    alone = remove(order, lambda _: None)
    ask(estate, rio)

    beside_it = remove(order, lambda _: None)

    assert (alone["is_busy"], beside_it["is_busy"]) == (False, True)


def test_job_that_was_ordered_beside_a_backup_names_no_copies_so_they_are_asked_for_again(
    estate: SmallEstate, rio: User, policy: BackupPolicy
) -> None:
    ask(estate, rio)
    order = leaving(policy, at=NOW).to_order(policy)
    BackupRun.objects.update(state="failed")

    assert remove(order, lambda _: None)["is_busy"]


SIZE = 16 * 1024 * 1024


def archived(estate: SmallEstate, *, store: str) -> str:
    """Lay ten segments of WAL there, and return their folder."""
    folder = archive_folder(doors.prefix_of(estate.production), system_identifier="7012", segment_bytes=SIZE)
    for number in range(10):
        name = segment_name(timeline=1, start=number * SIZE, segment_bytes=SIZE)
        key = finished_key(folder, segment=name, reached_at=NOW - (10 - number) * HOUR)
        doors.store_at(store, credential="").ensure_object(key, b"-")
    return folder


@pytest.fixture
def going(estate: SmallEstate, rio: User, policy: BackupPolicy, tmp_path: Path) -> dict[str, Any]:
    """A verified point, one that goes and the last one, in the second, sixth and ninth of ten segments of WAL."""
    copy = f"file://{tmp_path}/copies"
    BackupPolicy.objects.update(copy_store=copy, keep_last=1)
    RecoveryPoint.objects.update(consistent_at=NOW - 9 * HOUR, started_at=NOW - 10 * HOUR, key="proved")
    words: dict[str, Any] = {"by": rio, "store": policy.store}
    place: dict[str, Any] = {"start_lsn": 8 * SIZE + 9, "stop_lsn": 8 * SIZE + 90}
    at = NOW - 5 * HOUR
    parts = (NewPart("database", "goes/base.tar.zst.age", 900, "a" * 64, at, at),)
    middle: dict[str, Any] = {"start_lsn": 5 * SIZE, "stop_lsn": 5 * SIZE + 9, "parts": parts, "filestore_at": None}
    goes = recorded_point(estate.production, "goes", at, **words, **middle)
    recorded_point(estate.production, "last", NOW - HOUR, **words, **place)
    proved = {"start_lsn": SIZE + 9, "stop_lsn": SIZE + 90, "state": "verified", "level": 2, "checked_at": NOW}
    RecoveryPoint.objects.filter(key="proved").update(**proved)
    WalSegment.objects.all().delete()
    folder = archived(estate, store=policy.store)
    archived(estate, store=copy)
    segment = NewSegment("7012", 1, 0, 10 * SIZE, NOW, f"{folder}/x", 1, "", store=policy.store)
    record_segment(environment=estate.production, segment=segment, actor=system_actor(), at=NOW)
    at = clock.now()
    seen = seen_removal(estate.production, at=at)
    ask_retention(actor=actor(rio), environment_id=estate.production.pk, at=at, **seen)
    assert begin_removal(point_id=goes.pk, actor=system_actor(), at=at)
    return {"folder": folder, "stores": [policy.store, copy], "lost": seen["seen_lost"]}


def numbers_in(store: str, folder: str) -> list[int]:
    found = doors.store_at(store, credential="").observe_objects(folder)
    return sorted(segment_start(one.key.split("/")[-2], segment_bytes=SIZE) // SIZE for one in found)


def test_times_are_offered_no_more_before_a_byte_of_their_wal_goes(
    estate: SmallEstate, policy: BackupPolicy, going: dict[str, Any]
) -> None:
    """The worker is killed between the two: what is offered is there at every moment."""
    policy.refresh_from_db()

    let_wal_go(policy, actor=system_actor(), at=NOW)

    assert going["lost"] == [(NOW - 9 * HOUR, NOW - HOUR)]
    coverage = coverage_of(estate.production)
    assert [(one.start, one.end) for one in coverage.spans] == [(NOW - 9 * HOUR, NOW - 9 * HOUR), (NOW - HOUR, NOW)]
    for store in going["stores"]:
        assert numbers_in(store, going["folder"]) == list(range(10))
    remove(leaving(policy, at=NOW).to_order(policy), lambda _: None)
    for store in going["stores"]:
        assert numbers_in(store, going["folder"]) == [1, 2, 8, 9]
    assert coverage_of(estate.production) == coverage


def test_daily_look_takes_no_time_that_nobody_let_go(estate: SmallEstate, rio: User, policy: BackupPolicy) -> None:
    BackupPolicy.objects.update(keep_last=1)
    times = {"started_at": NOW - 10 * HOUR, "consistent_at": NOW - 9 * HOUR}
    RecoveryPoint.objects.update(start_lsn=SIZE + 9, stop_lsn=SIZE + 90, **times)
    place: dict[str, Any] = {"start_lsn": 8 * SIZE + 9, "stop_lsn": 8 * SIZE + 90}
    recorded_point(estate.production, "last", NOW - HOUR, by=rio, store=policy.store, **place)
    folder = archived(estate, store=policy.store)

    remove(leaving(policy, at=NOW).to_order(policy), lambda _: None)

    assert numbers_in(policy.store, folder) == list(range(1, 10))


def test_what_is_counted_on_where_copies_go_now_stays(
    estate: SmallEstate, policy: BackupPolicy, going: dict[str, Any]
) -> None:
    """It was the store of an earlier policy."""
    store, copy = going["stores"]
    segment = NewSegment("7012", 1, 0, 10 * SIZE, NOW, f"{going['folder']}/x", 1, "", store=copy)
    record_segment(environment=estate.production, segment=segment, actor=system_actor(), at=NOW)
    policy.refresh_from_db()

    remove(leaving(policy, at=NOW).to_order(policy), lambda _: None)

    assert [numbers_in(one, going["folder"]) for one in (store, copy)] == [[1, 2, 8, 9], list(range(10))]


def test_policy_that_comes_into_force_while_the_job_waits_takes_no_time(
    estate: SmallEstate, policy: BackupPolicy, going: dict[str, Any]
) -> None:
    policy.refresh_from_db()
    order = leaving(policy, at=NOW).to_order(policy)
    put_in_force(estate.production, keep_daily=30, created_at=clock.now())

    remove(order, lambda _: None)

    assert numbers_in(policy.store, going["folder"]) == list(range(1, 10))


def test_point_that_was_checked_since_the_asking_takes_the_lead_from_none(
    policy: BackupPolicy, going: dict[str, Any]
) -> None:
    """It may have been broken then, and another one have led on."""
    RecoveryPoint.objects.filter(key="last").update(checked_at=clock.now() + HOUR)
    policy.refresh_from_db()

    remove(leaving(policy, at=NOW).to_order(policy), lambda _: None)

    assert numbers_in(policy.store, going["folder"]) == list(range(1, 10))


def test_backup_that_was_recorded_after_the_asking_takes_no_more_than_was_said(
    estate: SmallEstate, rio: User, policy: BackupPolicy, going: dict[str, Any]
) -> None:
    place: dict[str, Any] = {"start_lsn": 9 * SIZE + 9, "stop_lsn": 9 * SIZE + 90}
    at = clock.now()
    recorded_point(estate.production, "later", at, by=rio, store=policy.store, **place)
    policy.refresh_from_db()

    remove(leaving(policy, at=at).to_order(policy), lambda _: None)

    assert numbers_in(policy.store, going["folder"]) == [1, 2, 8, 9]
