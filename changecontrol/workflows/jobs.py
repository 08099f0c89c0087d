"""Does jobs: one at a time in a process of its own, under a lease that beats as long as the process lives.

A process that dies loses its lease within a minute, and the next one does the work again: a job observes before it
performs, like every step. A process that has lost its lease ends itself and all it started, before another begins.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.utils.module_loading import import_string

from changecontrol import clock
from changecontrol.actions.jobs import end_job
from changecontrol.errors import Permanent, UnderWay
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from changecontrol.workflow import engine
from changecontrol.workflow.engine import Settlement
from changecontrol.workflow.rows import lock_row

BEATS_IN_A_LEASE = 6
GRACE_SECONDS = 20.0
"""How long work that was told to end may take over it; then its process is ended."""
LOST, OVERDUE = 70, 71
"""Exit codes: another process has the job now; it did not end when told."""

Report = Callable[[Mapping[str, Any]], None]
Work = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]

log = structlog.get_logger(__name__)


class JobWork:
    """The workflow `jobs`. No sweep looks after it: `manage.py jobs` does, one process for each job."""

    name = "jobs"
    model = Job

    def due(self) -> Q:
        return Q(state=JobState.OPEN)

    def find(self, at: datetime) -> None:
        """Nothing to find: workflows order jobs."""

    def lock(self, pk: int) -> Job:
        return lock_row(Job, pk)

    def advance(self, row: Job, at: datetime) -> Settlement[Job]:
        if row.started_at is None:
            Job.objects.filter(pk=row.pk, lease_token=row.lease_token).update(started_at=at)
        if row.stop_asked_at is not None:
            raise Permanent("Stopped before it began.")
        work: Work = import_string(settings.JOBS[row.kind])
        with Beat(row).beating() as beat:
            result = work(row.order, beat.report)
        return _ended("finish", result=result)

    def refused(self, row: Job, reason: str, at: datetime) -> Settlement[Job]:
        is_stopped = Job.objects.filter(pk=row.pk, stop_asked_at__isnull=False).exists()
        return _ended("stop" if is_stopped else "fail", reason=reason)

    def exhausted(self, row: Job, reason: str, at: datetime) -> Settlement[Job]:
        return _ended("fail", reason=reason)


class Beat:
    """Renews the lease of the job that this process does, and writes down how far it is."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._progress: Mapping[str, Any] = job.progress
        self._ended = threading.Event()
        self._told_at: datetime | None = None
        self._parent = os.getppid()
        self._until = job.lease_until or clock.now()

    def report(self, progress: Mapping[str, Any]) -> None:
        """Say how far the work is; the next beat writes it."""
        self._progress = dict(progress)

    @contextmanager
    def beating(self) -> Iterator[Beat]:
        """Beat until the block ends. What tells the work to end is raised inside, in the main thread."""
        before = {sign: signal.signal(sign, handler) for sign, handler in _HANDLERS.items()}
        thread = threading.Thread(target=self._beat_on, name="beat", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            for sign, handler in before.items():
                signal.signal(sign, handler)

    def _beat_on(self) -> None:
        try:
            while not self._ended.wait(engine.lease_for().total_seconds() / BEATS_IN_A_LEASE):
                self._beat(clock.now())
                if os.getppid() != self._parent:
                    # Whoever would have stopped it with its host is gone.
                    self._tell(signal.SIGTERM, clock.now())
        finally:
            connection.close()

    def _beat(self, at: datetime) -> None:
        try:
            stop_asked_at = self._renew(at)
        except engine.DATABASE_LOST as trouble:
            log.warning("job.beat_lost", job=self._job.pk, problem=type(trouble).__name__)
            engine.mend_connection()
            if at >= self._until:
                _end_process(LOST)
            return
        is_late = self._job.deadline_at is not None and at >= self._job.deadline_at
        if stop_asked_at is not None or is_late:
            self._tell(signal.SIGUSR1 if stop_asked_at is not None else signal.SIGUSR2, at)

    def _renew(self, at: datetime) -> datetime | None:
        until = at + engine.lease_for()
        ours = Job.objects.filter(pk=self._job.pk, lease_token=self._job.lease_token, lease_until__gt=at)
        if not ours.update(lease_until=until, progress=self._progress):
            _end_process(LOST)
        self._until = until
        return Job.objects.values_list("stop_asked_at", flat=True).get(pk=self._job.pk)

    def _tell(self, sign: signal.Signals, at: datetime) -> None:
        if self._told_at is None:
            self._told_at = at
            os.kill(os.getpid(), sign)
        elif (at - self._told_at).total_seconds() > GRACE_SECONDS:
            _end_process(OVERDUE)


def _stopped(*_: object) -> NoReturn:
    raise Permanent("Stopped because somebody asked for it.")


def _late(*_: object) -> NoReturn:
    raise Permanent("It took longer than it may, and was stopped.")


def _leaving(*_: object) -> NoReturn:
    raise UnderWay("Its host is stopping; it goes on elsewhere.", after=0.1)


_HANDLERS: Mapping[signal.Signals, Callable[..., Any]] = {
    signal.SIGUSR1: _stopped,
    signal.SIGUSR2: _late,
    signal.SIGTERM: _leaving,
}


def _end_process(code: int) -> NoReturn:
    """End this process and all it started, without another word: somebody else may have the job already."""
    log.error("job.process_ended", code=code)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


def _ended(verb: str, *, reason: str = "", result: Mapping[str, Any] | None = None) -> Settlement[Job]:
    def write(job: Job) -> None:
        end_job(job, verb, reason=reason, result=result, at=clock.now())

    return Settlement(write=write, due_in=None)
