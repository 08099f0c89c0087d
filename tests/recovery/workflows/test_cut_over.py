"""A crash after any line of a restore into production: each of its parts is asked for once, and recorded once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import AuditEvent, Environment, Message, Revision, Run, RunTarget
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork
from recovery.actions.cut_overs import begin_cut_over
from recovery.models import BackupPolicy, BackupRun, CutOver, RecoveryPoint, Restore
from recovery.workflows import backup, cut_over, restore
from recovery.workflows.cut_over import CutOverWork
from tests.deployments.workflows.test_crashes import EVERY
from tests.factories import draft_change
from tests.factories.changes import plan_for
from tests.factories.estate import SmallEstate
from tests.factories.recovery import HOUR, recorded_point, recovery_owner
from tests.recovery.workflows import test_crashes
from tests.recovery.workflows.test_crashes import Crash, CrashAt

OPENED_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
LEADS_TO = {"succeeded": "kept", "rolled_back": "abandoned", "taken back": "abandoned"}
IN_PLACE = {"succeeded": OPENED_AT, "rolled_back": None, "taken back": None}
EVENTS = ("recovery:backup", "recovery:restore", "recovery:cut_over", "recovery:policy", "estate")
estate = test_crashes.estate


def waiting_run(estate: SmallEstate, *, name: str) -> Run:
    """Return a run as the rollout side leaves it for recovery: in its preflight, at its step."""
    at, production = clock.now(), Environment.objects.get(pk=estate.production.pk)
    change = draft_change(estate, at=at, kind="restore")
    words = {"number": 1, "author": change.requester, "created_at": at, "content": change.draft}
    change.revision = Revision.objects.create(change=change, **words)
    change.save(update_fields=["revision"])
    asked = {
        "environment": production.slug,
        "point": "p1",
        "to": RecoveryPoint.objects.get(key="p1").consistent_at.isoformat(),
        "from_database": production.database,
        "to_database": name,
        "to_filestore": f"file:///var/lib/restored/northwind/{name}",
        "server": "file:/run/secrets/northwind-restores",
        "keep_hours": 24,
    }
    return Run.objects.create(
        change=change,
        revision=change.revision,
        plan=plan_for(change, at=at, restore=asked),
        kind="rollout",
        state="preflight",
        step="prepare",
        data={"preflight_at": at.isoformat()},
        created_at=at,
    )


def carry_out(run: Run, *, crash_at: tuple[str, int] | None, ends: str = "succeeded") -> CrashAt:
    """Tick until it is over, with one crash on the way; the rollout opens its wave and ends once that is recorded."""
    tracer = CrashAt(crash_at)
    others: tuple[Any, ...] = (backup.Backup(), restore.RestoreRun(), JobWork())
    for _ in range(60):
        newest = CutOver.objects.filter(run=run).order_by("-pk").first()
        if newest is not None and newest.state == LEADS_TO[ends] and newest.in_place_at == IN_PLACE[ends]:
            return tracer
        if newest is not None and newest.state == "ready" and newest.in_place_at is None:
            Run.objects.filter(pk=run.pk, wave_opened_at=None).update(state="baking", wave_opened_at=OPENED_AT)
        elif newest is not None and newest.state == "ready":
            Run.objects.filter(pk=run.pk).update(state="aborted" if ends == "taken back" else ends)
        elif newest is not None and newest.state == "abandoned":
            Run.objects.filter(pk=run.pk).update(state="rolled_back")
        try:
            with tracer:
                cut_over.CutOverWork().find(clock.now())
                engine.tick(cut_over.CutOverWork())
        except Crash:
            connections.close_all()
            tracer.chosen = None
            clock.set_offset(clock._offset + timedelta(seconds=engine.LEASE_SECONDS + 1))
        for other in others:
            engine.tick(other)
        clock.set_offset(clock._offset + timedelta(seconds=3))
    raise AssertionError(f"It did not end: {list(CutOver.objects.values('state', 'sentence', 'trouble'))}")


def recorded() -> list[int]:
    models: tuple[Any, ...] = (BackupRun, Restore, CutOver, BackupPolicy)
    counts = [model.objects.count() for model in models]
    return [*counts, *(AuditEvent.objects.filter(tag__startswith=tag).count() for tag in EVENTS)]


@pytest.mark.slow
@pytest.mark.parametrize("ends", list(LEADS_TO))
def test_a_crash_after_any_line_of_a_cut_over_records_everything_once(
    estate: SmallEstate, ends: str
) -> None:  # RUN-1, BCK-4
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind_0")
    with transaction.atomic():
        recorded_point(estate.production, "p1", clock.now() - HOUR, by=recovery_owner(estate))
    count = 0

    def story(crash_at: tuple[str, int] | None) -> tuple[CrashAt, list[int]]:
        nonlocal count
        count += 1
        before = recorded()
        was_in_use = Environment.objects.get(pk=estate.production.pk).database
        run = waiting_run(estate, name=f"northwind_{count}")
        tracer = carry_out(run, crash_at=crash_at, ends=ends)
        in_use = Environment.objects.get(pk=estate.production.pk).database
        assert in_use == (f"northwind_{count}" if ends == "succeeded" else was_in_use)
        return tracer, [after - was for was, after in zip(before, recorded(), strict=True)]

    tracer, expected = story(None)

    for line in list(tracer.lines)[::EVERY]:
        _, found = story(line)
        assert found == expected, line
    assert len(tracer.lines) > 20
    clock.set_offset(timedelta())


@pytest.mark.parametrize(
    ("state", "has_opened", "target", "words"),
    [
        ("aborted", True, "healthy", "may be in use, and backups go on with it"),
        ("aborted", True, "updating", "may be in use, and backups go on with it"),
        ("aborted", True, "deferred", "may be in use, and backups go on with it"),
        ("rollback_failed", True, "healthy", "may be in use, and backups go on with it"),
        ("rolled_back", True, "reverted", "stays, and nothing uses it."),
        ("aborted", True, "pending", "stays, and nothing uses it."),
        ("aborted", False, "pending", "stays, and nothing uses it."),
    ],
)
def test_a_run_that_ends_in_the_middle_leaves_nobody_sure_which_database_is_in_use(
    estate: SmallEstate, *, state: str, has_opened: bool, target: str, words: str
) -> None:  # BCK-4
    rio = recovery_owner(estate)
    with transaction.atomic():
        recorded_point(estate.production, "p1", clock.now() - HOUR, by=rio)
    run = waiting_run(estate, name="northwind_1")
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind_0")
    with transaction.atomic():
        made = begin_cut_over(run_id=run.pk, actor=system_actor(), at=clock.now())
    assert made is not None
    CutOver.objects.filter(pk=made.pk).update(state="ready", old_database="northwind_0")
    Run.objects.filter(pk=run.pk).update(state=state, wave_opened_at=clock.now() if has_opened else None)
    RunTarget.objects.create(run=run, environment=estate.production, wave=0, state=target)
    Message.objects.all().delete()

    engine.drain(CutOverWork(), budget_seconds=30)

    made.refresh_from_db()
    assert made.state == "abandoned"
    in_use = Environment.objects.get(pk=estate.production.pk).database
    assert in_use == ("northwind_1" if "may be in use" in words else "northwind_0")
    assert (made.in_place_at is not None) == ("may be in use" in words)
    assert words in made.sentence
    told = Message.objects.filter(recipient=rio, subject__endswith="Nobody knows which database is in use")
    assert told.exists() == ("may be in use" in words)


def test_what_somebody_named_since_is_not_taken_back(estate: SmallEstate) -> None:  # BCK-4
    with transaction.atomic():
        recorded_point(estate.production, "p1", clock.now() - HOUR, by=recovery_owner(estate))
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind_0")
    run = waiting_run(estate, name="northwind_1")
    with transaction.atomic():
        made = begin_cut_over(run_id=run.pk, actor=system_actor(), at=clock.now())
    assert made is not None
    CutOver.objects.filter(pk=made.pk).update(state="ready")
    Run.objects.filter(pk=run.pk).update(state="rollback_failed", wave_opened_at=clock.now())
    engine.drain(CutOverWork(), budget_seconds=30)
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind_2")
    Run.objects.filter(pk=run.pk).update(state="rolled_back")

    CutOverWork().find(clock.now())

    made.refresh_from_db()
    assert made.in_place_at is None
    assert Environment.objects.get(pk=estate.production.pk).database == "northwind_2"
