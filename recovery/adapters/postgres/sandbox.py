"""The folder of one run: made for the user that PostgreSQL runs as, marked with the run's id, torn down by it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from changecontrol.errors import Permanent
from changecontrol.project.local.processes import (
    Account,
    LocalServiceError,
    processes_working_in,
    run_as,
    send,
    start_time_of,
    unprivileged_account,
    wait_until,
)

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]+")
LONGEST_SOCKET_FOLDER = 90
MARKER = "run"
# Fast shutdown first (clients are cut off), then immediate, then the kernel.
STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 5.0))


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The folder of one run: `data` is the data directory, `wal` what is replayed, `socket` where it answers."""

    run_id: str
    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def wal(self) -> Path:
        return self.folder / "wal"

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    def give(self, path: Path) -> None:
        """Let the user that PostgreSQL runs as own a file."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"


def make_sandbox(parent: Path, *, run_id: str) -> Sandbox:
    """Make the folder of a run. Raises `Permanent` where there is one, or the place does not serve."""
    folder = _folder_of(parent, run_id=run_id)
    try:
        account = unprivileged_account()
        folder.mkdir(mode=0o700, parents=True)
        (folder / MARKER).write_text(run_id)
        for part in (folder, folder / "data", folder / "wal", folder / "s"):
            part.mkdir(mode=0o700, exist_ok=True)
            if account is not None:
                os.chown(part, account.uid, account.gid)
    except FileExistsError:
        raise Permanent(f"The run {run_id} has a folder already: tear it down first.") from None
    except (OSError, LocalServiceError) as error:
        raise Permanent(f"The folder {folder} for a restore cannot be made: {error}.") from None
    test = subprocess.run(["/bin/sh", "-c", f"test -w {folder}/data"], check=False, **run_as(account))  # noqa: S603
    if test.returncode != 0:
        raise Permanent(f"The user that PostgreSQL runs as cannot reach {folder}: choose another place.")
    return Sandbox(run_id=run_id, folder=folder, account=account)


def tear_down(parent: Path, *, run_id: str) -> None:
    """End what runs in the folder of a run and delete it; a folder that is not there is no error.

    Raises `Permanent` for a folder that does not carry the run's id: it is not ours to delete.
    """
    folder = _folder_of(parent, run_id=run_id)
    if not folder.is_dir():
        return
    marker = folder / MARKER
    if not marker.is_file() or marker.read_text() != run_id:
        raise Permanent(f"{folder} does not carry the run's id, so it stays.")
    for signal_number, seconds in (*STOP_STEPS, (signal.SIGKILL, 5.0)):
        left = processes_working_in(folder / "data")
        for pid in left:
            send(pid, signal_number)
        if _have_ended(left, seconds=seconds):
            break
    shutil.rmtree(folder)


def _folder_of(parent: Path, *, run_id: str) -> Path:
    if not RUN_ID.fullmatch(run_id):
        raise Permanent("A run's id is made of letters, digits, hyphens and underscores.")
    folder = parent.resolve() / run_id
    # It stands in the server's configuration and in the command that fetches WAL.
    if not PLAIN_PATH.fullmatch(str(folder)) or len(str(folder / "s")) > LONGEST_SOCKET_FOLDER:
        raise Permanent(f"The folder {folder} is too long for a socket, or has signs that a command would not bear.")
    return folder


def _have_ended(pids: Sequence[int], *, seconds: float) -> bool:
    return wait_until(lambda: not any(map(start_time_of, pids)), seconds=seconds)
