"""Worker processes with the toy workflows, a far side that counts, and servers of a test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from changecontrol import clock
from changecontrol.project.local.processes import end_with_parent, send, wait_until
from tests.plugin import ROOT, TestDatabase


@dataclass
class Workshop:
    """Starts processes that share one far side; everything it started is ended with the test."""

    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def far_side(self) -> Path:
        return self.folder / "far-side"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                preexec_fn=end_with_parent(signal.SIGTERM),
            )
        self.processes.append(process)
        return process

    def start_crew(self, count: int) -> Crew:
        return Crew(self.start("-m", "tests.concurrency.crew", str(count)).pid)

    def end(self) -> None:
        for process in self.processes:
            send(process.pid, signal.SIGCONT)
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True)
class Crew:
    pid: int

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live now."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]


@pytest.fixture
def workshop(tmp_path: Path, fresh_db: TestDatabase) -> Iterator[Workshop]:
    (tmp_path / "far-side").mkdir()
    (tmp_path / "gate").mkdir()
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.settings_toy",
        "TOY_FAR_SIDE": str(tmp_path / "far-side"),
        "TOY_GATE": str(tmp_path / "gate"),
        "DATABASE_CONNECTION_SECONDS": "60",
    }
    made = Workshop(folder=tmp_path, environment=environment)
    yield made
    made.end()
    # A killed worker's connection outlives it by a moment, and a database in use cannot be dropped.
    wait_until(lambda: not _others_in_database(), seconds=60)


def _others_in_database() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return bool(cursor.fetchone()[0])


@pytest.fixture(autouse=True)
def host_clock() -> Iterator[None]:
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


def until(condition: Callable[[], bool], *, seconds: float, log: Callable[[], str]) -> None:
    """Wait for a condition, longer where the machine is busy, or fail with the end of the log."""
    began = time.monotonic()
    while not condition():
        time.sleep(0.1)
        if time.monotonic() > began + stretched(seconds):
            pytest.fail(f"It did not come true within {stretched(seconds):.0f} s. The log ends:\n{log()[-3000:]}")


def stretched(seconds: float) -> float:
    """Return how long something takes at most that takes so long when nobody else is at work here."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
