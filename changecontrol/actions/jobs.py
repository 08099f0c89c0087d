"""Jobs: ordered by workflows, stopped when asked, ended by the process that does them.

Their events are the workflows' to write: a job is a part of what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F

from changecontrol.errors import Conflict
from changecontrol.lifecycles.job import JOB, JobState
from changecontrol.models import Job
from changecontrol.workflow import engine


@transaction.atomic
def ensure_job(
    *, key: str, kind: str, order: Mapping[str, Any], at: datetime, deadline_at: datetime | None = None
) -> Job:
    """Order a job, or return the one ordered under this key before. Raises `Conflict` where that was another order."""
    job, _ = Job.objects.get_or_create(
        key=key,
        defaults={"kind": kind, "order": dict(order), "created_at": at, "next_due_at": at, "deadline_at": deadline_at},
    )
    if (job.kind, job.order) != (kind, dict(order)):
        raise Conflict(f"Another job was ordered as {key}.")
    return job


@transaction.atomic
def ask_stop(*, key: str, at: datetime) -> Job | None:
    """Ask a job to stop: at once where nobody works on it, else at the next beat of its process."""
    job = Job.objects.select_for_update().filter(key=key).first()
    if job is None or job.state != JobState.OPEN:
        return job
    job.stop_asked_at = job.stop_asked_at or at
    job.save(update_fields=["stop_asked_at"])
    if job.lease_until is None or job.lease_until <= at:
        _end_unheld(job, "stop", reason="Stopped before it began.", at=at)
    return job


@transaction.atomic
def place_job(*, pk: int, at: datetime) -> None:
    """Write down that a cluster has something that does a job."""
    Job.objects.filter(pk=pk, placed_at__isnull=True).update(placed_at=at)


@transaction.atomic
def unplace_job(*, seen: Job) -> None:
    """Write down that the cluster has nothing of a job any more, unless it was placed again since it was seen."""
    Job.objects.filter(pk=seen.pk, placed_at=seen.placed_at).update(placed_at=None, leftovers="")


@transaction.atomic
def tell_leftover(*, pk: int, reason: str) -> None:
    """Write down why what did a job cannot be cleared away."""
    Job.objects.filter(pk=pk, placed_at__isnull=False).update(leftovers=reason)


@transaction.atomic
def tell_job_trouble(*, pk: int, reason: str, at: datetime) -> None:
    """Say what keeps a job from beginning, or that nothing does; one past its deadline fails with it."""
    job = _unheld(pk, at=at)
    if job is None:
        return
    if job.deadline_at is not None and at >= job.deadline_at:
        _end_unheld(job, "fail", reason=reason, at=at)
    elif job.trouble != reason:
        engine.tell_trouble(job, reason, at=at)


@transaction.atomic
def tell_silence(*, pk: int, reason: str, at: datetime) -> None:
    """Say that a job's cluster does not answer. A pod that may not have begun has its time for it from when it does."""
    # Nobody has taken it on, nor given it back, since it was placed.
    untouched = Job.objects.filter(pk=pk, lease_until__isnull=True, placed_at__gte=F("next_due_at"))
    untouched.update(placed_at=at)
    tell_job_trouble(pk=pk, reason=reason, at=at)


@transaction.atomic
def put_off_job(*, seen: Job, reason: str, at: datetime, after: float | None = None) -> None:
    """Have a job placed later that its cluster did not take now: that is no attempt at it."""
    job = _unheld(seen.pk, at=at)
    if job is not None and (job.next_due_at, job.placed_at) == (seen.next_due_at, seen.placed_at):
        engine.put_off(job, reason, at=at, after=after)


@transaction.atomic
def count_job_failure(*, seen: Job, reason: str, at: datetime) -> None:
    """Count a failed attempt at a job that nobody works on: it is tried again later, or fails as its last one.

    Counts once, however many hosts have seen it.
    """
    job = _unheld(seen.pk, at=at)
    if job is None or (job.attempts, job.placed_at) != (seen.attempts, seen.placed_at):
        return
    job.placed_at = None
    job.save(update_fields=["placed_at"])
    if not engine.count_failure(job, reason, at=at):
        _end_unheld(job, "fail", reason=reason, at=at)


@transaction.atomic
def refuse_job(*, pk: int, reason: str, at: datetime) -> None:
    """End a job that nobody works on because its place refuses it, and will refuse it again."""
    job = _unheld(pk, at=at)
    if job is not None:
        _end_unheld(job, "fail", reason=reason, at=at)


def _unheld(pk: int, *, at: datetime) -> Job | None:
    """Lock an open job; None where it has ended, or somebody works on it."""
    job = Job.objects.select_for_update().filter(pk=pk, state=JobState.OPEN).first()
    return None if job is None or (job.lease_until is not None and job.lease_until > at) else job


def _end_unheld(job: Job, verb: str, *, reason: str, at: datetime) -> None:
    end_job(job, verb, reason=reason, at=at)
    job.next_due_at = None
    job.save(update_fields=["next_due_at"])


def end_job(job: Job, verb: str, *, reason: str = "", result: Mapping[str, Any] | None = None, at: datetime) -> None:
    """End a locked job by a verb of its lifecycle."""
    job.state = JOB.target(verb, job.state)
    job.reason = reason
    job.result = dict(result or {})
    job.ended_at = at
    job.save(update_fields=["state", "reason", "result", "ended_at"])
