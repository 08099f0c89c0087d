from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.processes import read_state, start_time_of, wait_until
from changecontrol.project.local.services import CLONE

USER = """
import sys
from pathlib import Path
from changecontrol.project.local.services import services_for_tests
print(services_for_tests(Path(sys.argv[1])).owner_url, flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "services"
    yield folder
    # The keeper may still be stopping.
    assert wait_until(lambda: not (folder / "services.json").exists(), seconds=60)
    assert wait_until(lambda: _try_destroy(folder), seconds=60)


def _try_destroy(folder: Path) -> bool:
    try:
        Postgres(folder / "postgres").destroy()
    except RuntimeError:
        return False
    return True


def start_user(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", USER, str(folder)],
        cwd=CLONE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def address(user: subprocess.Popen[str]) -> str:
    assert user.stdout is not None
    return user.stdout.readline().strip()


def can_connect(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_processes_that_start_at_once_share_one_pair_of_servers_until_the_last_has_gone(folder: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(start_user(folder)) for _ in range(3)]
        addresses = {address(user) for user in users}
        assert len(addresses) == 1
        url = addresses.pop()
        keeper = read_state(folder / "services.json")["keeper"]

        users[0].kill()
        users[1].communicate()
        assert can_connect(url)

        users[2].kill()
        users[2].wait()

    assert wait_until(lambda: start_time_of(keeper) is None, seconds=60)
    assert not can_connect(url)


def test_databases_that_a_killed_test_run_left_are_dropped_at_the_next_start(folder: Path) -> None:
    with start_user(folder) as user:
        url = address(user)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE test_left_behind")
            connection.execute("CREATE DATABASE template_kept")
        user.kill()
    assert wait_until(lambda: not (folder / "services.json").exists(), seconds=60)

    with start_user(folder) as user, psycopg.connect(address(user)) as connection:
        rows = connection.execute("SELECT datname FROM pg_database ORDER BY datname").fetchall()
        connection.close()
        user.communicate()

    assert [name for (name,) in rows] == ["changecontrol", "postgres", "template0", "template1", "template_kept"]


def test_the_state_that_processes_share_is_one_json_object(folder: Path) -> None:
    with start_user(folder) as user:
        url = address(user)
        state = json.loads((folder / "services.json").read_text())
        user.communicate()

    assert sorted(state) == ["keeper", "keeper_started", "services"]
    assert state["services"]["owner_url"] == url
