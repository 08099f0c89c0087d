"""A crash after any line of a restore into production: each of its parts is asked for once, and recorded once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import AuditEvent, Environment, Message, Revision, Run
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


def carry_out(run: Run, *, crash_at: tuple[str, int] | None) -> CrashAt:
    """Tick until the old database is kept, with one crash on the way; the rollout is over once it may begin."""
    tracer = CrashAt(crash_at)
    others: tuple[Any, ...] = (backup.Backup(), restore.RestoreRun(), JobWork())
    for _ in range(60):
        newest = CutOver.objects.filter(run=run).order_by("-pk").first()
        if newest is not None and newest.state == "kept":
            return tracer
        if newest is not None and newest.state == "ready":
            Run.objects.filter(pk=run.pk).update(state="succeeded")
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
def test_a_crash_after_any_line_of_a_cut_over_records_everything_once(estate: SmallEstate) -> None:  # RUN-1, BCK-4
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind_0")
    with transaction.atomic():
        recorded_point(estate.production, "p1", clock.now() - HOUR, by=recovery_owner(estate))
    count = 0

    def story(crash_at: tuple[str, int] | None) -> tuple[CrashAt, list[int]]:
        nonlocal count
        count += 1
        before = recorded()
        tracer = carry_out(waiting_run(estate, name=f"northwind_{count}"), crash_at=crash_at)
        assert Environment.objects.get(pk=estate.production.pk).database == f"northwind_{count}"
        return tracer, [after - was for was, after in zip(before, recorded(), strict=True)]

    tracer, expected = story(None)

    for line in list(tracer.lines)[::EVERY]:
        _, found = story(line)
        assert found == expected, line
    assert len(tracer.lines) > 20
    clock.set_offset(timedelta())


@pytest.mark.parametrize(
    ("state", "has_opened", "words"),
    [
        ("aborted", True, "may be in use, and backups go on with “northwind_0”"),
        ("rollback_failed", True, "may be in use, and backups go on with “northwind_0”"),
        ("rolled_back", True, "stays, and nothing uses it."),
        ("aborted", False, "stays, and nothing uses it."),
    ],
)
def test_a_run_that_ends_in_the_middle_leaves_nobody_sure_which_database_is_in_use(
    estate: SmallEstate, *, state: str, has_opened: bool, words: str
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
    Message.objects.all().delete()

    engine.tick(CutOverWork())

    made.refresh_from_db()
    assert made.state == "abandoned"
    assert words in made.sentence
    told = Message.objects.filter(recipient=rio, subject__endswith="Nobody knows which database is in use")
    assert told.exists() == ("may be in use" in words)
