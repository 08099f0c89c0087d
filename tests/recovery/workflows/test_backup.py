from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import Job, Message, User
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork
from recovery.actions.backups import ask_backup, cancel_backup, plan_backup
from recovery.actions.drills import start_drill
from recovery.jobs.drill import practise
from recovery.jobs.saying import Saying
from recovery.models import BackupPolicy, BackupRun, Drill, FilestoreCopy, RecoveryPoint, Verification, WalSegment
from recovery.models.backup import BackupKind
from recovery.queries.points import coverage_of
from recovery.queries.progress import progress_of
from recovery.workflows.backup import Backup
from tests.factories.estate import actor
from tests.recovery.workflows.conftest import Shop

pytestmark = pytest.mark.slow


def test_a_backup_asked_for_becomes_a_point_that_is_one_set_in_both_places(shop: Shop, rio: User) -> None:  # BCK-2
    shop.sell()
    run = ask_backup(
        actor=actor(rio), environment_id=shop.estate.production.pk, reason="Before the release.", at=clock.now()
    )
    waiting = progress_of(run, at=clock.now())

    shop.work(lambda: RecoveryPoint.objects.exists())

    run.refresh_from_db()
    point = RecoveryPoint.objects.get()
    assert waiting is None
    assert (run.state, run.sentence) == ("succeeded", f"Point {point.key} is copied.")
    assert (point.state, point.level, point.run) == ("copied", 0, run)
    assert [one.kind for one in point.parts.all()] == [
        "database",
        "database_manifest",
        "filestore_manifest",
        "configuration",
    ]
    database = point.parts.get(kind="database")
    folder = f"{database.key}.parts/"
    assert database.size == sum(size for key, size in files_below(shop.objects).items() if key.startswith(folder))
    assert 0 not in point.parts.values_list("size", flat=True)
    assert point.modules == {"base": "19.0.1.3", "sale": "19.0.1.2"}
    assert point.filestore_copy.file_count == 1
    assert sorted(one.store for one in point.copies.all()) == sorted([shop.policy.store, shop.policy.copy_store])
    assert all(files_below(shop.folder / "elsewhere").get(key) == size for key, size in parts_of(shop).items())
    shop.work(lambda: coverage_of(shop.estate.production).holds(point.finished_at))


def parts_of(shop: Shop) -> dict[str, int]:
    return {
        key: size
        for key, size in files_below(shop.objects).items()
        if "/base/" in key or "/filestore/points" in key or "/sets/" in key
    }


def files_below(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_attachments_are_copied_between_backups_and_wal_is_one_stretch(shop: Shop) -> None:
    shop.sell()

    shop.work(lambda: FilestoreCopy.objects.filter(file_count=1).exists() and WalSegment.objects.exists())
    shop.sell()
    shop.work(lambda: FilestoreCopy.objects.filter(file_count=2).exists())

    assert WalSegment.objects.count() == 1
    assert not Job.objects.filter(state="done", kind="attachments").exists()


def test_the_schedule_begins_a_backup_once(shop: Shop) -> None:
    backup, at = Backup(), clock.now() + timedelta(days=1)

    for _ in range(2):
        backup.find(at)
    backup.find(clock.now())

    run = BackupRun.objects.get()
    assert run.asked_by is None
    assert run.due_at is not None
    assert run.due_at <= at


def test_an_incremental_follows_its_full_backup_and_is_restored_through_it(shop: Shop, rio: User) -> None:
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET summarize_wal = on")
        connection.execute("SELECT pg_reload_conf()")
    BackupPolicy.objects.update(incrementals=2)
    shop.sell()
    ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="A full one.", at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.exists())
    shop.sell()

    Backup().find(clock.now() + timedelta(days=1))
    BackupRun.objects.filter(state="queued").update(next_due_at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.count() == 2)

    newest, full = RecoveryPoint.objects.all()
    assert (newest.kind, newest.parent) == ("incremental", full)
    shop.work(lambda: coverage_of(shop.estate.production).holds(newest.consistent_at))
    drill = start_drill(
        actor=actor(rio),
        environment_id=shop.estate.production.pk,
        level=2,
        target_at=newest.consistent_at,
        at=clock.now(),
    )
    shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())
    drill.refresh_from_db()
    assert (drill.state, drill.point, [one.sentence for one in drill.checks.filter(is_passed=False)]) == (
        "passed",
        newest,
        [],
    )
    said: list[Mapping[str, Any]] = []
    practise({"drill": drill.pk}, said.append)
    fetching = [one for one in said if one["sentence"] == "Fetching the copy."]
    assert {one["total_bytes"] for one in fetching} == {full.size + newest.size}


def test_a_database_that_does_not_answer_fails_the_backup_in_words(shop: Shop, rio: User) -> None:
    (shop.folder / "source").write_text("postgresql://nobody:canary-word@127.0.0.1:1/postgres")
    run = ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="Try.", at=clock.now())

    shop.work(lambda: Job.objects.filter(key=f"backup/{run.pk}", attempts__gte=1).exists())

    job = Job.objects.get(key=f"backup/{run.pk}")
    assert "connection" in job.trouble.lower()
    assert "canary-word" not in job.trouble


def test_a_parent_that_the_store_has_lost_is_not_built_upon_and_the_backup_says_so(shop: Shop, rio: User) -> None:
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET summarize_wal = on")
        connection.execute("SELECT pg_reload_conf()")
    ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="A full one.", at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.exists())
    parent, at = RecoveryPoint.objects.get(), clock.now()
    next((shop.objects / "northwind/production/base" / parent.key / "base.tar.zst.age.parts").rglob("0*0")).unlink()

    plan_backup(policy=shop.policy, kind=BackupKind.INCREMENTAL, due_at=at, actor=system_actor(), at=at)
    shop.work(lambda: RecoveryPoint.objects.count() == 2)

    newest = RecoveryPoint.objects.latest("pk")
    assert (newest.kind, newest.parent) == ("base", None)
    assert newest.run is not None
    assert f"It is a full one, for nothing could be built upon {parent.key}: Part 1 of " in newest.run.sentence
    told = Message.objects.get(recipient=rio, subject="Northwind production: A backup with a flaw")
    assert parent.key in told.text


def test_a_fault_of_a_parent_breaks_it_and_all_that_build_upon_it(shop: Shop, rio: User) -> None:
    with psycopg.connect(shop.server.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET summarize_wal = on")
        connection.execute("SELECT pg_reload_conf()")
    for kind in (BackupKind.BASE, BackupKind.INCREMENTAL, BackupKind.INCREMENTAL):
        at = clock.now()
        plan_backup(policy=shop.policy, kind=kind, due_at=at, actor=system_actor(), at=at)
        shop.work(lambda: not BackupRun.objects.exclude(state="succeeded").exists())
    last, middle, full = RecoveryPoint.objects.all()
    assert (last.parent, middle.parent) == (middle, full)
    shop.work(lambda: coverage_of(shop.estate.production).holds(last.consistent_at))
    part = next((shop.objects / "northwind/production/base" / middle.key / "base.tar.zst.age.parts").rglob("0*0"))
    part.write_bytes(b"x" + part.read_bytes()[1:])

    drill = start_drill(
        actor=actor(rio),
        environment_id=shop.estate.production.pk,
        level=1,
        target_at=last.consistent_at,
        at=clock.now(),
    )
    shop.work(lambda: Drill.objects.filter(pk=drill.pk, state__in=["passed", "failed"]).exists())

    drill.refresh_from_db()
    assert (drill.state, drill.point) == ("failed", last)
    assert list(RecoveryPoint.objects.order_by("pk").values_list("state", flat=True)) == ["copied", "broken", "broken"]
    assert "its digest is another" in Verification.objects.get(point=middle).sentence
    assert Verification.objects.get(point=last).sentence.startswith(f"It builds upon {middle.key}, which is broken.")


def asked(shop: Shop, rio: User) -> BackupRun:
    return ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="A point.", at=clock.now())


def canceled(run: BackupRun, rio: User) -> None:
    cancel_backup(actor=actor(rio), run_id=run.pk, reason="The shop is slow.", at=clock.now())


def test_a_backup_that_is_canceled_in_the_middle_of_its_work_stops_and_makes_no_point(
    shop: Shop, rio: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sell()
    run, begin = asked(shop, rio), Saying.begin

    def canceled_meanwhile(self: Saying, phase: str, *words: Any, **more: Any) -> None:
        begin(self, phase, *words, **more)
        if phase == "wal":
            canceled(run, rio)
            time.sleep(60)  # Its process looks every ten seconds whether it is to stop.

    monkeypatch.setattr(Saying, "begin", canceled_meanwhile)
    shop.work(lambda: Job.objects.filter(key=f"backup/{run.pk}").exclude(state="open").exists())
    monkeypatch.undo()

    run.refresh_from_db()
    job = Job.objects.get(key=f"backup/{run.pk}")
    assert (run.state, run.sentence) == ("canceled", "Rio canceled it: The shop is slow.")
    assert (job.state, job.reason) == ("stopped", "Stopped because somebody asked for it.")
    assert not RecoveryPoint.objects.exists()
    asked(shop, rio)
    shop.work(lambda: RecoveryPoint.objects.exists())
    assert RecoveryPoint.objects.get().run_id != run.pk


def test_work_that_a_tick_orders_while_its_backup_is_canceled_copies_nothing(shop: Shop, rio: User) -> None:
    run = asked(shop, rio)
    engine.tick(Backup())
    [under_way] = engine.claim(Backup(), at=clock.now())
    canceled(run, rio)
    engine.settle(Backup(), under_way, engine.step(Backup(), under_way.row, at=clock.now()), at=clock.now())

    ordered = Job.objects.get(key=f"backup/{run.pk}")
    while engine.tick(JobWork()):
        pass

    assert ordered.state == "open"
    ordered.refresh_from_db()
    assert (ordered.state, ordered.reason) == ("failed", "Its backup is over.")
    assert not (shop.objects / "northwind/production/base").exists()
