from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from changecontrol.project.local.processes import wait_until
from changecontrol.project.local.supervisor import Program, Supervisor, end_marked, marked_processes

CLONE = Path(__file__).resolve().parents[3]
STEADY = (sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)")
# Ignores SIGTERM, and has a child in a session of its own that does so too.
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; print(2, flush=True); time.sleep(60)'],"
    " start_new_session=True)\n"
    "print(1, flush=True); time.sleep(60)",
)


class Terminal:
    """What a person at the terminal has read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, sentence: str) -> None:
        self.lines.append(sentence)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def supervisor(tmp_path: Path, terminal: Terminal) -> Iterator[Supervisor]:
    supervisor = Supervisor(folder=tmp_path, working_directory=tmp_path, environment=os.environ, say=terminal)
    yield supervisor
    supervisor.stop(hurried=lambda: True)


def log_says(supervisor: Supervisor, name: str, *, count: int) -> bool:
    log = supervisor.log_of(name)
    return wait_until(lambda: len(log.read_text().splitlines()) >= count, seconds=60)


def test_a_program_that_was_killed_is_named_and_starts_again_after_its_pause(
    supervisor: Supervisor, terminal: Terminal
) -> None:
    supervisor.start(Program(name="worker", command=STEADY))
    first = supervisor.pids()["worker"]
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: not supervisor.pids(), seconds=60)

    supervisor.look_after()
    assert terminal.lines == [
        f"worker was ended by SIGKILL; it starts again in 1 s (log: {supervisor.log_of('worker')})."
    ]
    assert supervisor.pids() == {}
    time.sleep(1.1)
    supervisor.look_after()

    assert supervisor.pids()["worker"] != first


def test_a_program_that_keeps_ending_waits_longer_each_time(supervisor: Supervisor, terminal: Terminal) -> None:
    supervisor.start(Program(name="web", command=(sys.executable, "-c", "raise SystemExit(3)")))

    deadline = time.monotonic() + 60
    while len(terminal.lines) < 2 and time.monotonic() < deadline:
        supervisor.look_after()
        time.sleep(0.05)

    assert [line.partition(" (log")[0] for line in terminal.lines] == [
        "web ended with code 3; it starts again in 1 s",
        "web ended with code 3; it starts again in 2 s",
    ]


def test_stop_lets_a_program_end_by_itself(supervisor: Supervisor, tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit()))\n"
    )
    supervisor.start(
        Program(name="beat", command=(sys.executable, "-c", polite + "print(1, flush=True); time.sleep(60)"))
    )
    assert log_says(supervisor, "beat", count=1)

    supervisor.stop()

    assert (tmp_path / "logs" / "beat.log").read_text().splitlines() == ["1", "bye"]


def test_stop_leaves_nothing_even_of_programs_that_refuse_to_end(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program(name="stubborn", command=STUBBORN))
    assert log_says(supervisor, "stubborn", count=2)
    assert len(marked_processes(tmp_path)) == 2

    supervisor.stop(hurried=lambda: True)

    assert marked_processes(tmp_path) == []


def test_what_a_killed_supervisor_left_is_found_and_ended(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path\n"
        "from changecontrol.project.local.supervisor import Program, Supervisor\n"
        "folder = Path(sys.argv[1])\n"
        "one = Supervisor(folder=folder, working_directory=folder, environment=os.environ, say=print)\n"
        f"one.start(Program(name='stubborn', command={STUBBORN!r}))\n"
        "print('started', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=CLONE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        log = tmp_path / "logs" / "stubborn.log"
        assert wait_until(lambda: len(log.read_text().splitlines()) == 2, seconds=60)
        killed.kill()

    assert end_marked(tmp_path, grace_seconds=0.1) == 2
    assert marked_processes(tmp_path) == []
    assert end_marked(tmp_path) == 0


def test_programs_of_another_folder_are_left_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program(name="worker", command=STEADY))
    assert log_says(supervisor, "worker", count=1)

    assert end_marked(tmp_path / "other") == 0
    assert list(supervisor.pids()) == ["worker"]
