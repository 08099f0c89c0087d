"""Does jobs: one at a time in a process of its own, under a lease that beats as long as the process lives.

A process that dies loses its lease within a minute, and the next one does the work again: a job observes before it
performs, like every step. A process that has lost its lease ends itself and all it started, before another begins.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import structlog
from django.conf import settings
from django.db import connection
from django.db.models import Q
from django.utils.module_loading import import_string

from changecontrol import clock
from changecontrol.actions.jobs import end_job
from changecontrol.errors import Hindered, Permanent, UnderWay
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from changecontrol.processes import family_of, memory_of, room_taken_by
from changecontrol.rules.placing import LATE, is_late
from changecontrol.workflow import engine
from changecontrol.workflow.engine import Settlement
from changecontrol.workflow.rows import lock_row

BEATS_IN_A_LEASE = 6
GRACE_SECONDS = 20.0
"""How long work that was told to end may take over it; then its process is ended."""
LOST, OVERDUE = 70, 71
"""Exit codes: another process has the job now; it did not end when told."""
SHORTEST_WAIT_SECONDS = 0.05
LOOK_AT_ROOM_SECONDS = 5.0
SHARE_OF_LOOKING = 20
"""Looking at memory and disk takes at most one part in so many of the time: a large folder is looked at less often."""
MIB, GIB = 1024**2, 1024**3

Report = Callable[[Mapping[str, Any]], None]
Work = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]

log = structlog.get_logger(__name__)


_folders: list[Path] = []


@contextmanager
def taking_room_in(folder: Path) -> Iterator[None]:
    """Count what a folder holds, which may not be there yet, as the disk that this process's job takes."""
    _folders.append(folder)
    try:
        yield
    finally:
        _folders.remove(folder)


def most_disk() -> int | None:
    """Return how many bytes of disk a job may take, or None where nothing but the disk itself limits it."""
    return settings.JOB_DISK_GIB * GIB or None


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
        if is_late(row.deadline_at, at=at):
            # The first beat would stop it in the middle of its work, which could take that for an answer.
            has_begun = row.started_at is not None
            raise Permanent(LATE if has_begun else "Its time was over before anybody began it.")
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


def only(pk: int) -> JobWork:
    """Return the workflow narrowed to one job: of a class of its own, as the engine keeps a claim for each class."""

    class OneJob(JobWork):
        def due(self) -> Q:
            return super().due() & Q(pk=pk)

    return OneJob()


class Beat:
    """Renews the lease of the job that this process does, and writes down how far it is."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._progress: Mapping[str, Any] = job.progress
        self._ended = threading.Event()
        self._told_at: datetime | None = None
        self._reason = ""
        self._parent = os.getppid()
        self._until = job.lease_until or clock.now()

    def report(self, progress: Mapping[str, Any]) -> None:
        """Say how far the work is; the next beat writes it."""
        self._progress = dict(progress)

    @contextmanager
    def beating(self) -> Iterator[Beat]:
        """Beat until the block ends. What tells the work to end is raised inside, in the main thread."""
        handlers = {signal.SIGUSR1: self._told, signal.SIGTERM: _leaving}
        before = {sign: signal.signal(sign, handler) for sign, handler in handlers.items()}
        # Beside the beat: reading a large folder must not keep the lease from being renewed, nor a database that does
        # not answer keep a process at work whose lease is over.
        tasks = {"beat": self._beat_on, "lease": self._watch_lease, "room": self._look_at_room}
        threads = [threading.Thread(target=task, name=name, daemon=True) for name, task in tasks.items()]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
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

    def _watch_lease(self) -> None:
        while not self._ended.wait(max(SHORTEST_WAIT_SECONDS, (self._until - clock.now()).total_seconds())):
            if clock.now() >= self._until:
                _end_process(LOST)

    def _look_at_room(self) -> None:
        wait = LOOK_AT_ROOM_SECONDS
        while not self._ended.wait(wait):
            began = time.monotonic()
            if excess := _excess():
                # Told once: clearing away what it took may take its time.
                self._tell_to_end(excess, clock.now())
                return
            wait = max(LOOK_AT_ROOM_SECONDS, SHARE_OF_LOOKING * (time.monotonic() - began))

    def _beat(self, at: datetime) -> None:
        try:
            stop_asked_at = self._renew(at)
        except engine.DATABASE_LOST as trouble:
            log.warning("job.beat_lost", job=self._job.pk, problem=type(trouble).__name__)
            engine.mend_connection()
            return
        if stop_asked_at is not None:
            self._tell_to_end("Stopped because somebody asked for it.", at)
        elif is_late(self._job.deadline_at, at=at):
            self._tell_to_end("It took longer than it may, and was stopped.", at)

    def _tell_to_end(self, reason: str, at: datetime) -> None:
        self._reason = self._reason or reason
        self._tell(signal.SIGUSR1, at)

    def _told(self, *_: object) -> NoReturn:
        raise Hindered(self._reason)

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


def _excess() -> str:
    """Say what this process and all it started take beyond what a job may."""
    if most := settings.JOB_MEMORY_MIB:
        memory = memory_of(family_of(os.getpid())) // MIB
        if memory > most:
            return f"It took {memory:,} MiB of memory and may take {most:,} (JOB_MEMORY_MIB); it was stopped."
    if most := settings.JOB_DISK_GIB:
        disk = sum(map(room_taken_by, list(_folders))) / GIB
        if disk > most:
            return f"It took {disk:,.2f} GiB of disk and may take {most:,.2f} (JOB_DISK_GIB); it was stopped."
    return ""


def _leaving(*_: object) -> NoReturn:
    raise UnderWay("Its host is stopping; it goes on elsewhere.", after=0.1)


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
