from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine

from changecontrol import clock
from changecontrol.actions.jobs import end_job, ensure_job
from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.adapters.jobs import open_cluster
from changecontrol.errors import Conflict
from changecontrol.models import Job, User
from changecontrol.workflow import engine
from changecontrol.workflows.placing import look_after
from recovery.actions.backups import ask_backup
from recovery.actions.drills import start_drill
from recovery.actions.holds import place_hold
from recovery.actions.restores import ask_restore
from recovery.actions.retention import ask_retention
from recovery.actions.upkeep import end_round, ensure_upkeep
from recovery.adapters.postgres.wal import segment_start
from recovery.models import (
    BackupPolicy,
    BackupRun,
    Disagreement,
    Drill,
    FilestoreCopy,
    RecoveryPoint,
    Upkeep,
    WalSegment,
)
from recovery.models.point import UpkeepKind
from recovery.queries.points import coverage_of
from recovery.queries.restores import preview_of
from recovery.queries.upkeep import leaving, points_by_server
from recovery.rules.times import exact_moment
from recovery.workflows.upkeep import UpkeepWork
from tests.contracts.jobs.conftest import PLACE
from tests.factories import SmallEstate, small_estate
from tests.factories.estate import NOW, actor
from tests.factories.recovery import (
    DUMP,
    DUMPS,
    HOUR,
    backup_policy,
    copy_attachments,
    recorded_point,
    recovery_owner,
    seen_removal,
    ship_wal,
)
from tests.recovery.workflows.conftest import Shop

SEGMENT_BYTES = 16 * 1024 * 1024


def back_up(shop: Shop, rio: User) -> RecoveryPoint:
    count = RecoveryPoint.objects.count()
    ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="A point.", at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.count() > count)
    return RecoveryPoint.objects.latest("pk")


def let_go(shop: Shop, rio: User) -> dict[str, Any]:
    """Ask for what the retention page shows to be removed; return what it showed."""
    place, at = shop.estate.production, clock.now()
    seen = seen_removal(place, at=at)
    ask_retention(actor=actor(rio), environment_id=place.pk, at=at, **seen)
    return seen


def objects_of(shop: Shop, folder: str) -> list[Path]:
    below = [place / "northwind/production" / folder for place in (shop.objects, shop.folder / "elsewhere")]
    return [path for place in below for path in place.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_what_was_asked_to_go_goes_from_every_store_with_the_wal_that_leads_nowhere(shop: Shop, rio: User) -> None:
    BackupPolicy.objects.update(keep_last=1)
    shop.sell()
    first = back_up(shop, rio)
    shop.sell()
    second = back_up(shop, rio)
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    before = WalSegment.objects.get()
    let_go(shop, rio)

    shop.work(lambda: RecoveryPoint.objects.filter(pk=first.pk, state="removed").exists())

    assert not [path for path in objects_of(shop, f"base/{first.key}") if path.is_file()]
    assert not [path for path in objects_of(shop, "sets") if first.key in path.name]
    assert len(objects_of(shop, f"base/{second.key}")) > 4
    assert FilestoreCopy.objects.get(point=first).removed_at is not None
    assert FilestoreCopy.objects.get(point=second).removed_at is None
    left = WalSegment.objects.get()
    assert before.start_lsn < left.start_lsn <= second.start_lsn
    assert not coverage_of(shop.estate.production).holds(first.consistent_at)
    shop.work(lambda: coverage_of(shop.estate.production).holds(shop.now() - timedelta(seconds=5)))


def drilled(shop: Shop, rio: User, *, target_at: datetime) -> Drill:
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": shop.estate.production.pk, "at": clock.now()}
    drill = start_drill(**words, level=2, target_at=target_at)
    shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())
    drill.refresh_from_db()
    return drill


def fill(shop: Shop) -> None:
    """Write some segments of WAL, and wait until they are shipped."""
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        for _ in range(4):
            connection.execute("SELECT pg_logical_emit_message(false, 'fill', 'x'), pg_switch_wal()")
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))


@pytest.mark.slow
def test_times_that_went_with_points_are_offered_no_more_and_break_no_point(shop: Shop, rio: User) -> None:
    """The last verified point stays, and no WAL leads on from it to the last point: nothing may say that it does."""
    BackupPolicy.objects.update(keep_last=1)
    place = shop.estate.production
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": place.pk}
    proved = back_up(shop, rio)
    shop.work(lambda: coverage_of(place).holds(proved.consistent_at))
    assert drilled(shop, rio, target_at=proved.consistent_at).state == "passed"
    fill(shop)
    between = shop.now()
    fill(shop)
    goes, last = back_up(shop, rio), back_up(shop, rio)
    at = shop.now()
    shop.work(lambda: coverage_of(place).holds(at))
    before = len(objects_of(shop, "wal"))
    assert coverage_of(place).backup_for(between) == proved.key

    seen = let_go(shop, rio)
    shop.work(lambda: RecoveryPoint.objects.filter(pk=goes.pk, state="removed").exists())

    assert seen == {"seen_goes": [goes.key], "seen_lost": [(proved.consistent_at, last.consistent_at)]}
    assert len(objects_of(shop, "wal")) < before
    coverage = coverage_of(place)
    assert coverage.gaps == ((proved.consistent_at, last.consistent_at),)
    assert preview_of(place, coverage=coverage, target_at=between, at=clock.now()) is None
    told = f"is in a gap. The last safe time before it is {exact_moment(proved.consistent_at)}."
    with pytest.raises(Conflict, match=re.escape(told)):
        ask_restore(**words, target_at=between, target_database="a_look", reason="A look.", at=clock.now())
    with pytest.raises(Conflict, match="is in a gap"):
        start_drill(**words, level=2, target_at=between, at=clock.now())
    assert drilled(shop, rio, target_at=proved.consistent_at).state == "passed"
    compared = Upkeep.objects.filter(kind="comparison")
    count = compared.get().count
    compared.update(next_due_at=clock.now())
    shop.work(lambda: compared.get().count > count)
    assert not Disagreement.objects.exists()
    assert not coverage_of(place).holds(between)
    proved.refresh_from_db()
    assert (proved.state, proved.level) == ("verified", 2)


@pytest.mark.slow
def test_drill_of_a_time_that_nobody_counts_on_any_more_meets_a_gap_and_breaks_no_point(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    fill(shop)
    at = shop.now()
    fill(shop)
    shop.quiet()
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": shop.estate.production.pk, "at": clock.now()}
    drill = start_drill(**words, level=2, target_at=at)
    # As the comparison leaves it where WAL is gone from the store.
    WalSegment.objects.update(end_lsn=point.stop_lsn, ends_at=point.consistent_at)
    for path in objects_of(shop, "wal"):
        name = path.parent.name
        if len(name) == 24 and segment_start(name, segment_bytes=SEGMENT_BYTES) > point.stop_lsn + SEGMENT_BYTES:
            path.unlink()

    shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())

    drill.refresh_from_db()
    failed = [(one.name, one.is_about_copy) for one in drill.checks.filter(is_passed=False)]
    assert (drill.state, failed) == ("failed", [("Unpacked against its manifest", False)])
    assert "is not covered: " in drill.checks.get(is_passed=False).sentence
    point.refresh_from_db()
    assert point.state == "copied"


@pytest.mark.slow
def test_a_hold_placed_after_the_asking_keeps_the_point_and_all_wal(shop: Shop, rio: User) -> None:
    BackupPolicy.objects.update(keep_last=1)
    first, second = back_up(shop, rio), back_up(shop, rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": shop.estate.production.pk, "at": clock.now()}
    let_go(shop, rio)
    place_hold(**words, name="Case 7", reason="Tax.")
    done_at = Upkeep.objects.filter(kind="retention").values_list("done_at", flat=True)
    earlier = list(done_at.all())

    shop.work(lambda: list(done_at.all()) != earlier)

    assert RecoveryPoint.objects.restorable().filter(pk__in=[first.pk, second.pk]).count() == 2
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    assert coverage_of(shop.estate.production).holds(first.consistent_at)


@pytest.mark.slow
def test_nothing_is_taken_for_removed_from_a_store_that_is_not_mounted(shop: Shop, rio: User) -> None:
    point = back_up(shop, rio)
    at = shop.now()
    shop.work(lambda: coverage_of(shop.estate.production).holds(at))
    # What comes meanwhile would lie in the empty folder.
    shop.quiet()
    Upkeep.objects.exclude(kind="retention").update(next_due_at=clock.now() + timedelta(days=99))
    away = shop.objects.with_name("away")
    shop.objects.rename(away)
    row = Upkeep.objects.filter(kind="retention")
    row.update(next_due_at=clock.now())

    shop.work(lambda: Job.objects.filter(kind="remove", trouble__startswith="Nothing at all lies at").exists())

    assert coverage_of(shop.estate.production).holds(at)
    if shop.objects.exists():
        shop.objects.rmdir()
    away.rename(shop.objects)
    count = row.get().count
    shop.work(lambda: row.get().count > count)
    assert coverage_of(shop.estate.production).holds(at)
    assert RecoveryPoint.objects.get(pk=point.pk).state == "copied"


def test_what_is_only_asked_to_go_keeps_the_wal_that_makes_it_consistent(db: None) -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    policy = backup_policy(estate.production, keep_last=1)
    for hours in (3, 2, 1):
        recorded_point(estate.production, f"p{hours}", NOW - hours * HOUR, by=rio)
    RecoveryPoint.objects.filter(key="p3").update(removal_asked_at=NOW, removal_asked_by=rio)
    RecoveryPoint.objects.filter(key="p2").update(removing_at=NOW)

    servers = points_by_server(policy) or {}

    assert sorted(one.key for one in servers["7012"]) == ["p1", "p3"]


def test_broken_points_and_other_servers_set_no_floor_for_wal(db: None) -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    policy = backup_policy(estate.production, keep_last=2)
    good = recorded_point(estate.production, "good", NOW - 3 * HOUR, by=rio)
    for hours in (2, 1):
        recorded_point(estate.production, f"broken-{hours}", NOW - hours * HOUR, by=rio)
    RecoveryPoint.objects.exclude(pk=good.pk).update(state="broken")
    recorded_point(estate.production, "elsewhere", NOW, by=rio, system_identifier="8000")
    ship_wal(estate.production, NOW - 4 * HOUR, NOW)

    servers = points_by_server(policy) or {}

    assert {server: [one.key for one in rows] for server, rows in servers.items()} == {
        "7012": ["good"],
        "8000": ["elsewhere"],
    }
    assert leaving(policy, at=NOW).has_wal


def test_dumps_need_no_wal_and_let_copies_before_them_go(db: None) -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    backup_policy(estate.production)
    copy_attachments(estate.production, NOW - 9 * HOUR)
    copy_attachments(estate.production, NOW - HOUR / 2)
    BackupPolicy.objects.update(**DUMPS, keep_last=2)
    policy = BackupPolicy.objects.get()
    for hours in (3, 2, 1):
        recorded_point(estate.production, f"dump-{hours}", NOW - hours * HOUR, by=rio, **DUMP)

    servers = points_by_server(policy) or {}

    assert {server: [one.key for one in rows] for server, rows in servers.items()} == {
        "": ["dump-1", "dump-2", "dump-3"]
    }
    leave = leaving(policy, at=NOW)
    assert [FilestoreCopy.objects.get(pk=pk).taken_at for pk in leave.copies] == [NOW - 9 * HOUR]
    assert leave.has_wal


def test_nothing_goes_while_a_backup_is_taken(db: None) -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    policy = backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)

    ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="A point.", at=NOW)

    leave = leaving(policy, at=NOW)
    assert points_by_server(policy) is None
    assert (leave.is_empty, leave.is_busy) == (True, True)


def test_nothing_goes_while_everything_is_held_and_nobody_is_waited_for(db: None) -> None:
    estate = small_estate()
    rio = recovery_owner(estate)
    policy = backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="A point.", at=NOW)

    place_hold(actor=actor(rio), environment_id=estate.production.pk, name="Case 24-7", reason="A lawyer asks.", at=NOW)

    leave = leaving(policy, at=NOW)
    assert points_by_server(policy) == {}
    assert (leave.is_empty, leave.is_busy) == (True, False)


def retention_of(shop: SmallEstate) -> Upkeep:
    return ensure_upkeep(shop.production, kind=UpkeepKind.RETENTION, at=NOW)


def looked(row: Upkeep, *, at: datetime) -> Upkeep:
    """Let the daily look at what may go happen once."""
    with time_machine.travel(at, tick=False):
        assert engine.tick(UpkeepWork()) == 1
    row.refresh_from_db()
    return row


def test_look_that_meets_a_backup_is_not_done_and_comes_again_within_the_hour(db: None) -> None:
    """Once a day, a few seconds later each day, it would meet the same backup for months."""
    estate = small_estate()
    rio = recovery_owner(estate)
    policy = backup_policy(estate.production)
    recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    run = ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="A point.", at=NOW)

    row = looked(retention_of(estate), at=NOW)

    assert (row.done_at, row.next_due_at, row.trouble) == (None, NOW + HOUR, "")
    assert not Job.objects.exists()
    BackupRun.objects.filter(pk=run.pk).update(state="failed")
    looked(row, at=NOW + HOUR)
    assert Job.objects.get().order == {"policy": policy.pk, "points": [], "copies": [], "is_busy": False}


@pytest.mark.parametrize("is_busy", [True, False])
def test_round_that_left_wal_to_a_backup_is_not_done_and_comes_again_within_the_hour(db: None, is_busy: bool) -> None:
    estate = small_estate()
    backup_policy(estate.production)
    row = retention_of(estate)
    job = ensure_job(key=row.job_key, kind="remove", order={}, at=NOW)
    result = {"points": [], "copies": [], "is_busy": is_busy}
    end_job(job, "finish", result=result, at=NOW)

    looked(row, at=NOW)

    if is_busy:
        assert (row.count, row.done_at, row.next_due_at) == (1, None, NOW + HOUR)
    else:
        assert (row.count, row.done_at, row.next_due_at) == (1, NOW, NOW + 24 * HOUR)


def test_what_did_a_round_in_a_cluster_is_cleared_away_and_no_rows_pile_up(db: None) -> None:
    at = clock.now()
    row = Upkeep.objects.create(environment=small_estate().production, kind=UpkeepKind.ATTACHMENTS)
    other = ensure_job(key=f"upkeep/{row.pk}0/0", kind="attachments", order={}, at=at + HOUR)
    cluster = FakeKubernetes()
    cluster.kinds.add(("v1", "Pod"))

    def look() -> None:
        place = replace(PLACE, namespace="shop")
        look_after(lambda: open_cluster(cluster, place=place), kinds=["attachments"], at_once=4, at=clock.now())

    def round_done() -> None:
        job = ensure_job(key=row.job_key, kind="attachments", order={}, at=at)
        look()
        end_job(job, "finish", at=at)
        Job.objects.filter(pk=job.pk).update(next_due_at=None)
        end_round(row, job, at=at)

    round_done()
    left = Job.objects.exclude(pk=other.pk).get()
    for _ in range(2):
        look()

    assert (left.key, left.placed_at is None) == (f"upkeep/{row.pk}/0", False)
    assert [(one.verb, one.ref.kind) for one in cluster.effects] == [("applied", "Job"), ("deleted", "Job")]
    round_done()
    assert [job.key for job in Job.objects.exclude(pk=other.pk)] == [f"upkeep/{row.pk}/1"]
    assert Job.objects.filter(pk=other.pk).exists()
    assert row.count == 2
