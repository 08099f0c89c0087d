"""Processes of this machine (Linux): as whom they run, when they end, how they are recognised and stopped.

A process is recognised by its start time as well as its id. Knows nothing of Django or of what the processes are for.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
UNPRIVILEGED_USERS = ("postgres", "nobody")
POLL_SECONDS = 0.02

# Loaded before any fork: the child may only call it.
_LIBC = ctypes.CDLL(None, use_errno=True)


class LocalServiceError(RuntimeError):
    """Something on this machine is in the way; the message is a sentence for the person at the terminal."""


@dataclass(frozen=True)
class Account:
    """The operating-system user that a server runs as."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Return the user that servers run as when we are root, or None when we are an ordinary user already."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LocalServiceError(
        "PostgreSQL does not run as root, and this machine has neither a user 'postgres' nor 'nobody' to run it as."
    )


def run_as(account: Account | None) -> dict[str, Any]:
    """Return the `subprocess` arguments that start a child as this account."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def end_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that asks the kernel for this signal when the starting thread ends.

    Start such children from the main thread: the kernel watches the thread, not the process.
    """
    parent = os.getpid()

    def prepare() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        # The parent may have died between fork and the line above.
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def start_time_of(pid: int) -> int | None:
    """Return the kernel's start time of a live process (clock ticks since boot), or None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name may hold spaces and brackets; what follows its last bracket does not.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_same_process(pid: int, *, started: int) -> bool:
    """Tell whether this id still belongs to the process that started then."""
    return start_time_of(pid) == started


def processes_working_in(folder: Path) -> list[int]:
    """Return the ids of live processes whose working directory is this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            working_directory = os.readlink(entry / "cwd")
        except OSError:
            continue
        if working_directory == str(folder) and start_time_of(int(entry.name)) is not None:
            found.append(int(entry.name))
    return sorted(found)


def family_of(pid: int) -> list[int]:
    """Return a live process and all that it started, and what those started, whatever group they joined."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent_of(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def memory_of(pids: Iterable[int]) -> int:
    """Return how many bytes of memory processes hold together; what several share, as PostgreSQL's do, counts once."""
    return sum(map(_share_of_memory, pids))


def _share_of_memory(pid: int) -> int:
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0  # it has ended meanwhile
    return next((int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("Pss:")), 0)


def room_taken_by(folder: Path) -> int:
    """Return how many bytes of its disk a folder takes with all that is in it; what goes away meanwhile counts not."""
    total, folders = 0, [str(folder)]
    for path in folders:
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
        except OSError:
            continue
    return total


def send(pid: int, signal_number: signal.Signals) -> None:
    """Send a signal; a process that has gone meanwhile is no error."""
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Wait for a condition; return whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def stop_child(child: subprocess.Popen[bytes], *, steps: tuple[tuple[signal.Signals, float], ...]) -> None:
    """Send each signal in turn, waiting as long as its step says, until the child has ended; SIGKILL comes last."""
    for signal_number, seconds in steps:
        if child.poll() is not None:
            return
        child.send_signal(signal_number)
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    child.kill()
    child.wait()


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner enters, and return its absolute path."""
    path.mkdir(parents=True, exist_ok=True)
    absolute = path.resolve()
    absolute.chmod(0o700)
    return absolute


def last_lines(path: Path, *, count: int = 3) -> str:
    """Return the end of a log, for a sentence about why a server did not start."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in lines[-count:])
