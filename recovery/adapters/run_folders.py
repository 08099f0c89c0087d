"""The folder of one run of a program: made for the user it runs as, marked with the run's id, torn down by it alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from changecontrol.errors import Permanent
from changecontrol.processes import Account, processes_working_in, send, start_time_of, wait_until

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]+")
MARKER = "run"

Steps = Sequence[tuple[signal.Signals, float]]
"""How what still runs is ended: a signal, and how many seconds it is given."""


def folder_of(parent: Path, *, run_id: str, prefix: str = "") -> Path:
    """Return where the folder of a run is. Raises `Permanent` for signs that a configuration would not bear."""
    if not RUN_ID.fullmatch(run_id):
        raise Permanent("A run's id is made of letters, digits, hyphens and underscores.")
    folder = parent.resolve() / f"{prefix}{run_id}"
    if not PLAIN_PATH.fullmatch(str(folder)):
        raise Permanent(f"The folder {folder} has signs that a command or a configuration would not bear.")
    return folder


def make_folder(folder: Path, *, run_id: str, parts: Iterable[Path], account: Account | None) -> None:
    """Make a folder that is not there, marked as the run's, with parts that the account owns. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True)
    (folder / MARKER).write_text(run_id)
    for part in (folder, *parts):
        part.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(part, account.uid, account.gid)


def remove_folder(folder: Path, *, run_id: str, working_in: Path, steps: Steps) -> None:
    """End what works in a part of the folder and delete it; a folder that is not there is no error.

    Raises `Permanent` for a folder that does not carry the run's id: it is not ours to delete.
    """
    if not folder.is_dir():
        return
    marker = folder / MARKER
    if not marker.is_file() or marker.read_text() != run_id:
        raise Permanent(f"{folder} does not carry the run's id, so it stays.")
    for signal_number, seconds in steps:
        left = processes_working_in(working_in)
        for pid in left:
            send(pid, signal_number)
        if _have_ended(left, seconds=seconds):
            break
    # What is linked is not followed: a link is removed without what it leads to.
    shutil.rmtree(folder)


def _have_ended(pids: Sequence[int], *, seconds: float) -> bool:
    return wait_until(lambda: not any(map(start_time_of, pids)), seconds=seconds)
