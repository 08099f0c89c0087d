"""A crash after any line of backups, restores and drills: the next worker carries on, and nothing is recorded twice.

Every fourth line by default; EVERY_LINE=1 takes them all.
Their jobs are played: what a job does is proved with real databases elsewhere, and a job is ordered once by its key.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest
from django.db import connections, transaction

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.actions.rehearsals import move_rehearsal
from changecontrol.models import AuditEvent, Cluster, Job, Rehearsal, User
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork, Report
from recovery.actions.backups import ask_backup
from recovery.actions.drills import cancel_drill, start_drill
from recovery.actions.restores import ask_restore
from recovery.models import BackupRun, Drill, DrillCheck, FilestoreCopy, RecoveryPoint, Restore, Verification
from recovery.workflows import backup, cut_over, drill, drill_elsewhere, drill_phases, restore, steps
from tests.deployments.workflows.test_crashes import EVERY
from tests.factories import small_estate
from tests.factories.estate import SmallEstate, actor
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner
from tests.plugin import TestDatabase

FILES = {one.__file__ for one in (backup, cut_over, drill, drill_elsewhere, drill_phases, restore, steps)}
EVENTS = ("recovery:backup", "recovery:point", "recovery:filestore", "recovery:restore", "recovery:drill", "rehearsal")


class Crash(BaseException):
    """The process is gone: nothing may catch it, and nothing after it runs."""


class CrashAt:
    """Raises at the first execution of the chosen line; with none chosen, lists the lines that are reached."""

    def __init__(self, chosen: tuple[str, int] | None = None, *, files: Collection[str | None] = FILES) -> None:
        self.chosen = chosen
        self.files = files
        self.lines: dict[tuple[str, int], None] = {}

    def __enter__(self) -> CrashAt:
        sys.settrace(lambda frame, event, arg: self._line if frame.f_code.co_filename in self.files else None)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _line(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        if event == "line":
            here = (frame.f_code.co_filename, frame.f_lineno)
            self.lines[here] = None
            if here == self.chosen:
                sys.settrace(None)
                raise Crash
        return self._line


def back_up(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    at = clock.now().isoformat()
    times = {"started_at": at, "finished_at": at}
    part = {"kind": "database", "key": "base.tar.zst.age", "size": 900, "sha256": "a" * 64, **times}
    filestore = {"name": order["label"], "key": "f", "size": 9, "sha256": "b" * 64, "taken_at": at}
    server = {"system_identifier": "7012", "server_version": "17.2", "timeline": 1, "start_lsn": 1, "stop_lsn": 2}
    counts = {"file_count": 1, "byte_count": 2, "stored_bytes": 3, "wrong_count": 0, "wrong": []}
    ran = {"commit": "", "image": "", "modules": {}}
    return {
        **times,
        **server,
        **ran,
        "consistent_at": at,
        "parts": [part],
        "filestore": filestore | counts,
        "copied_at": at,
    }


def bring_back(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    names = ("provisioning", "restoring", "validating", "over")
    return {"phases": {name: clock.now().isoformat() for name in names}, "sentence": "It holds 3 tables."}


def practise(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    at = clock.now().isoformat()
    names = ("provisioning", "restoring", "checking", "tearing_down", "over")
    check = {"name": "Base backup", "level": 2, "is_passed": True, "sentence": "As it should be.", "at": at}
    said = {"trouble": "", "leftovers": "", "newest_sentinel_at": at}
    return {"phases": dict.fromkeys(names, at), "checks": [check], **said}


def clear(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    return {}


def ask_there(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    return {"checks": [{"name": "Modules elsewhere", "is_passed": True, "sentence": "As they should be."}]}


def rehearse() -> None:
    """Play the other side of a drill of level 5: what is asked for is up, and what is to go is gone."""
    system = system_actor()
    with transaction.atomic():
        for one in Rehearsal.objects.select_for_update().exclude(state="gone"):
            if one.teardown_asked_at is not None:
                move_rehearsal(one, "tear_down", sentence="It goes.", actor=system, at=clock.now())
                move_rehearsal(one, "finish", sentence="It is gone.", actor=system, at=clock.now())
            elif one.state == "asked":
                web = {"name": "Deployment odoo", "is_healthy": True, "sentence": "Healthy.", "digests": []}
                move_rehearsal(one, "begin", sentence="It comes.", actor=system, at=clock.now())
                facts = {"workloads": [web]}
                move_rehearsal(one, "confirm", sentence="Up.", facts=facts, actor=system, at=clock.now())


WORKFLOWS: dict[str, Any] = {
    "backup": backup.Backup(),
    "restore": restore.RestoreRun(),
    "drill": drill.DrillRun(),
    "drill elsewhere": drill.DrillRun(),
    "canceled drill": drill.DrillRun(),
}
MODELS: dict[str, Any] = {"backup": BackupRun, "restore": Restore} | dict.fromkeys(list(WORKFLOWS)[2:], Drill)
ENDS = {
    "backup": "succeeded",
    "restore": "succeeded",
    "drill": "passed",
    "drill elsewhere": "passed",
    "canceled drill": "canceled",
}


@pytest.fixture
def estate(fresh_db: TestDatabase, settings: Any) -> SmallEstate:
    settings.JOBS = {name: f"{__name__}.{work.__name__}" for name, work in PLAYED.items()}
    estate = small_estate()
    Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    words = {"rehearsal_cluster": "de-1", "rehearsal_target": "file:/run/secrets/falkenstein"}
    backup_policy(estate.production, at=clock.now() - timedelta(days=1), **words)
    return estate


PLAYED = {
    "backup": back_up,
    "restore": bring_back,
    "drill": practise,
    "drill_clearing": clear,
    "drill_elsewhere": ask_there,
}


def ask(kind: str, estate: SmallEstate, rio: User) -> None:
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": clock.now()}
    if kind == "backup":
        ask_backup(**words, reason="A point.")
        return
    point = RecoveryPoint.objects.latest("consistent_at")
    if kind == "restore":
        name = f"copy_{Restore.objects.count()}"
        ask_restore(**words, target_at=point.consistent_at, target_database=name, reason="To look.")
    else:
        begun = start_drill(**words, level=2 if kind == "drill" else 5, target_at=point.consistent_at)
        if kind == "canceled drill":
            while not Rehearsal.objects.filter(key=begun.key, state="up").exists():
                engine.tick(WORKFLOWS[kind])
                engine.tick(JobWork())
                rehearse()
                clock.set_offset(clock._offset + timedelta(seconds=3))
            cancel_drill(actor=actor(rio), drill_id=begun.pk, reason="Too long.", at=clock.now())


def carry_out(kind: str, *, crash_at: tuple[str, int] | None) -> CrashAt:
    """Tick until the newest of its kind is over, with one crash on the way."""
    tracer = CrashAt(crash_at)
    for _ in range(40):
        if not MODELS[kind].objects.filter(next_due_at__isnull=False).exists():
            return tracer
        try:
            with tracer:
                engine.tick(WORKFLOWS[kind])
        except Crash:
            connections.close_all()
            tracer.chosen = None
            clock.set_offset(clock._offset + timedelta(seconds=engine.LEASE_SECONDS + 1))
        engine.tick(JobWork())
        rehearse()
        clock.set_offset(clock._offset + timedelta(seconds=3))
    raise AssertionError(f"{kind} did not end: {list(MODELS[kind].objects.values('state', 'trouble'))}")


def recorded() -> list[int]:
    """Count what was recorded, and what the trail says of it."""
    models: tuple[Any, ...] = (RecoveryPoint, FilestoreCopy, DrillCheck, Verification, Job, Rehearsal)
    counts = [model.objects.count() for model in models]
    return [*counts, *(AuditEvent.objects.filter(tag__startswith=tag).count() for tag in EVENTS)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WORKFLOWS))
def test_a_crash_after_any_line_records_everything_once(estate: SmallEstate, kind: str) -> None:  # RUN-1
    rio = recovery_owner(estate)
    with transaction.atomic():
        recorded_point(estate.production, "p1", clock.now() - HOUR, by=rio)

    def story(crash_at: tuple[str, int] | None) -> tuple[CrashAt, list[int]]:
        before = recorded()
        ask(kind, estate, rio)
        tracer = carry_out(kind, crash_at=crash_at)
        assert MODELS[kind].objects.latest("pk").state == ENDS[kind]
        return tracer, [after - was for was, after in zip(before, recorded(), strict=True)]

    tracer, expected = story(None)

    for line in list(tracer.lines)[::EVERY]:
        _, found = story(line)
        assert found == expected, line
    assert len(tracer.lines) > 20
    clock.set_offset(timedelta())
