"""One PostgreSQL and one Valkey for everybody who tests in a clone at the same time.

A keeper process of their own runs both. Every user holds a shared lock; when the last one has gone, however it
ended, the keeper stops the servers and itself. So no test process, nor any pytest-xdist worker, owns them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.processes import (
    LocalServiceError,
    is_same_process,
    last_lines,
    private_folder,
    read_state,
    start_time_of,
    wait_until,
    waiting_lock,
    write_state,
)
from changecontrol.project.local.valkey import Valkey

CLONE = Path(__file__).resolve().parents[3]
LOOK_SECONDS = 0.25
START_SECONDS = 90.0
# What killed test runs left: nobody uses the servers while their keeper starts.
DROP_LEFTOVERS = r"SELECT format('DROP DATABASE %I', datname) FROM pg_database WHERE datname LIKE 'test\_%' \gexec" "\n"


@dataclass(frozen=True)
class Services:
    """Where the shared servers are."""

    owner_url: str
    app_url: str
    superuser_url: str
    redis_url: str
    postgres_programs: Path


# The descriptors that keep the servers alive, by folder: closed by the end of this process alone.
_held: dict[Path, int] = {}


def services_for_tests(folder: Path) -> Services:
    """Return the servers of this folder, starting them where nobody has; they stay while this process lives.

    Safe to call from many processes at once, and again in one. The data is disposable: nothing is synced to disk.
    Raises `LocalServiceError` with a sentence when they cannot be started.
    """
    folder = private_folder(folder)
    if folder not in _held:
        _held[folder] = _join_users(folder)
    with waiting_lock(folder / "start.lock"):
        found = _running(folder)
        return found if found is not None else _start_keeper(folder)


def _join_users(folder: Path) -> int:
    descriptor = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    # Waits while a keeper that saw no users is stopping the servers.
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _running(folder: Path) -> Services | None:
    state = read_state(folder / "services.json")
    if not state or not is_same_process(int(state["keeper"]), started=int(state["keeper_started"])):
        return None
    return Services(**{**state["services"], "postgres_programs": Path(state["services"]["postgres_programs"])})


def _start_keeper(folder: Path) -> Services:
    log_file = folder / "keeper.log"
    with log_file.open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "changecontrol.project.local.services", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=CLONE,
            start_new_session=True,
        )
    wait_until(lambda: _running(folder) is not None or keeper.poll() is not None, seconds=START_SECONDS)
    found = _running(folder)
    if found is None:
        keeper.terminate()
        raise LocalServiceError(f"The servers for tests did not start: {last_lines(log_file, count=1)}")
    # The keeper outlives us on purpose; without this, Python would warn that we never waited for it.
    keeper.returncode = 0
    return found


def keep(folder: Path) -> None:
    """Run both servers until nobody holds the users' lock, or until told to stop."""
    folder = private_folder(folder)
    state_file = folder / "services.json"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    postgres, valkey = Postgres(folder / "postgres", durable=False), Valkey(folder / "valkey")
    users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        postgres.start()
        valkey.start()
        postgres.run_sql(DROP_LEFTOVERS)
        services = Services(
            owner_url=postgres.owner_url,
            app_url=postgres.app_url,
            superuser_url=postgres.superuser_url,
            redis_url=valkey.url,
            postgres_programs=postgres.tool("psql").parent,
        )
        write_state(
            state_file,
            {
                "keeper": os.getpid(),
                "keeper_started": start_time_of(os.getpid()),
                "services": {**asdict(services), "postgres_programs": str(services.postgres_programs)},
            },
        )
        while postgres.is_running() and valkey.is_running() and not _is_deserted(users):
            time.sleep(LOOK_SECONDS)
    finally:
        # First, so that nobody who comes now is sent to servers that are going away.
        state_file.unlink(missing_ok=True)
        valkey.stop()
        postgres.stop()


def _is_deserted(users: int) -> bool:
    """Tell whether no user is left; when so, the lock stays ours, and new users wait until we have ended."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    try:
        keep(Path(sys.argv[1]))
    except LocalServiceError as error:
        sys.exit(str(error))
