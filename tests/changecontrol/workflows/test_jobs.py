"""A job is done once however often it is ordered, goes on after its process was killed, and stops when told."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from changecontrol import clock
from changecontrol.actions.jobs import ask_stop, ensure_job
from changecontrol.errors import Conflict
from changecontrol.models import Job
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import LOST, JobWork
from tests.changecontrol.workflows.toy_jobs import JOBS
from tests.plugin import ROOT, TestDatabase

KEY = "run:1/backup"


@pytest.fixture(autouse=True)
def kinds(settings: Any) -> Iterator[None]:
    settings.JOBS = JOBS
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


def order(kind: str, folder: Path, **words: Any) -> Job:
    return ensure_job(key=KEY, kind=kind, order={"folder": str(folder)}, at=clock.now(), **words)


def the_job() -> Job:
    return Job.objects.get(key=KEY)


def until(holds: Callable[[], bool], *, seconds: float = 120) -> None:
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, list(Job.objects.values())
        time.sleep(0.05)


def test_a_job_ordered_twice_is_done_once_and_keeps_its_result(db: None, tmp_path: Path) -> None:
    first, second = order("note", tmp_path), order("note", tmp_path)

    ticks = [engine.tick(JobWork()) for _ in range(2)]

    job = the_job()
    assert (first.pk, ticks) == (second.pk, [1, 0])
    assert (job.state, job.result, job.reason, job.next_due_at) == ("done", {"lines": 1}, "", None)
    assert job.started_at is not None
    assert job.ended_at is not None


def test_another_order_under_the_same_key_is_refused(db: None, tmp_path: Path) -> None:
    order("note", tmp_path)

    with pytest.raises(Conflict, match="Another job was ordered"):
        order("note", tmp_path / "elsewhere")


def test_a_refusal_ends_the_job_with_its_reason(db: None, tmp_path: Path) -> None:
    order("refuse", tmp_path)

    engine.tick(JobWork())

    assert (the_job().state, the_job().reason) == ("failed", "The key does not open this.")


def test_trouble_is_tried_again_and_fails_in_the_end(db: None, tmp_path: Path) -> None:
    order("stumble", tmp_path)

    engine.tick(JobWork())
    assert (the_job().state, the_job().attempts, the_job().trouble) == ("open", 1, "The store does not answer.")
    for _ in range(engine.ATTEMPTS_LIMIT):
        clock.set_offset(clock._offset + timedelta(minutes=5))
        engine.tick(JobWork())

    assert (the_job().state, the_job().reason) == ("failed", "The store does not answer.")


def test_a_job_claimed_after_its_deadline_fails_and_does_nothing(db: None, tmp_path: Path) -> None:
    order("note", tmp_path, deadline_at=clock.now() + timedelta(hours=1))
    clock.set_offset(clock._offset + timedelta(days=1))

    engine.tick(JobWork())

    assert (the_job().state, the_job().reason) == ("failed", "Its time was over before anybody began it.")
    assert not (tmp_path / "done").exists()


def test_a_job_that_was_begun_is_not_begun_again_after_its_deadline(db: None, tmp_path: Path) -> None:
    job = order("note", tmp_path, deadline_at=clock.now() + timedelta(hours=1))
    Job.objects.filter(pk=job.pk).update(started_at=clock.now())
    clock.set_offset(clock._offset + timedelta(days=1))

    engine.tick(JobWork())

    assert (the_job().state, the_job().reason) == ("failed", "Its time was over before it was done.")
    assert not (tmp_path / "done").exists()


def test_a_job_nobody_has_begun_stops_at_once(db: None, tmp_path: Path) -> None:
    order("note", tmp_path)

    ask_stop(key=KEY, at=clock.now())

    assert (the_job().state, the_job().reason) == ("stopped", "Stopped before it began.")
    assert engine.tick(JobWork()) == 0
    assert not (tmp_path / "done").exists()


def process(database: TestDatabase, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
    """Start `manage.py jobs` on the test's database, with a short lease and a small disk."""
    words = {**os.environ, "DATABASE_URL": database.url, "DJANGO_SETTINGS_MODULE": "tests.settings_jobs", **more}
    return subprocess.Popen([sys.executable, "manage.py", "jobs", *arguments], cwd=ROOT, env=words)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(folder: Path) -> list[int]:
    path = folder / "began"
    return [int(one) for one in path.read_text().split()] if path.exists() else []


@pytest.fixture
def supervisor(fresh_db: TestDatabase) -> Iterator[subprocess.Popen[bytes]]:
    started = process(fresh_db, "--at-once", "1")
    yield started
    started.terminate()
    started.wait(120)


@pytest.mark.slow
def test_a_job_whose_process_is_killed_goes_on_in_another(  # RUN-1
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    order("wait", tmp_path)
    until(lambda: len(pids(tmp_path)) == 1)
    until(lambda: the_job().progress == {"waits": True})
    worker = int(subprocess.check_output(["ps", "-o", "ppid=", "-p", str(pids(tmp_path)[0])]))

    os.killpg(worker, signal.SIGKILL)
    until(lambda: len(pids(tmp_path)) == 2)
    (tmp_path / "go").touch()

    until(lambda: the_job().state == "done")
    assert the_job().result == {"waited": True}


@pytest.mark.slow
def test_a_job_that_is_told_to_stop_ends_with_all_it_started(
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    order("wait", tmp_path)
    until(lambda: len(pids(tmp_path)) == 1)

    ask_stop(key=KEY, at=clock.now())

    until(lambda: the_job().state == "stopped")
    assert the_job().reason == "Stopped because somebody asked for it."
    until(lambda: not is_alive(pids(tmp_path)[0]))


@pytest.mark.slow
def test_a_job_past_its_deadline_fails(fresh_db: TestDatabase, settings: Any, tmp_path: Path) -> None:
    settings.WORKFLOW_LEASE_SECONDS = 6
    # In this process: another takes as long to start as the machine is busy, and may begin after any deadline.
    order("wait", tmp_path, deadline_at=clock.now() + timedelta(seconds=5))

    engine.tick(JobWork())

    assert (the_job().state, the_job().reason) == ("failed", "It took longer than it may, and was stopped.")
    assert not is_alive(pids(tmp_path)[0])


@pytest.mark.slow
def test_a_stopped_host_gives_its_jobs_back_at_once(fresh_db: TestDatabase, tmp_path: Path) -> None:
    order("wait", tmp_path)
    host = process(fresh_db)
    until(lambda: len(pids(tmp_path)) == 1)

    host.terminate()
    host.wait(120)

    job = the_job()
    assert (job.state, job.lease_token, job.attempts) == ("open", None, 0)
    assert not is_alive(pids(tmp_path)[0])


@pytest.mark.slow
def test_a_process_that_lost_its_lease_ends_with_all_it_started(  # RUN-1
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    order("wait", tmp_path)
    until(lambda: len(pids(tmp_path)) == 1)
    first = pids(tmp_path)[0]

    Job.objects.filter(key=KEY).update(lease_token=None, lease_until=None, next_due_at=None)

    until(lambda: not is_alive(first))
    assert the_job().state == "open"


class SilentRoad:
    """A way to the database on which, once it is silent, all is taken and nothing comes back."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._there = (parts.hostname or "", parts.port or 5432)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._is_silent = threading.Event()
        self._ends: list[socket.socket] = [self._server]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self._server.getsockname()[1]}"))

    def be_silent(self) -> None:
        self._is_silent.set()

    def close(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here = self._server.accept()[0]
                there = socket.create_connection(self._there)
                self._ends += [here, there]
                for pair in ((here, there), (there, here)):
                    self._threads.append(threading.Thread(target=self._carry, args=pair))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not self._is_silent.is_set():
                    target.sendall(data)


@pytest.mark.slow
def test_a_process_whose_database_answers_nothing_ends_with_its_lease(  # RUN-1
    fresh_db: TestDatabase, tmp_path: Path
) -> None:
    job = order("wait", tmp_path)
    road = SilentRoad(fresh_db.url)
    worker = process(fresh_db, "--only", str(job.pk), DATABASE_URL=road.url)

    try:
        until(lambda: the_job().progress == {"waits": True})
        road.be_silent()

        assert worker.wait(55) == LOST
        until_then = the_job().lease_until
        assert until_then is not None
        assert clock.now() < until_then + timedelta(seconds=10)
    finally:
        worker.kill()
        worker.wait()
        road.close()
        for pid in pids(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_job_that_takes_more_disk_than_it_may_is_stopped(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    order("fill", tmp_path)

    until(lambda: the_job().state == "failed")

    assert the_job().reason == "It took 0.03 GiB of disk and may take 0.02 (JOB_DISK_GIB); it was stopped."


@pytest.mark.slow
def test_a_job_whose_processes_take_more_memory_than_it_may_is_stopped(fresh_db: TestDatabase, tmp_path: Path) -> None:
    order("hoard", tmp_path)
    host = process(fresh_db, JOB_MEMORY_MIB="300")

    try:
        until(lambda: the_job().state == "failed")
    finally:
        host.terminate()
        host.wait(120)

    assert re.fullmatch(
        r"It took [3-9]\d\d MiB of memory and may take 300 \(JOB_MEMORY_MIB\); it was stopped\.", the_job().reason
    )
