"""The folder of one run: made for the user that PostgreSQL runs as, marked with the run's id, torn down by it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from changecontrol.errors import Hindered, Permanent
from changecontrol.processes import Account, LocalServiceError, run_as, unprivileged_account
from recovery.adapters.run_folders import folder_of, make_folder, remove_folder

LONGEST_SOCKET_FOLDER = 90
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
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)

    @contextmanager
    def writing(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a file anew that the user whom PostgreSQL runs as will own.

        What has its place goes, and is not followed: a copy may have come with a link to a file of somebody else's.
        """
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            if self.account is not None:
                os.fchown(file.fileno(), self.account.uid, self.account.gid)
            yield file

    @property
    def log(self) -> Path:
        return self.folder / "postgres.log"


def make_sandbox(parent: Path, *, run_id: str) -> Sandbox:
    """Make the folder of a run. Raises `Hindered` where there is one, or the place does not serve."""
    folder = _folder_of(parent, run_id=run_id)
    try:
        account = unprivileged_account()
        parts = (folder / "data", folder / "wal", folder / "s")
        make_folder(folder, run_id=run_id, parts=parts, account=account)
    except FileExistsError:
        raise Hindered(f"The run {run_id} has a folder already: tear it down first.") from None
    except (OSError, LocalServiceError) as error:
        raise Hindered(f"The folder {folder} for a restore cannot be made: {error}.") from None
    test = subprocess.run(["/bin/sh", "-c", f"test -w {folder}/data"], check=False, **run_as(account))  # noqa: S603
    if test.returncode != 0:
        raise Hindered(f"The user that PostgreSQL runs as cannot reach {folder}: choose another place.")
    return Sandbox(run_id=run_id, folder=folder, account=account)


@contextmanager
def written_to(sandbox: Sandbox) -> Iterator[None]:
    """Turn what a file system refuses, as a full one does, into a sentence."""
    try:
        yield
    except OSError as error:
        raise Hindered(f"The folder {sandbox.folder} cannot be written to: {error.strerror}.") from None


def tear_down(parent: Path, *, run_id: str) -> None:
    """End what runs in the folder of a run and delete it; a folder that is not there is no error.

    Raises `Permanent` for a folder that does not carry the run's id: it is not ours to delete.
    """
    folder = _folder_of(parent, run_id=run_id)
    steps = (*STOP_STEPS, (signal.SIGKILL, 5.0))
    remove_folder(folder, run_id=run_id, working_in=folder / "data", steps=steps)


def _folder_of(parent: Path, *, run_id: str) -> Path:
    folder = folder_of(parent, run_id=run_id)
    if len(str(folder / "s")) > LONGEST_SOCKET_FOLDER:
        raise Permanent(f"The folder {folder} is too long for a socket: choose another place.")
    return folder
