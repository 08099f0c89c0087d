"""Backups that somebody cancels: what is at work is asked to stop, and no point comes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from changecontrol.access import system_actor
from changecontrol.actions.jobs import end_job, ensure_job
from changecontrol.errors import Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import Job, Message, User
from recovery.actions.backups import ask_backup, cancel_backup, move_backup, plan_backup, plan_safety_backup
from recovery.actions.points import record_point
from recovery.models import BackupPolicy, BackupRun
from recovery.models.backup import BackupKind
from recovery.workflows.backup import Backup
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, small_estate, stranger_estate
from tests.factories.recovery import HOUR, backup_policy, new_point, recovery_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    found = small_estate()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


@pytest.fixture
def run(estate: SmallEstate, rio: User) -> BackupRun:
    return ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="Before the sale.", at=NOW)


def cancel(run: BackupRun, by: User, **words: Any) -> BackupRun:
    return cancel_backup(
        **{"actor": actor(by), "run_id": run.pk, "reason": "The shop is slow.", "at": NOW + HOUR, **words}
    )


def job_of(run: BackupRun) -> Job:
    return ensure_job(key=f"backup/{run.pk}", kind="backup", order={"run": run.pk}, at=NOW)


@pytest.mark.parametrize("verbs", [(), ("start",)])
def test_a_backup_is_canceled_and_its_job_is_asked_to_stop(run: BackupRun, rio: User, verbs: tuple[str, ...]) -> None:
    for verb in verbs:
        move_backup(run, verb, sentence="It runs.", actor=system_actor(), at=NOW)
    job = job_of(run)
    Job.objects.update(lease_until=NOW + 2 * HOUR)

    with events() as tags:
        canceled = cancel(run, rio)

    job.refresh_from_db()
    assert tags == ["recovery:backup:moved"]
    assert (canceled.state, canceled.sentence) == ("canceled", "Rio canceled it: The shop is slow.")
    assert (canceled.finished_at, canceled.next_due_at, job.stop_asked_at) == (NOW + HOUR, None, NOW + HOUR)
    assert not Message.objects.exists()
    with pytest.raises(IllegalTransition):
        record_point(canceled, point=new_point("p1", NOW), actor=system_actor(), at=NOW + HOUR)


def test_another_may_be_asked_for_at_once_and_the_schedule_does_not_make_up_for_it(
    estate: SmallEstate, rio: User
) -> None:
    policy = BackupPolicy.objects.get()
    due_at = NOW - HOUR
    planned = plan_backup(policy=policy, kind=BackupKind.BASE, due_at=due_at, actor=system_actor(), at=NOW)
    assert planned is not None

    cancel(planned, rio)
    Backup().find(NOW + HOUR)

    assert BackupRun.objects.get().state == "canceled"
    again = ask_backup(actor=actor(rio), environment_id=estate.production.pk, reason="Now.", at=NOW + HOUR)
    cancel(again, rio)
    Backup().find(NOW + timedelta(days=1))
    assert BackupRun.objects.filter(state="queued", asked_by=None).count() == 1


def test_what_has_ended_is_not_canceled_and_the_reason_is_due(run: BackupRun, rio: User) -> None:
    with events() as of_silence, pytest.raises(Invalid, match="Say why"):
        cancel(run, rio, reason=" ")
    cancel(run, rio)

    with events() as tags, pytest.raises(IllegalTransition):
        cancel(run, rio)

    assert (of_silence, tags) == ([], ["refused"])


@pytest.mark.parametrize("verb", ["finish", "fail"])
def test_what_came_of_its_work_is_recorded_and_no_more_canceled(run: BackupRun, rio: User, verb: str) -> None:
    end_job(job_of(run), verb, at=NOW)

    with events() as tags, pytest.raises(IllegalTransition, match="Its work is over"):
        cancel(run, rio)

    run.refresh_from_db()
    assert (tags, run.state, run.sentence) == (["refused"], "queued", "")


def test_who_may_back_up_may_cancel_any_and_a_stranger_learns_nothing(
    estate: SmallEstate, run: BackupRun, rio: User
) -> None:
    _, eve = stranger_estate()
    with events() as of_ada, pytest.raises(Forbidden):
        cancel(run, estate.ada)
    sentences = []
    for key in (run.pk, run.pk + 1_000):
        with events() as of_eve, pytest.raises(NotFound) as missing:
            cancel(run, eve, run_id=key)
        assert of_eve == []
        sentences.append(missing.value.sentence)
    cancel(run, recovery_owner(estate, "rae"))
    safety = plan_safety_backup(estate.production, reason="Before CHG-000001.", actor=system_actor(), at=NOW)

    assert safety is not None
    assert (of_ada, len(set(sentences)), cancel(safety, rio).state) == (["refused"], 1, "canceled")


def test_a_cancellation_that_is_not_kept_leaves_neither_row_nor_event(run: BackupRun, rio: User) -> None:
    job = job_of(run)

    with events() as tags, transaction.atomic():
        cancel(run, rio)
        transaction.set_rollback(True)

    run.refresh_from_db()
    job.refresh_from_db()
    assert (tags, run.state, job.stop_asked_at) == ([], "queued", None)
