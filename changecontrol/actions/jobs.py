"""Jobs: ordered by workflows, stopped when asked, ended by the process that does them.

Their events are the workflows' to write: a job is a part of what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from changecontrol.errors import Conflict
from changecontrol.lifecycles.job import JOB, JobState
from changecontrol.models import Job


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
        end_job(job, "stop", reason="Stopped before it began.", at=at)
        job.next_due_at = None
        job.save(update_fields=["next_due_at"])
    return job


def end_job(job: Job, verb: str, *, reason: str = "", result: Mapping[str, Any] | None = None, at: datetime) -> None:
    """End a locked job by a verb of its lifecycle."""
    job.state = JOB.target(verb, job.state)
    job.reason = reason
    job.result = dict(result or {})
    job.ended_at = at
    job.save(update_fields=["state", "reason", "result", "ended_at"])
