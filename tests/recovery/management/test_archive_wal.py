"""`manage.py archive_wal`: one process for each policy, what the store holds in the catalogue, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from changecontrol import clock
from changecontrol.actions.changes import create_change
from changecontrol.adapters.object_store import open_store
from changecontrol.models import Environment, Revision, Run, User
from changecontrol.project.local.postgres import Postgres
from recovery import doors
from recovery.actions.alarms import ensure_watch
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.archiving import ensure_slot
from recovery.adapters.postgres.programs import observe_server
from recovery.adapters.postgres.wal import observe_archive, open_wal
from recovery.management.commands.archive_wal import Keeper
from recovery.models import AlarmWatch, BackupPolicy, CutOver, WalSegment, WalSlot
from recovery.models.policy import Engine
from recovery.queries.alarms import alarms_of
from tests.factories.estate import actor, small_estate
from tests.factories.recovery import backup_policy
from tests.plugin import ROOT, TestDatabase

pytestmark = pytest.mark.slow

KEY = make_key_pair()
PREFIX = "northwind/production"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("source"), durable=False).start()
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE northwind")
    yield server
    server.destroy()


@pytest.fixture
def policy(fresh_db: TestDatabase, server: Postgres, tmp_path: Path) -> BackupPolicy:
    rows(doors.url_of(server.superuser_url, database="northwind"), "DROP TABLE IF EXISTS changecontrol_sentinel")
    drop_slots(server)
    (tmp_path / "source").touch(mode=0o600)
    (tmp_path / "source").write_text(server.superuser_url)
    estate = small_estate()
    estate.production.database = "northwind"
    estate.production.save(update_fields=["database"])
    return backup_policy(
        estate.production,
        at=clock.now(),
        source=f"file:{tmp_path}/source",
        store=f"file://{tmp_path}/objects",
        copy_store="",
        recipients=(KEY.recipient,),
        wal_seconds=1,
        has_sentinel=True,
    )


@pytest.fixture
def archive_wal(
    fresh_db: TestDatabase, server: Postgres, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts the command; what it said lies in the file `said`."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        words = {
            **os.environ,
            "DATABASE_URL": fresh_db.url,
            "WAL_FOLDERS": str(tmp_path / "wal"),
            "POSTGRES_PROGRAMS": str(server.tool("pg_receivewal").parent),
            "LOG_LEVEL": "INFO",
        }
        with (tmp_path / "said").open("ab") as said:
            command = [sys.executable, "manage.py", "archive_wal", *arguments]
            started.append(subprocess.Popen(command, cwd=ROOT, env=words, stdout=said, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
            child.wait()


def until(holds: Callable[[], Any], child: subprocess.Popen[bytes], *, seconds: float = 150) -> None:
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at
        assert child.poll() is None
        time.sleep(0.3)


def drop_slots(server: Postgres) -> None:
    """Let go of what an earlier test left; its receiver may still be ending."""
    ends_at = time.monotonic() + 150
    active = "SELECT FROM pg_replication_slots WHERE active"
    while rows(server.superuser_url, active):
        assert time.monotonic() < ends_at
        time.sleep(0.2)
    rows(server.superuser_url, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def replaced(policy: BackupPolicy, **words: Any) -> BackupPolicy:
    """Have another version in force."""
    BackupPolicy.objects.update(is_active=False)
    values = {one.attname: getattr(policy, one.attname) for one in BackupPolicy._meta.concrete_fields}
    return BackupPolicy.objects.create(**{**values, "id": None, "version": 2, "is_active": True, **words})


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []


def test_every_policy_is_archived_until_stopped_and_the_catalogue_knows_what_the_store_holds(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    slot = doors.slot_of(policy.environment)
    child = archive_wal()
    until(WalSegment.objects.exists, child)
    first = WalSegment.objects.get()
    rows(server.superuser_url, "SELECT pg_log_standby_snapshot()")
    until(lambda: WalSegment.objects.get().ends_at > first.ends_at, child)
    database = doors.url_of(server.superuser_url, database="northwind")
    until(lambda: rows(database, "SELECT to_regclass('changecontrol_sentinel')") != [(None,)], child)
    sentinels = rows(database, "SELECT count(*) FROM changecontrol_sentinel")

    child.send_signal(signal.SIGTERM)
    code = child.wait(timeout=150)

    found = observe_server(server.superuser_url)
    archive = observe_archive(
        open_store(f"file://{tmp_path}/objects"),
        prefix=PREFIX,
        system_identifier=found.system_identifier,
        segment_bytes=found.segment_bytes,
    )
    said = (tmp_path / "said").read_text()
    assert code == 0, said
    assert rows(server.superuser_url, "SELECT slot_name, active FROM pg_replication_slots") == [(slot, False)]
    assert WalSegment.objects.get().system_identifier == found.system_identifier
    assert sentinels == [(1,)]
    store = open_store(f"file://{tmp_path}/objects")
    assert open_wal(store, archive.objects[0], archive=archive, identities=[KEY.identity])
    assert "wal.shipped" in said
    assert str(psycopg.conninfo.conninfo_to_dict(server.superuser_url)["password"]) not in said

    assert archive_wal("--drop-slot", PREFIX).wait(timeout=150) == 1
    assert "The policy in force archives by this slot" in (tmp_path / "said").read_text()
    assert rows(server.superuser_url, "SELECT slot_name FROM pg_replication_slots") == [(slot,)]


def test_a_slot_that_no_policy_in_force_wants_is_told_and_dropped_when_asked(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:  # BCK-1
    ensure_slot(server.superuser_url, slot=doors.slot_of(policy.environment))
    replaced(policy, engine=Engine.EXTERNAL, wal_seconds=None)
    child = archive_wal()
    until(WalSlot.objects.exists, child)
    [alarm] = alarms_of(BackupPolicy.objects.get(version=2), at=clock.now())
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=150)

    dropped = archive_wal("--drop-slot", PREFIX).wait(timeout=150)

    assert (alarm.kind, dropped) == ("slot_left", 0)
    assert alarm.sentence.endswith(f"Remove it: manage.py archive_wal --drop-slot {PREFIX}")
    assert rows(server.superuser_url, "SELECT slot_name FROM pg_replication_slots") == []
    assert not WalSlot.objects.exists()
    said = (tmp_path / "said").read_text()
    assert f"There is no slot of {PREFIX} on the server of policy version 1 any more." in said


def test_wal_that_was_lost_while_nothing_archived_is_told_after_the_slot_is_made_anew(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]]
) -> None:  # BCK-1
    slot = doors.slot_of(policy.environment)
    ensure_slot(server.superuser_url, slot=slot)
    rows(server.superuser_url, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    rows(server.superuser_url, "SELECT pg_reload_conf()")
    try:
        for _ in range(8):
            rows(server.superuser_url, "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))")
            rows(server.superuser_url, "SELECT pg_switch_wal()")
        rows(server.superuser_url, "CHECKPOINT")
        assert rows(server.superuser_url, "SELECT wal_status FROM pg_replication_slots") == [("lost",)]

        child = archive_wal()
        until(lambda: WalSlot.objects.filter(wal_status="reserved", inactive_since=None).exists(), child)
    finally:
        rows(server.superuser_url, "ALTER SYSTEM RESET max_slot_wal_keep_size")
        rows(server.superuser_url, "SELECT pg_reload_conf()")

    assert "the archive has a hole. Back up now" in alarms_of(policy, at=clock.now())[0].sentence


def test_an_archiver_that_is_killed_is_started_again_and_ends_with_its_supervisor(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    child = archive_wal()
    until(WalSegment.objects.exists, child)

    os.kill(_archiver_of(child), signal.SIGKILL)
    at = WalSegment.objects.get().ends_at
    until(lambda: WalSegment.objects.get().ends_at > at, child)
    archiver = _archiver_of(child)
    child.kill()
    child.wait()

    ends_at = time.monotonic() + 150
    while Path(f"/proc/{archiver}").exists():
        assert time.monotonic() < ends_at
        time.sleep(0.2)
    assert WalSegment.objects.count() == 1


def test_an_environment_that_nobody_backs_up_has_no_slot_to_drop(
    fresh_db: TestDatabase, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    assert archive_wal("--drop-slot", "northwind/nowhere").wait(timeout=150) == 1
    assert "No environment “northwind/nowhere” has a backup policy that archives WAL" in (tmp_path / "said").read_text()


def _archiver_of(child: subprocess.Popen[bytes]) -> int:
    return int(subprocess.check_output(["pgrep", "-P", str(child.pid)]).split()[0])


@pytest.mark.parametrize("has_sentinel", [True, False], ids=["sentinels", "without"])
def test_a_database_that_is_dropped_while_its_server_runs_alarms_until_it_is_there_again(
    policy: BackupPolicy, server: Postgres, has_sentinel: bool
) -> None:  # BCK-1
    BackupPolicy.objects.update(has_sentinel=has_sentinel)
    policy.refresh_from_db()
    ensure_watch(policy.environment, at=clock.now())

    def asked(at: datetime) -> list[str]:
        Keeper(policy, url=server.superuser_url).look_at_database()
        return [one.sentence for one in alarms_of(policy, at=at) if one.kind == "database_failing"]

    there = asked(clock.now() + 3 * MINUTE)
    rows(server.superuser_url, "DROP DATABASE northwind WITH (FORCE)")
    try:
        at_once, later = asked(clock.now()), asked(clock.now() + 3 * MINUTE)
    finally:
        rows(server.superuser_url, "CREATE DATABASE northwind")
    again = asked(clock.now() + 3 * MINUTE)

    password = str(psycopg.conninfo.conninfo_to_dict(server.superuser_url)["password"])
    assert (there, at_once, len(later), again) == ([], [], 1, [])
    assert 'database "northwind" does not exist' in later[0]
    assert password not in later[0]


def test_the_command_says_that_the_database_is_gone_though_its_wal_is_archived(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:  # BCK-1
    ensure_watch(policy.environment, at=clock.now())
    rows(server.superuser_url, "DROP DATABASE northwind WITH (FORCE)")
    try:
        child = archive_wal()
        until(AlarmWatch.objects.exclude(database_trouble="").exists, child)
        until(WalSegment.objects.exists, child)
    finally:
        rows(server.superuser_url, "CREATE DATABASE northwind")
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=150)

    watch = AlarmWatch.objects.get()
    password = str(psycopg.conninfo.conninfo_to_dict(server.superuser_url)["password"])
    assert watch.database_trouble.startswith("northwind: ")
    assert watch.database_failing_since is not None
    assert password not in watch.database_trouble + (tmp_path / "said").read_text()


def test_where_the_reference_leads_to_the_database_that_is_gone_it_is_said_before_the_archiver_ends(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:  # BCK-1
    ensure_watch(policy.environment, at=clock.now())
    (tmp_path / "source").write_text(doors.url_of(server.superuser_url, database="northwind"))
    rows(server.superuser_url, "DROP DATABASE northwind WITH (FORCE)")
    try:
        until(AlarmWatch.objects.exclude(database_trouble="").exists, archive_wal())
    finally:
        rows(server.superuser_url, "CREATE DATABASE northwind")

    assert 'database "northwind" does not exist' in AlarmWatch.objects.get().database_trouble


def test_sentinels_go_to_both_databases_while_nobody_knows_which_stays(policy: BackupPolicy, server: Postgres) -> None:
    ada, at = User.objects.get(username="ada"), clock.now()
    tenant = policy.environment.tenant_id
    change = create_change(actor=actor(ada, at=at), tenant_id=tenant, title="Restore it", kind="restore", at=at)
    revision = Revision.objects.create(change=change, number=1, author=ada, created_at=at, content={})
    run = Run.objects.create(change=change, revision=revision, kind="rollout", created_at=at)
    CutOver.objects.create(
        environment=policy.environment,
        change=change,
        run=run,
        state="ready",
        target_at=at,
        target_database="northwind_monday",
        old_database="northwind",
        keep_hours=72,
        created_at=at,
    )
    rows(server.superuser_url, "CREATE DATABASE northwind_monday")
    urls = [doors.url_of(server.superuser_url, database=name) for name in ("northwind", "northwind_monday")]
    try:
        Keeper(policy, url=server.superuser_url).look_at_database()
        written = [rows(url, "SELECT count(*) FROM changecontrol_sentinel") for url in urls]
    finally:
        rows(server.superuser_url, "DROP DATABASE northwind_monday")

    assert written == [[(1,)], [(1,)]]


def test_sentinels_follow_a_cut_over_within_one_process(policy: BackupPolicy, server: Postgres) -> None:
    keeper = Keeper(policy, url=server.superuser_url)
    rows(server.superuser_url, "CREATE DATABASE northwind_monday")
    urls = [doors.url_of(server.superuser_url, database=name) for name in ("northwind", "northwind_monday")]
    Environment.objects.filter(pk=policy.environment_id).update(database="northwind_monday")
    try:
        keeper.look_at_database()
        there = [rows(url, "SELECT to_regclass('changecontrol_sentinel') IS NOT NULL") for url in urls]
    finally:
        rows(server.superuser_url, "DROP DATABASE northwind_monday")

    assert there == [[(False,)], [(True,)]]


def test_where_an_operator_archives_sentinels_alone_are_written(
    policy: BackupPolicy, server: Postgres, archive_wal: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    BackupPolicy.objects.update(engine="cloudnativepg", wal_seconds=None)
    database = doors.url_of(server.superuser_url, database="northwind")
    child = archive_wal()

    until(lambda: rows(database, "SELECT to_regclass('changecontrol_sentinel')") != [(None,)], child)
    child.send_signal(signal.SIGTERM)

    assert child.wait(timeout=150) == 0, (tmp_path / "said").read_text()
    assert rows(database, "SELECT count(*) FROM changecontrol_sentinel") == [(1,)]
    assert rows(server.superuser_url, "SELECT slot_name FROM pg_replication_slots") == []
    assert not WalSegment.objects.exists()
