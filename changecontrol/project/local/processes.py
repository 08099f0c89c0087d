"""Locks, ports and small state files of one machine (Linux), beside the processes of `changecontrol.processes`.

Guarantees that a lock ends with its holder, and that a state file is never half written.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from changecontrol.processes import (
    Account,
    LocalServiceError,
    end_with_parent,
    is_same_process,
    last_lines,
    private_folder,
    processes_working_in,
    run_as,
    send,
    start_time_of,
    stop_child,
    unprivileged_account,
    wait_until,
)

# The modules of local development find both in one place.
__all__ = [
    "Account",
    "AlreadyRunning",
    "LocalServiceError",
    "Lock",
    "end_with_parent",
    "free_port",
    "is_port_free",
    "is_same_process",
    "last_lines",
    "private_folder",
    "processes_working_in",
    "read_state",
    "run_as",
    "send",
    "start_time_of",
    "stop_child",
    "unprivileged_account",
    "wait_until",
    "waiting_lock",
    "write_private",
    "write_state",
]


class AlreadyRunning(LocalServiceError):
    """Another process holds the folder's lock."""


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
