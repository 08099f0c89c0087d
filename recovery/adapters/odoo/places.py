"""The folder of one run of Odoo: made for the user that Odoo runs as, marked with the run's id, torn down by it."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from changecontrol.errors import Permanent
from changecontrol.processes import Account, LocalServiceError, run_as, unprivileged_account
from recovery.adapters.run_folders import folder_of, make_folder, remove_folder

PREFIX = "odoo-"
STOP_STEPS = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one run; Odoo works in `work`, by which its processes are known, and keeps its files in `data`."""

    run_id: str
    folder: Path
    account: Account | None

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "odoo.log"

    @property
    def configuration(self) -> Path:
        return self.folder / "odoo.conf"

    def write(self, path: Path, content: str) -> None:
        """Write a file that only the user whom Odoo runs as reads."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def make_place(parent: Path, *, run_id: str) -> Place:
    """Make the folder of a run anew: what a killed attempt of the same run left is torn down first.

    Raises `Permanent` where the place does not serve.
    """
    tear_down_odoo(parent, run_id=run_id)
    folder = folder_of(parent, run_id=run_id, prefix=PREFIX)
    try:
        account = unprivileged_account()
        place = Place(run_id=run_id, folder=folder, account=account)
        parts = (place.work, place.data, place.data / "filestore")
        make_folder(folder, run_id=run_id, parts=parts, account=account)
    except (OSError, LocalServiceError) as error:
        raise Permanent(f"The folder {folder} for Odoo cannot be made: {error}.") from None
    if not is_reachable(place.work, account=account):
        tear_down_odoo(parent, run_id=run_id)
        raise Permanent(f"The user that Odoo runs as cannot reach {folder}: choose another place.")
    return place


def is_reachable(path: Path, *, account: Account | None) -> bool:
    """Tell whether the user that Odoo runs as may read and write there."""
    test = subprocess.run(["test", "-r", path, "-a", "-w", path], check=False, **run_as(account))  # noqa: S603, S607
    return test.returncode == 0


def tear_down_odoo(parent: Path, *, run_id: str) -> None:
    """End what runs for a run and delete its folder; a folder that is not there is no error.

    Raises `Permanent` for a folder that does not carry the run's id: it is not ours to delete.
    """
    folder = folder_of(parent, run_id=run_id, prefix=PREFIX)
    remove_folder(folder, run_id=run_id, working_in=folder / "work", steps=STOP_STEPS)
