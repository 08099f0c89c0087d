from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol.errors import Hindered, Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.base import observe_base_backup, observe_base_backups
from recovery.adapters.postgres.fetching import fetch_copy, verify_copy
from recovery.adapters.postgres.packing import packed
from recovery.adapters.postgres.restoring import Restored
from recovery.adapters.postgres.sandbox import make_sandbox, tear_down
from recovery.adapters.postgres.sentinel import ensure_sentinel, newest_sentinel
from recovery.adapters.postgres.verifying import question, verify_stored
from recovery.adapters.postgres.wal import coverage_of, open_wal
from recovery.jobs.copies import Bench, database_of
from recovery.jobs.saying import Saying
from recovery.jobs.stored import StoredBase
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.ports.postgres import Latest
from tests.recovery.adapters.postgres.conftest import KEY, Marks, Source, now_at, ship_until

pytestmark = pytest.mark.slow


def rows_of(restored: Restored) -> list[int]:
    with psycopg.connect(restored.url) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM marks ORDER BY number")]


def test_backup_and_its_wal_come_back_whole(source: Source, archiver: WalArchiver, marks: Callable[[], Marks]) -> None:
    source.execute("INSERT INTO marks SELECT generate_series(1, 1000)")
    base = source.back_up("first")
    source.execute("INSERT INTO marks VALUES (1001)")
    ensure_sentinel(source.url)
    written_at = newest_sentinel(source.url)
    ship_until(archiver, now_at(source))

    coverage = verify_stored(store=source.store, base=base, archive=source.archive(), identities=[KEY.identity])
    with source.restore(base, at=Latest.LATEST) as restored:
        rows = rows_of(restored)
        databases = question(restored, programs=source.programs)
        newest = newest_sentinel(restored.url)
        with psycopg.connect(restored.url) as connection:
            archives = connection.execute("SHOW archive_mode").fetchone()
            connection.execute("INSERT INTO marks VALUES (1002)")

    source.execute("DROP TABLE changecontrol_sentinel")
    assert rows == list(range(1, 1002))
    assert newest == written_at
    assert set(databases) >= {"changecontrol", "postgres"}
    assert archives == ("off",)
    assert coverage.gaps == ()
    assert observe_base_backup(source.store, prefix=source.prefix, label="first") == base
    assert list(observe_base_backups(source.store, prefix=source.prefix)) == [base]
    assert (base.server_major, base.timeline) == (17, 1)
    assert 0 < base.start_lsn < base.stop_lsn


def test_a_subscription_of_the_source_draws_nothing_from_its_publisher_into_a_copy(
    source: Source, archiver: WalArchiver
) -> None:
    address = "host=127.0.0.1 port=1 dbname=tills"
    source.execute(f"CREATE SUBSCRIPTION tills CONNECTION '{address}' PUBLICATION sold WITH (connect = false)")
    try:
        source.execute("ALTER SUBSCRIPTION tills ENABLE")
        base = source.back_up()
        ship_until(archiver, now_at(source))

        with source.restore(base, at=Latest.LATEST) as restored, psycopg.connect(restored.url) as connection:
            enabled = connection.execute("SELECT subname, subenabled FROM pg_subscription").fetchall()
            workers = connection.execute("SHOW max_logical_replication_workers").fetchall()
            running = connection.execute("SELECT FROM pg_stat_activity WHERE backend_type ~ 'logical'").fetchall()
    finally:
        source.execute("ALTER SUBSCRIPTION tills DISABLE")
        source.execute("ALTER SUBSCRIPTION tills SET (slot_name = NONE)")
        source.execute("DROP SUBSCRIPTION tills")

    assert (enabled, workers, running) == ([("tills", True)], [("0",)], [])


class AdministeredSource(Source):
    @property
    def url(self) -> str:
        return make_conninfo(self.server.superuser_url, user="shop_admin")


@pytest.fixture
def administered(source: Source) -> Iterator[AdministeredSource]:
    """The source as a server that was made with another superuser than `postgres`, which it does not have."""
    source.execute("CREATE ROLE helper SUPERUSER LOGIN PASSWORD 'helper'")
    helper = make_conninfo(source.url, user="helper", password="helper")
    with psycopg.connect(helper, autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres RENAME TO shop_admin")
    yield AdministeredSource(**vars(source))
    with psycopg.connect(helper, autocommit=True) as connection:
        connection.execute("ALTER ROLE shop_admin RENAME TO postgres")
    source.execute("DROP ROLE helper")


def test_a_server_made_with_another_superuser_comes_back_and_a_role_it_lacks_is_no_fault_of_it(
    administered: AdministeredSource,
) -> None:  # BCK-5
    archiver = administered.archiver()
    archiver.start()
    try:
        administered.back_up("sunday")
        ship_until(archiver, now_at(administered))
    finally:
        archiver.stop()
    base = observe_base_backup(administered.store, prefix=administered.prefix, label="sunday")
    bench = Bench(
        point=RecoveryPoint(),
        policy=BackupPolicy(),
        store=administered.store,
        identities=(KEY.identity,),
        folder=administered.runs,
        run_id="sunday",
        saying=Saying(lambda _: None),
    )
    stored = StoredBase(bench, base, (base,), administered.archive(), administered.programs)

    sandbox = make_sandbox(administered.runs, run_id="sunday")
    with stored.start(sandbox, at=base.finished_at) as restored, psycopg.connect(restored.url) as connection:
        who = connection.execute("SELECT current_user, rolsuper FROM pg_roles WHERE oid = 10").fetchall()
    with pytest.raises(Hindered, match='role "postgres" does not exist'):
        administered.restore(replace(base, superuser="postgres"), at=Latest.LATEST)

    assert (base.superuser, who) == ("shop_admin", [("shop_admin", True)])


class LobbylessSource(Source):
    @property
    def url(self) -> str:
        return make_conninfo(self.server.superuser_url, dbname="changecontrol")


@pytest.fixture
def lobbyless(source: Source) -> Iterator[LobbylessSource]:
    """The source as a server whose database `postgres` was given another name."""
    lobbyless = LobbylessSource(**vars(source))
    lobbyless.execute("ALTER DATABASE postgres RENAME TO shop")
    yield lobbyless
    lobbyless.execute("ALTER DATABASE template1 ALLOW_CONNECTIONS true")
    lobbyless.execute("ALTER DATABASE shop RENAME TO postgres")


@pytest.mark.parametrize("is_template_open", [True, False])
def test_a_server_without_the_database_postgres_comes_back_and_is_questioned(
    lobbyless: LobbylessSource, is_template_open: bool
) -> None:
    lobbyless.execute(f"ALTER DATABASE template1 ALLOW_CONNECTIONS {is_template_open}")
    archiver = lobbyless.archiver()
    archiver.start()
    try:
        base = lobbyless.back_up()
        ship_until(archiver, now_at(lobbyless))
    finally:
        archiver.stop()
    bench = Bench(
        point=RecoveryPoint(),
        policy=BackupPolicy(),
        store=lobbyless.store,
        identities=(KEY.identity,),
        folder=lobbyless.runs,
        run_id="monday",
        saying=Saying(lambda _: None),
    )
    stored = StoredBase(bench, base, (base,), lobbyless.archive(), lobbyless.programs)

    sandbox = make_sandbox(lobbyless.runs, run_id="monday")
    with stored.start(sandbox, at=base.finished_at, database="shop") as restored:
        databases = question(restored, programs=lobbyless.programs)
        found = database_of(restored.url, wanted="shop")

    assert databases == ("changecontrol", "shop", *(["template1"] if is_template_open else []))
    assert found == "shop"


def test_restored_rows_are_exactly_those_committed_before_the_time(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks]
) -> None:
    writing = marks()
    shipping = threading.Event()

    def ship() -> None:
        while not shipping.wait(0.2):
            archiver.ship()

    thread = threading.Thread(target=ship)
    thread.start()
    base = source.back_up()
    for _ in range(3):
        time.sleep(1.5)
        source.execute("SELECT pg_switch_wal()")
    time.sleep(1.5)
    ends_at = now_at(source)
    shipping.set()
    thread.join()
    ship_until(archiver, ends_at)
    span = ends_at - base.finished_at

    for _ in range(6):
        at = base.finished_at + span * random.random()
        with source.restore(base, at=at) as restored:
            assert rows_of(restored) == writing.before(at)


def test_time_at_which_a_row_was_committed_includes_it(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks]
) -> None:
    base = source.back_up()
    writing = marks()
    time.sleep(1)
    number, at = writing.written[-5]
    ship_until(archiver, now_at(source))

    with source.restore(base, at=at) as restored:
        assert rows_of(restored)[-1] == number


def test_quiet_time_after_the_last_commit_is_restored_from_the_end_of_the_wal(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks]
) -> None:
    base = source.back_up()
    source.execute("INSERT INTO marks VALUES (7)")
    time.sleep(0.5)
    at = now_at(source)
    ship_until(archiver, at)

    with source.restore(base, at=at) as restored:
        assert rows_of(restored) == [7]


def test_times_outside_and_in_a_gap_are_refused_with_the_last_safe_time_and_nothing_is_made(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks]
) -> None:
    base = source.back_up()
    safe_at = now_at(source)
    ship_until(archiver, safe_at)
    marks()
    for _ in range(4):
        time.sleep(0.3)
        source.execute("SELECT pg_switch_wal()")
        time.sleep(0.3)
        archiver.ship()
    at = now_at(source)
    ship_until(archiver, at)
    whole = source.archive()
    finished = [one for one in whole.objects if one.is_finished and one.start > base.stop_lsn]
    lost = finished[1]
    for one in whole.objects:
        if lost.start <= one.start < lost.end:
            source.store.ensure_absent(one.key)

    archive = source.archive()
    coverage = coverage_of(base, archive=archive)

    assert coverage_of(base, archive=whole).gaps == ()
    assert [(gap.start, gap.end) for gap in coverage.gaps] == [(lost.start, lost.end)]
    assert coverage.end_at is not None
    assert base.finished_at <= coverage.end_at < at
    for wrong, words in (
        (base.finished_at - timedelta(seconds=1), "the first safe time is"),
        (at, f"WAL is missing from .* The last safe time is {coverage.end_at:%Y-%m-%d %H:%M:%S}"),
        (at + timedelta(days=1), "The last safe time is"),
        (at.replace(tzinfo=None), "carries its zone"),
    ):
        with pytest.raises(Permanent, match=words):
            source.restore(base, at=wrong, archive=archive)
    assert list(source.runs.iterdir()) == []
    with source.restore(base, at=coverage.end_at, archive=archive) as restored:
        assert restored.is_running()


def test_slot_that_is_gone_and_a_wrong_key_are_sentences(source: Source, archiver: WalArchiver) -> None:
    base = source.back_up()
    ship_until(archiver, now_at(source))
    archiver.stop()
    source.execute(f"SELECT pg_drop_replication_slot('{source.slot}')")

    with pytest.raises(Permanent, match=f"The replication slot {source.slot} is gone"):
        archiver.ship()
    with pytest.raises(Permanent, match="encrypted to other recipients"):
        source.restore(base, at=Latest.LATEST, identities=[make_key_pair().identity])
    assert list(source.runs.iterdir()) == []


def test_archiver_that_was_killed_goes_on_without_a_gap(
    source: Source, archiver: WalArchiver, marks: Callable[[], Marks]
) -> None:
    base = source.back_up()
    writing = marks()
    time.sleep(0.5)
    archiver.ship()
    assert archiver._child is not None
    archiver._child.kill()
    archiver._child.wait()
    source.execute("SELECT pg_switch_wal()")
    time.sleep(0.5)
    again = source.archiver()
    again.start()
    at = now_at(source)
    ship_until(again, at)
    again.stop()

    assert coverage_of(base, archive=source.archive()).gaps == ()
    with source.restore(base, at=at) as restored:
        assert rows_of(restored) == writing.before(at)


def test_slot_tells_how_much_wal_the_server_keeps(source: Source, archiver: WalArchiver) -> None:
    archiver.stop()
    source.execute("SELECT pg_switch_wal()")
    source.execute("CREATE TABLE bulk AS SELECT repeat('x', 500) FROM generate_series(1, 20000)")
    source.execute("DROP TABLE bulk")

    slot = archiver.ship().slot

    assert slot.retained_bytes > 5_000_000
    assert slot.limit_bytes is None


def damage(path: Path, how: str) -> None:
    if how == "removed":
        path.unlink()
    elif how == "cut":
        os.truncate(path, random.randrange(path.stat().st_size))
    else:
        content = bytearray(path.read_bytes())
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)


@pytest.fixture
def backed_up(source: Source, archiver: WalArchiver) -> tuple[Source, Path]:
    source.back_up("only")
    for _ in range(2):
        source.execute("SELECT pg_switch_wal()")
        source.execute("SELECT pg_log_standby_snapshot()")
    ship_until(archiver, now_at(source))
    return source, source.folder / "objects"


@pytest.mark.parametrize("how", ["removed", "cut", "flipped"])
@pytest.mark.parametrize("part", ["base.tar", "backup_manifest", "wal"])
def test_damage_is_never_verified(backed_up: tuple[Source, Path], part: str, how: str) -> None:
    source, objects = backed_up
    base = observe_base_backup(source.store, prefix=source.prefix, label="only")
    archive = source.archive()
    name = coverage_of(base, archive=archive).needed[0].key if part == "wal" else f"/{part}"
    victims = [path for path in objects.rglob("*") if path.is_file() and name in str(path)]
    damage(random.choice(victims), how)

    for read in (
        lambda: verify_stored(store=source.store, base=base, archive=archive, identities=[KEY.identity]),
        lambda: source.restore(base, at=Latest.LATEST, archive=archive),
    ):
        with pytest.raises(Permanent) as raised:
            read()
        assert any(word in raised.value.reason for word in ("base.tar", "backup_manifest", "The WAL 0000"))


class Watched:
    """A store whose parts of a base backup wait until WAL is asked for, and which may have lost them by then."""

    def __init__(self, store: ObjectStore, *, has_parts: bool) -> None:
        self._store = store
        self._has_parts = has_parts
        self._wal_is_asked_for = threading.Event()
        self._base_is_asked_for = threading.Event()
        self.wal_keys: list[str] = []
        self.is_wal_meanwhile = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def observe_object(self, key: str) -> bytes | None:
        if "/wal/" in key:
            self.wal_keys.append(key)
            self._wal_is_asked_for.set()
            if not self._has_parts:
                self._base_is_asked_for.wait(timeout=20)
                time.sleep(1)
        elif "/base.tar.zst.age.parts/" in key:
            self._base_is_asked_for.set()
            self.is_wal_meanwhile = self._wal_is_asked_for.wait(timeout=20)
            if not self._has_parts:
                return None
        return self._store.observe_object(key)


def test_wal_is_fetched_while_the_base_backup_is_unpacked(backed_up: tuple[Source, Path]) -> None:
    source, _ = backed_up
    base = observe_base_backup(source.store, prefix=source.prefix, label="only")
    archive = source.archive()
    watched = Watched(source.store, has_parts=True)
    source.store = cast("ObjectStore", watched)

    with source.restore(base, at=Latest.LATEST, archive=archive) as restored:
        assert restored.is_running()

    assert watched.is_wal_meanwhile
    assert watched.wal_keys


def test_wal_is_given_up_when_the_base_backup_is_not_whole(source: Source, archiver: WalArchiver) -> None:
    base = source.back_up("lost")
    for _ in range(12):
        source.execute("SELECT pg_log_standby_snapshot()")
        source.execute("SELECT pg_switch_wal()")
    ship_until(archiver, now_at(source))
    archive = source.archive()
    watched = Watched(source.store, has_parts=False)
    source.store = cast("ObjectStore", watched)

    with pytest.raises(Permanent, match=r"Part 1 of .*base.tar.zst.age is missing"):
        source.restore(base, at=Latest.LATEST, archive=archive)

    assert 0 < len(watched.wal_keys) < len(coverage_of(base, archive=archive).needed)
    assert list(source.runs.iterdir()) == []


def test_swapped_wal_is_refused(backed_up: tuple[Source, Path]) -> None:
    source, objects = backed_up
    base = observe_base_backup(source.store, prefix=source.prefix, label="only")
    archive = source.archive()
    one, other = [objects / one.key for one in coverage_of(base, archive=archive).needed if one.is_finished][:2]
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])

    with pytest.raises(Permanent, match="is another segment than its name says"):
        verify_stored(store=source.store, base=base, archive=archive, identities=[KEY.identity])


def test_wal_of_another_system_is_refused(backed_up: tuple[Source, Path]) -> None:
    source, _ = backed_up
    base = observe_base_backup(source.store, prefix=source.prefix, label="only")
    archive = source.archive()

    with pytest.raises(Permanent, match="is of another system"):
        verify_stored(
            store=source.store,
            base=replace(base, system_identifier="1"),
            archive=replace(archive, system_identifier="1"),
            identities=[KEY.identity],
        )


@pytest.mark.parametrize("wanted", ["a time", "the latest"])
def test_wal_that_was_damaged_before_it_was_encrypted_is_never_taken_for_the_end(
    source: Source, archiver: WalArchiver, wanted: str
) -> None:
    source.execute("CREATE TABLE IF NOT EXISTS late (number int)")
    base = source.back_up()
    for _ in range(4):
        source.execute("INSERT INTO late SELECT generate_series(1, 20000)")
        source.execute("SELECT pg_switch_wal()")
    at = now_at(source)
    ship_until(archiver, at)
    archive = source.archive()
    victim = next(one for one in archive.objects if one.is_finished and one.start > base.stop_lsn)
    content = open_wal(source.store, victim, archive=archive, identities=[KEY.identity])
    source.store.ensure_absent(victim.key)
    # As a disk might hand it over that lost a write: every digest and every key fits.
    lost = content[:8192] + bytes(len(content) - 8192)
    source.store.ensure_object(victim.key, packed(lost, recipients=[KEY.recipient]))

    with pytest.raises(Permanent, match=r"replayed up to .* and not to .*\. Its log says: .*invalid"):
        source.restore(base, at=at if wanted == "a time" else Latest.LATEST)

    assert list(source.runs.iterdir()) == []
    source.execute("DROP TABLE late")


def test_copy_that_was_changed_after_unpacking_is_named(backed_up: tuple[Source, Path]) -> None:
    source, _ = backed_up
    base = observe_base_backup(source.store, prefix=source.prefix, label="only")
    sandbox = make_sandbox(source.runs, run_id="checked")
    fetch_copy(
        store=source.store,
        base=base,
        archive=source.archive(),
        at=Latest.LATEST,
        identities=[KEY.identity],
        sandbox=sandbox,
    )
    verify_copy(sandbox, programs=source.programs)

    damage(sandbox.data / "global" / "pg_control", "flipped")

    with pytest.raises(Permanent, match=r"pg_verifybackup did not succeed: .*pg_control"):
        verify_copy(sandbox, programs=source.programs)


def test_only_what_carries_the_id_of_the_run_is_torn_down(source: Source) -> None:
    sandbox = make_sandbox(source.runs, run_id="mine")
    other = source.runs / "other"
    other.mkdir()
    (other / "books").write_text("kept")

    with pytest.raises(Permanent, match="does not carry the run's id"):
        tear_down(source.runs, run_id="other")
    with pytest.raises(Hindered, match="has a folder already"):
        make_sandbox(source.runs, run_id="mine")
    with pytest.raises(Permanent, match="id is made of letters"):
        tear_down(source.runs, run_id="../mine")
    tear_down(source.runs, run_id="mine")
    tear_down(source.runs, run_id="mine")

    assert not sandbox.folder.exists()
    assert (other / "books").read_text() == "kept"
    (other / "run").write_text("other")
