"""Upkeep: begun for an environment, and how far its rounds are. What a round does is recorded by other actions."""

from __future__ import annotations

from datetime import datetime

from changecontrol.lifecycles.job import JobState
from changecontrol.models import Environment, Job
from recovery.models import Upkeep
from recovery.models.point import UpkeepKind


def ensure_upkeep(environment: Environment, *, kind: UpkeepKind, at: datetime) -> Upkeep:
    """Have upkeep of a kind done for an environment, soon and from now on."""
    row, is_new = Upkeep.objects.get_or_create(environment=environment, kind=kind, defaults={"next_due_at": at})
    if not is_new and (row.next_due_at is None or row.next_due_at > at):
        Upkeep.objects.filter(pk=row.pk).update(next_due_at=at)
    return row


def note_done(row: Upkeep, *, at: datetime) -> None:
    """Note when a locked row's work last succeeded."""
    row.done_at = at
    row.save(update_fields=["done_at"])


def note_reached(row: Upkeep, reached_at: datetime | None) -> None:
    """Note up to when the other destination covers."""
    row.reached_at = reached_at
    row.save(update_fields=["reached_at"])


def end_round(row: Upkeep, job: Job, *, at: datetime | None) -> None:
    """Let the next round of a locked row have a job of its own, and forget those of the rounds that are over.

    `at` is when the round was done; None where a part of it was left to the next.

    What did one in a cluster is cleared away by its row alone: a row stays until it says that this is done.
    """
    row.count += 1
    if job.state == JobState.DONE and at is not None:
        row.done_at = at
    row.save(update_fields=["count", "done_at"])
    rounds = Job.objects.filter(key__startswith=row.key_of_jobs)
    rounds.exclude(state=JobState.OPEN).filter(placed_at=None).delete()
