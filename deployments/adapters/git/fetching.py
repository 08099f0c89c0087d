"""Fetches in a process of its own, which goes on where the worker that asked for it has to end its tick.

One such process a mirror, known by the lock it holds on `<mirror>.fetch`. The file says how far it is and, at the end,
what went wrong, until somebody has been told. `__main__` is what runs there, bounded in time and in bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from changecontrol import clock
from changecontrol.errors import Permanent, Transient, UnderWay

WAIT_SECONDS = 8.0
"""How long a tick waits. What takes longer goes on without it."""
TOLD_WITHIN_SECONDS = {"done": 15, "going": 600, "transient": 600, "permanent": 600}
"""An ending nobody asked for in time says nothing about now."""
SILENT_MILLISECONDS = 60_000
"""A server may take its time to pack what is fetched for the first time; nobody waits for it there."""
STALLED_SECONDS = 300
"""A fetch in which nothing is received or indexed for so long ends, and counts as a failed attempt."""
BROKE_OFF = "The fetch of the Git source broke off."
BUSY = 3
"""The exit code for: another process fetches into this mirror already."""
ROOT = Path(__file__).resolve().parents[3]
PASSED_ON = ("HOME", "LANG", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Order:
    """What to fetch. It goes to the process by its standard input: no list of processes shows the secret."""

    url: str
    mirror: str
    secret: str | None
    is_local_allowed: bool
    hosts: Sequence[str]


def note_of(mirror: Path) -> Path:
    return mirror.with_name(f"{mirror.name}.fetch")


def fetch(order: Order, *, since: datetime | None = None) -> None:
    """Bring a mirror up to date, or raise `UnderWay` where that takes longer than a tick may wait.

    With `since`, only a fetch begun later counts: an earlier one may have listed the refs too soon.
    """
    try:
        _fetch(order, since)
    except OSError as error:
        # No process, file or memory to be had: that says nothing about the mirror.
        raise Transient(f"The fetch of the Git source could not begin on this worker: {error.strerror}.") from None


def _fetch(order: Order, since: datetime | None) -> None:
    path = note_of(Path(order.mirror))
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + WAIT_SECONDS
    while True:
        if not _is_going(path):
            if _is_done(path, since):
                return
            code = _run(order, path, until)
            if code != BUSY:
                if not _is_done(path) and code:
                    raise Transient(BROKE_OFF)
                return
        # It may have listed the refs before what is wanted was there: once it ends, another one looks again.
        _wait(path, until)


def is_going_on(mirror: Path) -> UnderWay | None:
    """Return the word for a fetch that holds this mirror now, or None."""
    path = note_of(mirror)
    return UnderWay(_progress(path)) if path.exists() and _is_going(path) else None


def _run(order: Order, path: Path, until: float) -> int:
    process = _begun(order)
    try:
        while process.poll() is None:
            _wait(path, until)
    except UnderWay:
        # Nobody asks for it any more; when it ends it must not stay behind as a zombie.
        threading.Thread(target=process.wait, daemon=True).start()
        raise
    return process.returncode


def _begun(order: Order) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.adapters.git"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # what ends the worker does not end the fetch
    )
    limits = {
        "silent_milliseconds": SILENT_MILLISECONDS,
        "stalled_seconds": STALLED_SECONDS,
        "wait_seconds": WAIT_SECONDS,
        "begun_at": clock.now().timestamp(),
    }
    stdin = process.stdin
    assert stdin is not None, "asked for above"
    try:
        stdin.write(json.dumps({**asdict(order), **limits}).encode())
        stdin.close()
    except BrokenPipeError:
        pass  # it ended before it read: its exit code says so
    return process


def _wait(path: Path, until: float) -> None:
    if time.monotonic() >= until:
        raise UnderWay(_progress(path))
    time.sleep(0.02)


def _is_going(path: Path) -> bool:
    with path.open("a+") as file:
        return not is_locked_by_us(file)


def is_locked_by_us(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_done(path: Path, since: datetime | None = None) -> bool:
    """Tell once what became of a fetch that ended: raise its failure, or say that it has just succeeded."""
    with path.open("a+") as file:
        if not is_locked_by_us(file):
            return False
        found = _read(file)
        file.truncate(0)
    if not found or time.time() > float(found["at"]) + TOLD_WITHIN_SECONDS[found["state"]]:
        return False
    if found["state"] == "done":
        return since is None or float(found["begun_at"]) >= since.timestamp()
    if found["state"] == "going":
        raise Transient(BROKE_OFF)
    raise (Permanent if found["state"] == "permanent" else Transient)(str(found["reason"]))


def _progress(path: Path) -> str:
    with path.open("a+") as file:
        found = _read(file)
    is_new = not path.with_name(path.name.removesuffix(".fetch")).exists()
    first = " for the first time" if found.get("is_first", is_new) else ""
    return f"Fetching the source{first} ({size_words(int(found.get('bytes', 0)))})…"


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        found = json.loads(file.read() or "{}")
    except ValueError:
        return {}  # read while it was being written
    return found if isinstance(found, dict) else {}


def size_words(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
