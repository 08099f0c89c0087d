"""Has jobs done where they belong: as processes of this host, or as Jobs of a Kubernetes cluster.

The rows are the truth, and every step is safe to be repeated by another host, or after a crash before it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

import structlog
from django.db.models import Q, QuerySet

from changecontrol.actions.jobs import (
    ask_stop,
    count_job_failure,
    place_job,
    put_off_job,
    refuse_job,
    tell_job_trouble,
    tell_leftover,
    tell_silence,
    unplace_job,
)
from changecontrol.errors import Permanent, Transient
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from changecontrol.ports import JobRunner, JobSight, PlacedJob
from changecontrol.rules.placing import JobFacts, Move, decide_move
from changecontrol.workflow.claiming import free as unheld

log = structlog.get_logger(__name__)


def begin_due(runner: JobRunner, *, elsewhere: Collection[str], at_once: int, at: datetime) -> None:
    """Begin due jobs in processes of this host, except those of kinds that are done elsewhere."""
    begun = runner.observe_jobs()
    free = at_once - len(begun)
    waiting = [job for job in _due(at).exclude(kind__in=elsewhere)[:at_once] if job.run not in begun]
    for job in waiting[: max(0, free)]:
        runner.ensure_begun(_placed(job, at=at))


def look_after(open_runner: Callable[[], JobRunner], *, kinds: Collection[str], at_once: int, at: datetime) -> None:
    """Take the next step of each job that a cluster does, or is to do. Trouble with the cluster is told on the jobs."""
    # What it has something of, whatever its state, and what is to begin.
    jobs = [*Job.objects.filter(placed_at__isnull=False), *_due(at).filter(kind__in=kinds, placed_at__isnull=True)]
    try:
        runner = open_runner()
        obstacles = runner.observe_obstacles() if any(job.placed_at is None for job in jobs) else ()
        sights = runner.observe_jobs()
    except (Transient, Permanent) as trouble:
        obstacles, sights = (trouble.reason,), None
    if sights is None or obstacles:
        log.error("jobs.obstacles", reasons=obstacles)
        for job in jobs:
            # A pod that is at work goes on while the cluster cannot be asked, and is told nothing.
            if sights is None:
                tell_silence(pk=job.pk, reason=" ".join(obstacles), at=at)
            elif job.placed_at is None:
                tell_job_trouble(pk=job.pk, reason=" ".join(obstacles), at=at)
    if sights is not None:
        known = [*jobs, *_strays(sights, known={job.run for job in jobs})]
        # What is leaving may stay for days, where its node is gone.
        at_work = sum(not sight.is_over and not sight.is_leaving for sight in sights.values())
        free = 0 if obstacles else at_once - at_work
        _step_all(runner, known, sights, free=free, at=at)


def _due(at: datetime) -> QuerySet[Job]:
    """Return the jobs that are due and nobody holds, the one due longest first."""
    is_free: Q = unheld(at)
    return Job.objects.filter(is_free, state=JobState.OPEN, next_due_at__lte=at).order_by("next_due_at", "pk")


def _strays(sights: Mapping[str, JobSight], *, known: set[str]) -> list[Job]:
    """Return the jobs of which a cluster has something that no row says: whoever made it ended before it wrote."""
    numbers = [int(run.partition("-")[0]) for run in sights if run not in known and run.partition("-")[0].isdigit()]
    # What carries the number of a job and is not named as its run is somebody else's, and stays.
    return [job for job in Job.objects.filter(pk__in=numbers) if job.run in sights]


def _step_all(runner: JobRunner, jobs: list[Job], sights: Mapping[str, JobSight], *, free: int, at: datetime) -> None:
    for job in jobs:
        move, reason = decide_move(_facts(job), sights.get(job.run), at=at)
        if move is Move.BEGIN:
            if free <= 0:
                continue
            free -= 1
        if move is not Move.WAIT:
            _step(runner, job, move, reason, at=at)


def _step(runner: JobRunner, job: Job, move: Move, reason: str, *, at: datetime) -> None:
    with structlog.contextvars.bound_contextvars(job=job.pk):
        log.info("job.placing", move=move, reason=reason)
        try:
            _MOVES[move](runner, job, reason, at)
        except (Transient, Permanent) as trouble:
            log.warning("job.not_placed", move=move, problem=trouble.reason)
            _tell(job, move, trouble, at=at)


def _tell(job: Job, move: Move, trouble: Transient | Permanent, *, at: datetime) -> None:
    if move is Move.BEGIN:
        if isinstance(trouble, Permanent):
            refuse_job(pk=job.pk, reason=trouble.reason, at=at)
        else:
            put_off_job(seen=job, reason=trouble.reason, at=at, after=trouble.after)
    elif job.state != JobState.OPEN:
        tell_leftover(pk=job.pk, reason=trouble.reason)
    else:
        tell_job_trouble(pk=job.pk, reason=trouble.reason, at=at)


def _begin(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    runner.ensure_begun(_placed(job, at=at))
    place_job(pk=job.pk, at=at)


def _adopt(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    place_job(pk=job.pk, at=at)


def _say(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    tell_job_trouble(pk=job.pk, reason=reason, at=at)


def _count(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    # Cleared away before it is counted: who is killed in between counts it at the next look, and never twice.
    runner.ensure_removed(job.run)
    count_job_failure(seen=job, reason=reason, at=at)


def _retire(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    runner.ensure_removed(job.run)
    unplace_job(seen=job)


def _remove(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    runner.ensure_removed(job.run)


def _forget(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    unplace_job(seen=job)


def _stop(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    ask_stop(key=job.key, at=at)


def _fail(runner: JobRunner, job: Job, reason: str, at: datetime) -> None:
    refuse_job(pk=job.pk, reason=reason, at=at)


_MOVES = {
    Move.BEGIN: _begin,
    Move.ADOPT: _adopt,
    Move.TELL: _say,
    Move.COUNT: _count,
    Move.RETIRE: _retire,
    Move.REMOVE: _remove,
    Move.FORGET: _forget,
    Move.STOP: _stop,
    Move.FAIL: _fail,
}


def _facts(job: Job) -> JobFacts:
    return JobFacts(
        is_open=job.state == JobState.OPEN,
        is_stop_asked=job.stop_asked_at is not None,
        next_due_at=job.next_due_at,
        lease_until=job.lease_until,
        placed_at=job.placed_at,
        deadline_at=job.deadline_at,
        attempts=job.attempts,
        trouble=job.trouble,
    )


def _placed(job: Job, *, at: datetime) -> PlacedJob:
    within = None if job.deadline_at is None else job.deadline_at - at
    return PlacedJob(pk=job.pk, run=job.run, attempt=job.attempt, kind=job.kind, key=job.key, within=within)
