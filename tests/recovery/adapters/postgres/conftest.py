"""A real PostgreSQL with an archiver, a writer of marker rows, and a place for restores."""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from changecontrol.adapters.object_store import open_store
from changecontrol.ports import ObjectStore
from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.archiving import WalArchiver, ensure_no_slot
from recovery.adapters.postgres.base import take_base_backup
from recovery.adapters.postgres.programs import Programs, find_programs, observe_server
from recovery.adapters.postgres.restoring import Restored, restore
from recovery.adapters.postgres.sandbox import tear_down
from recovery.adapters.postgres.wal import observe_archive
from recovery.ports.postgres import BaseBackup, RestoreTo, WalArchive

KEY = make_key_pair()


@dataclass
class Source:
    """A server that is backed up to a store, and what is needed to restore it."""

    server: Postgres
    programs: Programs
    store: ObjectStore
    prefix: str
    folder: Path
    runs: Path
    slot: str = field(default_factory=lambda: f"slot_{uuid.uuid4().hex[:8]}")

    @property
    def url(self) -> str:
        return self.server.superuser_url

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def archiver(self) -> WalArchiver:
        return WalArchiver(
            url=self.url,
            slot=self.slot,
            programs=self.programs,
            store=self.store,
            prefix=self.prefix,
            folder=self.folder / "wal",
            recipients=[KEY.recipient],
            heartbeat=timedelta(),
        )

    def back_up(self, label: str = "") -> BaseBackup:
        return take_base_backup(
            url=self.url,
            programs=self.programs,
            store=self.store,
            prefix=self.prefix,
            label=label or uuid.uuid4().hex[:8],
            recipients=[KEY.recipient],
        )

    def archive(self) -> WalArchive:
        server = observe_server(self.url)
        return observe_archive(
            self.store,
            prefix=self.prefix,
            system_identifier=server.system_identifier,
            segment_bytes=server.segment_bytes,
        )

    def restore(
        self,
        base: BaseBackup,
        *,
        at: RestoreTo,
        archive: WalArchive | None = None,
        identities: Sequence[str] = (KEY.identity,),
    ) -> Restored:
        return restore(
            store=self.store,
            base=base,
            archive=archive or self.archive(),
            at=at,
            identities=identities,
            parent=self.runs,
            run_id=uuid.uuid4().hex[:8],
            programs=self.programs,
            role=base.superuser,
        )


def now_at(source: Source) -> datetime:
    with psycopg.connect(source.url, autocommit=True) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at


def ship_until(archiver: WalArchiver, at: datetime, *, seconds: float = 120) -> None:
    """Ship until every commit before a time is in the store."""
    ends_at = time.monotonic() + seconds
    while (reached_at := archiver.ship().reached_at) is None or reached_at < at:
        assert time.monotonic() < ends_at, f"archived up to {reached_at}, not {at}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder = tmp_path_factory.mktemp("source")
    server = Postgres(folder, durable=False).start()
    # How the tests know when a row was committed, to the microsecond that recovery goes by.
    server.run_sql("ALTER SYSTEM SET track_commit_timestamp = on; ALTER SYSTEM SET full_page_writes = on;")
    server.restart()
    yield server
    server.destroy()


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A place that the user whom PostgreSQL runs as can reach, with paths short enough for sockets."""
    parent = shared_folder() if os.geteuid() == 0 else Path("/tmp")
    folder = parent / f"runs-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode=0o755)
    yield folder
    for run in folder.iterdir():
        tear_down(folder, run_id=run.name)
    shutil.rmtree(folder)


@pytest.fixture
def source(server: Postgres, tmp_path: Path, runs: Path) -> Iterator[Source]:
    programs = find_programs(major=17, folders=[str(server.tool("pg_basebackup").parent)])
    source = Source(
        server=server,
        programs=programs,
        store=open_store(f"file://{tmp_path}/objects"),
        prefix="shop/production",
        folder=tmp_path,
        runs=runs,
    )
    yield source
    ensure_no_slot(source.url, slot=source.slot)


@pytest.fixture
def archiver(source: Source) -> Iterator[WalArchiver]:
    archiver = source.archiver()
    archiver.start()
    yield archiver
    archiver.stop()


@dataclass
class Marks:
    """A table to which a thread writes a row at a time; each is known with the server's time of its commit."""

    table: str
    written: list[tuple[int, datetime]] = field(default_factory=list)

    def before(self, at: datetime) -> list[int]:
        return [number for number, committed_at in self.written if committed_at <= at]


@pytest.fixture
def marks(source: Source) -> Iterator[Callable[[], Marks]]:
    """Return a function that starts a writer; it stops with the test."""
    source.execute("DROP TABLE IF EXISTS marks")
    source.execute("CREATE TABLE marks (number int PRIMARY KEY, filler text)")
    stopped = threading.Event()
    threads: list[threading.Thread] = []

    def start() -> Marks:
        marks = Marks("marks")

        def write() -> None:
            with psycopg.connect(source.url, autocommit=True) as connection:
                number = 0
                while not stopped.is_set():
                    connection.execute("INSERT INTO marks VALUES (%s, repeat(md5(random()::text), 20))", [number])
                    row = connection.execute(
                        "SELECT pg_xact_commit_timestamp(xmin) FROM marks WHERE number = %s", [number]
                    ).fetchone()
                    assert row is not None
                    marks.written.append((number, row[0]))
                    number += 1
                    stopped.wait(0.01)

        threads.append(threading.Thread(target=write))
        threads[-1].start()
        return marks

    yield start
    stopped.set()
    for thread in threads:
        thread.join()
