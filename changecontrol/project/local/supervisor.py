"""Runs a set of programs together: starts them, starts one again that ends, stops all of them.

Every program has a process group of its own, and a mark in its environment by which the next supervisor finds what a
killed one left behind. Output goes to one log file a program.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from changecontrol.project.local.processes import end_with_parent, send, start_time_of, wait_until

MARK = "CHANGECONTROL_SUPERVISED_IN"
GRACE_SECONDS = 10.0
SHORTEST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
LOOK_SECONDS = 0.2
LOG_BYTES = 5_000_000


@dataclass(frozen=True)
class Program:
    """One program: a name for people, and its command."""

    name: str
    command: Sequence[str]


class Supervisor:
    """Runs programs until told to stop. `say` hands each sentence to the person at the terminal."""

    def __init__(
        self, *, folder: Path, working_directory: Path, environment: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._working_directory = working_directory
        self._environment = {**environment, MARK: str(folder)}
        self._say = say
        self._children: dict[str, _Child] = {}

    def start(self, program: Program) -> None:
        """Start a program and look after it from now on."""
        child = _Child(program=program)
        self._children[program.name] = child
        self._spawn(child)

    def pids(self) -> dict[str, int]:
        """Return the process id of each program that is alive, by name."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.poll() is None
        }

    def log_of(self, name: str) -> Path:
        """Return where a program's output goes."""
        return self._folder / "logs" / f"{name}.log"

    def look_after(self) -> None:
        """Start again what has ended and has waited out its pause; call this every moment or so."""
        now = time.monotonic()
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._note_end(child, now=now)
            if child.process is None and now >= child.start_again_at:
                self._spawn(child)

    def stop(self, *, hurried: Callable[[], bool] = lambda: False) -> None:
        """End every program: SIGTERM, and SIGKILL to what is left of each group when the grace is over or hurried."""
        groups = [child.process.pid for child in self._children.values() if child.process is not None]
        for child in self._children.values():
            # The leader alone at first: it ends its own workers in order, and a task may finish.
            if child.process is not None and child.process.poll() is None:
                send(child.process.pid, signal.SIGTERM)
        wait_until(lambda: not self.pids() or hurried(), seconds=GRACE_SECONDS)
        for group in groups:
            _kill_group(group)
        for child in self._children.values():
            if child.process is not None:
                child.process.wait()
        end_marked(self._folder, grace_seconds=0)
        self._children.clear()

    def _spawn(self, child: _Child) -> None:
        log_file = self.log_of(child.program.name)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        mode = "ab" if log_file.exists() and log_file.stat().st_size < LOG_BYTES else "wb"
        with log_file.open(mode) as log:
            child.process = subprocess.Popen(
                child.program.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._working_directory,
                env=self._environment,
                # A group of its own: Ctrl-C reaches us alone, and we stop the programs in order.
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGTERM),
            )
        child.started_at = time.monotonic()

    def _note_end(self, child: _Child, *, now: float) -> None:
        assert child.process is not None
        _kill_group(child.process.pid)
        if now - child.started_at >= STEADY_SECONDS:
            child.pause_seconds = SHORTEST_PAUSE_SECONDS
        name, code = child.program.name, child.process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        self._say(f"{name} {how}; it starts again in {child.pause_seconds:.0f} s (log: {self.log_of(name)}).")
        child.process = None
        child.start_again_at = now + child.pause_seconds
        child.pause_seconds = min(child.pause_seconds * 2, LONGEST_PAUSE_SECONDS)


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    pause_seconds: float = SHORTEST_PAUSE_SECONDS


def marked_processes(folder: Path) -> list[int]:
    """Return the live processes that a supervisor of this folder started, however deep below it."""
    wanted = f"{MARK}={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0") and start_time_of(int(entry.name)) is not None:
            found.append(int(entry.name))
    return sorted(found)


def end_marked(folder: Path, *, grace_seconds: float = GRACE_SECONDS) -> int:
    """End what a supervisor of this folder left behind, and return how many processes that were.

    A mark in the environment, not a process id in a file: an id may belong to a stranger by now.
    """
    left = marked_processes(folder)
    if not left:
        return 0
    if grace_seconds:
        for pid in left:
            send(pid, signal.SIGTERM)
        wait_until(lambda: not marked_processes(folder), seconds=grace_seconds)
    for pid in marked_processes(folder):
        send(pid, signal.SIGKILL)
    wait_until(lambda: not marked_processes(folder), seconds=GRACE_SECONDS)
    return len(left)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody is left in it.
        return
