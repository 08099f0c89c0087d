from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.processes import (
    AlreadyRunning,
    processes_working_in,
    read_state,
    start_time_of,
    wait_until,
    write_state,
)

CLONE = Path(__file__).resolve().parents[3]
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose cluster is made once for the tests here; each of them starts and stops it."""
    folder = tmp_path_factory.mktemp("postgres")
    yield folder
    Postgres(folder).destroy()


@pytest.fixture
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder, durable=False).start()
    yield server
    server.stop()


def ask(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_first_start_makes_the_database_with_its_owner_and_its_application_role(postgres: Postgres) -> None:
    assert ask(postgres.owner_url, "SELECT current_user || ' in ' || current_database()") == (
        "changecontrol_owner in changecontrol"
    )
    assert ask(postgres.app_url, "SELECT current_user || ' in ' || current_database()") == (
        "changecontrol_app in changecontrol"
    )
    assert ask(postgres.app_url, "SELECT count(*) FROM pg_extension WHERE extname = 'btree_gist'") == 1


def test_a_new_database_has_btree_gist_and_lets_the_application_use_what_the_owner_makes(postgres: Postgres) -> None:
    ask(postgres.owner_url, "DROP DATABASE IF EXISTS another")
    ask(postgres.owner_url, "CREATE DATABASE another")
    owner, application = (
        url.removesuffix("changecontrol") + "another" for url in (postgres.owner_url, postgres.app_url)
    )

    ask(owner, "CREATE TABLE made_by_owner (id bigserial PRIMARY KEY, word text, EXCLUDE USING gist (word WITH =))")
    ask(application, "INSERT INTO made_by_owner (word) VALUES ('yes')")

    assert ask(application, "SELECT word FROM made_by_owner") == "yes"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE of_its_own (id int)",
        "CREATE DATABASE of_its_own",
        "CREATE ROLE of_its_own",
        "ALTER ROLE changecontrol_app SUPERUSER",
        "SET ROLE changecontrol_owner",
        "SELECT rolpassword FROM pg_authid",
        "TRUNCATE kept",
        "ALTER TABLE kept DISABLE TRIGGER ALL",
        "DROP TABLE kept",
        "COPY kept TO '/tmp/stolen'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    ],
)
def test_application_role_may_not(postgres: Postgres, statement: str) -> None:
    ask(postgres.owner_url, "CREATE TABLE IF NOT EXISTS kept (id int)")

    with psycopg.connect(postgres.superuser_url), pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(postgres.app_url, statement)


@pytest.mark.parametrize(
    "statement",
    ["CREATE ROLE of_its_own", "ALTER ROLE changecontrol_owner SUPERUSER", "SELECT rolpassword FROM pg_authid"],
)
def test_owner_role_may_not(postgres: Postgres, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(postgres.owner_url, statement)


def test_nobody_enters_without_the_password(postgres: Postgres) -> None:
    password = postgres.app_url.split(":")[2].split("@")[0]

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        ask(postgres.app_url.replace(password, "guessed"), "SELECT 1")


def test_passwords_are_kept_where_only_their_owner_reads(postgres: Postgres) -> None:
    files = [path for path in postgres.folder.iterdir() if path.is_file()]
    kept = [path for path in files if "passwords" in path.read_text(errors="replace")]

    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600]
    assert stat.S_IMODE(postgres.folder.stat().st_mode) == 0o700


def test_second_start_keeps_addresses_and_data(folder: Path) -> None:
    first = Postgres(folder, durable=False).start()
    before = (first.app_url, first.owner_url, first.superuser_url)
    ask(first.owner_url, "CREATE TABLE IF NOT EXISTS over_stops AS SELECT 'kept' AS word")
    first.stop()

    second = Postgres(folder, durable=False).start()
    try:
        assert (second.app_url, second.owner_url, second.superuser_url) == before
        assert ask(second.owner_url, "SELECT word FROM over_stops") == "kept"
    finally:
        second.stop()


def test_restart_keeps_port_and_data_and_cuts_off_who_was_connected(postgres: Postgres) -> None:
    ask(postgres.owner_url, "CREATE TABLE IF NOT EXISTS over_restarts AS SELECT 'kept' AS word")
    port, pid = postgres.port, postgres.pid

    with psycopg.connect(postgres.app_url, autocommit=True) as connection:
        postgres.restart()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    assert postgres.port == port
    assert postgres.pid != pid
    assert ask(postgres.owner_url, "SELECT word FROM over_restarts") == "kept"


def test_a_taken_port_is_replaced(folder: Path) -> None:
    postgres = Postgres(folder, durable=False).start()
    port = postgres.port
    postgres.stop()

    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        postgres.start()
    try:
        assert postgres.port != port
        assert ask(postgres.app_url, "SELECT 1") == 1
    finally:
        postgres.stop()


def test_a_killed_postmaster_is_recovered_from_while_its_children_still_live(folder: Path) -> None:
    killed = Postgres(folder, durable=False).start()
    ask(killed.owner_url, "CREATE TABLE IF NOT EXISTS over_kills AS SELECT 'kept' AS word")
    assert killed.pid is not None
    helpers = [pid for pid in processes_working_in(killed.cluster) if pid != killed.pid]
    for pid in helpers:
        # The server process of the connection just closed may be on its way out.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    os.kill(killed.pid, signal.SIGKILL)
    assert wait_until(lambda: not killed.is_running(), seconds=60)
    killed.stop()

    recovered = Postgres(folder, durable=False).start()
    try:
        assert [pid for pid in helpers if start_time_of(pid) is not None] == []
        assert ask(recovered.owner_url, "SELECT word FROM over_kills") == "kept"
    finally:
        recovered.stop()


def test_restart_recovers_a_server_that_was_killed(postgres: Postgres) -> None:
    port = postgres.port
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    assert wait_until(lambda: not postgres.is_running(), seconds=60)

    postgres.restart()

    assert postgres.port == port
    assert ask(postgres.app_url, "SELECT 1") == 1


def test_a_second_start_in_one_folder_is_refused_by_name(postgres: Postgres) -> None:
    with pytest.raises(AlreadyRunning, match=rf"already running.*process {os.getpid()}"):
        Postgres(postgres.folder).start()

    assert ask(postgres.app_url, "SELECT 1") == 1


def test_data_of_a_running_server_is_not_destroyed(postgres: Postgres) -> None:
    with pytest.raises(AlreadyRunning, match="its data stays"):
        Postgres(postgres.folder).destroy()

    assert ask(postgres.app_url, "SELECT 1") == 1


@pytest.mark.slow
def test_a_half_made_cluster_is_made_again(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "half", durable=False).start()
    ask(postgres.owner_url, "CREATE TABLE of_the_first (id int)")
    postgres.stop()
    state_file = postgres.folder / "postgres.json"
    write_state(state_file, read_state(state_file) | {"initialised": False})

    try:
        postgres.start()

        assert ask(postgres.owner_url, "SELECT to_regclass('of_the_first')") is None
    finally:
        postgres.destroy()


@pytest.mark.slow
def test_destroy_leaves_nothing_of_the_cluster(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "gone", durable=False).start()
    cluster = postgres.cluster
    made_for_it = cluster.parent if IS_ROOT else cluster

    postgres.destroy()

    assert not made_for_it.exists()
    assert not postgres.is_running()


def test_the_server_ends_with_the_process_that_started_it(folder: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from changecontrol.project.local.postgres import Postgres\n"
        f"print(Postgres(Path({str(folder)!r}), durable=False).start().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=CLONE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert start_time_of(pid) is not None
        starter.kill()

    assert wait_until(lambda: start_time_of(pid) is None, seconds=60)


@pytest.mark.skipif(not IS_ROOT, reason="only root has another user to run it as")
def test_as_root_the_server_runs_as_an_ordinary_user_in_a_folder_of_its_own(postgres: Postgres) -> None:
    server = Path(f"/proc/{postgres.pid}")

    assert server.stat().st_uid != 0
    assert postgres.cluster.stat().st_uid == server.stat().st_uid
    assert stat.S_IMODE(postgres.cluster.stat().st_mode) == 0o700
    # Root's own copy of the programs: the user that runs them must not be able to change them.
    programs = postgres.tool("postgres").parent
    assert {path.stat().st_uid for path in [programs, *programs.iterdir()]} == {0}
    assert all(not path.stat().st_mode & 0o022 for path in [programs, *programs.iterdir()])


@pytest.mark.skipif(IS_ROOT, reason="root keeps the cluster where an ordinary user reaches it")
def test_as_an_ordinary_user_everything_stays_in_the_folder(postgres: Postgres) -> None:
    assert postgres.cluster.parent == postgres.folder
