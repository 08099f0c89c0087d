"""Processes, locks, ports and small state files of one machine (Linux).

Guarantees that a lock ends with its holder, that a process is recognised by its start time as well as its id,
and that a state file is never half written.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


class AlreadyRunning(LocalServiceError):
    """Another process holds the folder's lock."""


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


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_port_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen here now."""
    with socket.socket() as probe:
        # As servers do, or a connection that has just closed would make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


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


class Lock:
    """An exclusive lock on a file, held until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, refusal: str) -> None:
        """Take the lock, or raise `AlreadyRunning` with the sentence given and the holder's process id."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise AlreadyRunning(f"{refusal} (process {holder or 'unknown'}).") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; releasing twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for the length of a block, waiting for it as long as it takes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner enters, and return its absolute path."""
    path.mkdir(parents=True, exist_ok=True)
    absolute = path.resolve()
    absolute.chmod(0o700)
    return absolute


def write_private(path: Path, content: str) -> None:
    """Write a file only its owner reads; a reader sees the old or the new content, never a half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_state(path: Path) -> dict[str, Any]:
    """Return a state file's content; a missing or damaged one counts as empty."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state file that only its owner reads."""
    write_private(path, json.dumps(dict(state), indent=1, sort_keys=True) + "\n")


def last_lines(path: Path, *, count: int = 3) -> str:
    """Return the end of a log, for a sentence about why a server did not start."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in lines[-count:])
