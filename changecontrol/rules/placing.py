"""What to do next about a job that is done in a cluster, from its row and what the cluster shows of it. Pure.

The row is the truth: a pod claims it, beats and settles, as a local process does. What the cluster shows only tells why
a row does not go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

BEGINS_WITHIN = timedelta(minutes=10)
"""How long a pod may take to claim its job: to be given a node, and to fetch its image."""
SILENT_FOR = timedelta(minutes=1)
"""How long after its lease ended, or it was due again, a pod may still be there: it ends, unless its node is gone."""
LATE = "Its time was over before it was done."


class Move(StrEnum):
    """What to do: `COUNT` and `RETIRE` clear away first, and then write."""

    WAIT = "wait"
    BEGIN = "begin"
    ADOPT = "adopt"
    TELL = "tell"
    COUNT = "count"
    RETIRE = "retire"
    REMOVE = "remove"
    FORGET = "forget"
    STOP = "stop"
    FAIL = "fail"


class Sight(Protocol):
    """What of `ports.JobSight` decides."""

    @property
    def is_over(self) -> bool: ...
    @property
    def is_failed(self) -> bool: ...
    @property
    def is_leaving(self) -> bool: ...
    @property
    def trouble(self) -> str: ...


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job's row as it was read. `lease_until` of one that nobody claimed, or that was given back, is None."""

    is_open: bool
    is_stop_asked: bool
    next_due_at: datetime | None
    lease_until: datetime | None
    placed_at: datetime | None
    deadline_at: datetime | None
    attempts: int = 0
    trouble: str = ""


Decision = tuple[Move, str]


def decide_move(job: JobFacts, sight: Sight | None, *, at: datetime) -> Decision:
    """Return what to do, and the sentence that goes with `TELL`, `COUNT` and `FAIL`."""
    if not job.is_open:
        return (Move.REMOVE if sight is not None and not sight.is_leaving else _gone(sight)), ""
    move, reason = _open(job, sight, at=at)
    if move in _ENDS or job.is_stop_asked or is_held(job, at=at) or not is_late(job.deadline_at, at=at):
        return move, reason
    return Move.FAIL, reason or f"{LATE} {job.trouble}".rstrip()


def is_late(deadline_at: datetime | None, *, at: datetime) -> bool:
    """Tell whether the deadline of a job has passed."""
    return deadline_at is not None and at >= deadline_at


def is_held(job: JobFacts, *, at: datetime) -> bool:
    """Tell whether somebody works on a job, who is told of its deadline by the beat."""
    return job.lease_until is not None and job.lease_until > at


_ENDS = {Move.COUNT, Move.STOP}
"""What ends a job whose deadline has passed by itself."""


def _open(job: JobFacts, sight: Sight | None, *, at: datetime) -> Decision:
    if job.placed_at is None:
        return _unplaced(job, sight, at=at), ""
    if is_held(job, at=at):
        return Move.WAIT, ""
    if job.is_stop_asked:
        return _stopping(sight), ""
    if sight is None or sight.is_over or sight.is_leaving:
        return _ended(job, sight)
    return _under_way(job, sight, at=at, placed_at=job.placed_at)


def _gone(sight: Sight | None) -> Move:
    return Move.FORGET if sight is None else Move.WAIT


def _unplaced(job: JobFacts, sight: Sight | None, *, at: datetime) -> Move:
    # What is leaving stays as long as its node is away. The next attempt has another name, and the lease fences both.
    if sight is None or sight.is_leaving:
        is_due = job.next_due_at is not None and job.next_due_at <= at
        return Move.BEGIN if is_due and not is_held(job, at=at) else Move.WAIT
    # Whoever began it ended before it could write that down; or what was told of it is still there.
    return Move.REMOVE if sight.is_over else Move.ADOPT


def _stopping(sight: Sight | None) -> Move:
    return Move.STOP if sight is None or sight.is_leaving else Move.REMOVE


def _ended(job: JobFacts, sight: Sight | None) -> Decision:
    """Decide about a job that nothing works on any more."""
    if _has_settled(job):
        return Move.RETIRE, ""
    if sight is None or sight.is_leaving:
        return Move.COUNT, "What did it in the cluster is gone: somebody deleted it, or its node went away."
    if sight.is_failed:
        return Move.COUNT, sight.trouble or "Its pod failed."
    if job.lease_until is not None:
        return Move.COUNT, "Its pod ended without saying what came of it."
    return Move.COUNT, "Its pod ended without taking the job on. Does JOBS_SECRET name the same database?"


def _under_way(job: JobFacts, sight: Sight, *, at: datetime, placed_at: datetime) -> Decision:
    if _has_settled(job):
        # It is about to end.
        is_stuck = job.next_due_at is not None and at > job.next_due_at + SILENT_FOR
        return (Move.RETIRE if is_stuck else Move.WAIT), ""
    if job.lease_until is not None:
        is_silent = at > job.lease_until + SILENT_FOR
        return (Move.COUNT, "Its pod is there and says nothing any more.") if is_silent else (Move.WAIT, "")
    if at > placed_at + BEGINS_WITHIN:
        minutes = int(BEGINS_WITHIN.total_seconds() // 60)
        return Move.COUNT, sight.trouble or f"Its pod did not take the job on within {minutes} minutes."
    # What kept it from beginning may be over; what an attempt failed of stays until one succeeds.
    is_news = sight.trouble != job.trouble and (sight.trouble or not job.attempts)
    return (Move.TELL, sight.trouble) if is_news else (Move.WAIT, "")


def _has_settled(job: JobFacts) -> bool:
    """Tell whether a worker has given the row back since it was placed: then it is due at another time."""
    if job.lease_until is not None or job.next_due_at is None or job.placed_at is None:
        return False
    return job.next_due_at > job.placed_at
