"""A shop's database and attachments that are backed up for real: the workflows tick, their jobs run in this process."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol import clock, wiring
from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.postgres import Postgres
from changecontrol.workflow import engine
from changecontrol.workflows.jobs import JobWork
from recovery import doors
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.postgres.archiving import WalArchiver, ensure_no_slot
from recovery.adapters.postgres.programs import find_programs, observe_server
from recovery.adapters.postgres.sandbox import tear_down
from recovery.management.commands.archive_wal import Keeper
from recovery.models import BackupPolicy
from tests.contracts.jobs.conftest import ground, jobs_estate, named_node  # noqa: F401  fixtures of drills in a cluster
from tests.factories.estate import SmallEstate, small_estate
from tests.factories.recovery import DUMPS, backup_policy, recovery_owner
from tests.plugin import TestDatabase
from tests.recovery.workflows.operated import scene

__all__ = ["scene"]

OWNER, INDEX = make_key_pair(), make_key_pair()
DATABASE = "northwind"
READER = "shop_reader"
TABLES = """
CREATE TABLE ir_module_module (id serial PRIMARY KEY, name text, state text, latest_version text);
INSERT INTO ir_module_module (name, state, latest_version) VALUES
    ('base', 'installed', '19.0.1.3'), ('sale', 'installed', '19.0.1.2'), ('crm', 'uninstalled', NULL);
CREATE TABLE ir_attachment (id serial PRIMARY KEY, name text, store_fname text, checksum text, file_size int);
CREATE TABLE ir_config_parameter (id serial PRIMARY KEY, key text UNIQUE, value text);
INSERT INTO ir_config_parameter (key, value) VALUES ('database.uuid', 'b1d0c3a2-0000-4000-8000-000000000001');
CREATE TABLE ir_mail_server (
    id serial PRIMARY KEY, name text, smtp_host text, smtp_pass text, active bool DEFAULT true);
INSERT INTO ir_mail_server (name, smtp_host, smtp_pass) VALUES ('out', 'mail.northwind.example', 'canary-mail');
CREATE TABLE sale_order (id serial PRIMARY KEY, name text, create_date timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
"""


@dataclass
class Shop:
    """An environment with a policy, its server, its attachments, its store, and an archiver that ships its WAL."""

    estate: SmallEstate
    policy: BackupPolicy
    server: Postgres
    folder: Path
    sandboxes: Path
    archiver: WalArchiver | None = None
    is_quiet: threading.Event = field(default_factory=threading.Event)
    is_still: threading.Event = field(default_factory=threading.Event)
    files: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return doors.url_of(self.server.superuser_url, database=DATABASE)

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    def sell(self) -> tuple[str, datetime]:
        """Add an order with an attachment, file first as Odoo does; return its name and when it was committed."""
        name, content = uuid.uuid4().hex, os.urandom(200)
        digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        place = self.folder / "filestore" / digest[:2] / digest
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        self.files.append(f"{digest[:2]}/{digest}")
        with psycopg.connect(self.url) as connection:
            connection.execute("INSERT INTO sale_order (name) VALUES (%s)", [name])
            connection.execute(
                "INSERT INTO ir_attachment (name, store_fname, checksum, file_size) VALUES (%s, %s, %s, 200)",
                [name, f"{digest[:2]}/{digest}", digest],
            )
        return name, self.now()

    def now(self) -> datetime:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        at: datetime = row[0]
        return at

    def work(self, holds: Callable[[], Any], *, seconds: float = 200) -> None:
        """Let everything that is due happen, until something holds."""
        ends_at = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends_at
            engine.look_for_work(wiring.workflows()["upkeep"])
            for name in ("backup", "restore", "drill", "rehearsal", "upkeep"):
                engine.tick(wiring.workflows()[name])
            engine.tick(JobWork())
            # Nobody waits here as long as a worker would.
            clock.set_offset(clock._offset + timedelta(seconds=0.2))

    def quiet(self) -> None:
        """Ship no WAL from now on: nothing is written to the store by itself, and what was written is recorded."""
        self.is_quiet.set()
        assert self.is_still.wait(60)

    def left_over(self) -> list[str]:
        return [path.name for path in self.sandboxes.iterdir()]


@pytest.fixture(scope="session")
def shop_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("shop"), durable=False).start()
    server.run_sql("ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();")
    yield server
    server.destroy()


@pytest.fixture
def sandboxes(settings: Any) -> Iterator[Path]:
    """A place that the user whom PostgreSQL runs as can reach, with paths short enough for sockets."""
    parent = shared_folder() if os.geteuid() == 0 else Path("/tmp")
    folder = parent / f"shop-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode=0o755)
    settings.RECOVERY_SANDBOXES = str(folder)
    yield folder
    for run in folder.iterdir():
        tear_down(folder, run_id=run.name)
    shutil.rmtree(folder)


@pytest.fixture
def shop(
    fresh_db: TestDatabase, shop_server: Postgres, sandboxes: Path, tmp_path: Path, settings: Any
) -> Iterator[Shop]:
    estate, policy = founded(shop_server, tmp_path, settings, wal_seconds=1, filestore_seconds=1)
    yield from archived(estate, policy, shop_server, tmp_path, sandboxes)


@pytest.fixture
def dumped(
    fresh_db: TestDatabase, shop_server: Postgres, sandboxes: Path, tmp_path: Path, settings: Any
) -> Iterator[Shop]:
    """The same shop on a managed server, which lets nobody replicate: its database is dumped by who may only read it.

    It is found by the name of its database alone: the address leads to another one of the server.
    """
    canary = f"{READER}-canary"
    shop_server.run_sql(f"CREATE ROLE {READER} LOGIN PASSWORD '{canary}' IN ROLE pg_read_all_data;")
    try:
        estate, policy = founded(shop_server, tmp_path, settings, **DUMPS)
        with psycopg.connect(doors.url_of(shop_server.superuser_url, database=DATABASE)) as connection:
            # For its table of sentinels.
            connection.execute(f"GRANT CREATE ON SCHEMA public TO {READER}")
        (tmp_path / "source").write_text(make_conninfo(shop_server.superuser_url, user=READER, password=canary))
        yield Shop(estate, policy, shop_server, tmp_path, sandboxes)
    finally:
        _drop_databases(shop_server)
        shop_server.run_sql(f"DROP ROLE {READER};")


def founded(shop_server: Postgres, tmp_path: Path, settings: Any, **words: Any) -> tuple[SmallEstate, BackupPolicy]:
    """Make the shop's database, its attachments and its policy."""
    settings.POSTGRES_PROGRAMS = [str(shop_server.tool("pg_basebackup").parent)]
    with psycopg.connect(shop_server.superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with psycopg.connect(doors.url_of(shop_server.superuser_url, database=DATABASE)) as connection:
        connection.execute(TABLES)
    (tmp_path / "filestore").mkdir()
    estate = small_estate()
    estate.production.database = DATABASE
    estate.production.save(update_fields=["database"])
    url = shop_server.superuser_url
    secrets = {"source": url, "target": url, "owner": OWNER.identity, "index": INDEX.identity}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    places: dict[str, Any] = {
        "source": f"file:{tmp_path}/source",
        "filestore": f"file://{tmp_path}/filestore",
        "store": f"file://{tmp_path}/objects",
        "copy_store": f"file://{tmp_path}/elsewhere",
        "identity": f"file:{tmp_path}/owner",
        "index_identity": f"file:{tmp_path}/index",
        "restore_credential": "",
        "restore_target": f"file:{tmp_path}/target",
        "restore_filestore": f"file://{tmp_path}/restored",
    }
    recipients = (OWNER.recipient,)
    policy = backup_policy(
        estate.production, at=clock.now(), recipients=recipients, has_sentinel=True, **{**places, **words}
    )
    return estate, policy


def archived(
    estate: SmallEstate, policy: BackupPolicy, server: Postgres, folder: Path, sandboxes: Path
) -> Iterator[Shop]:
    keeper = Keeper(policy, url=server.superuser_url)
    # Before any backup: the next one is written a minute later.
    keeper.look_at_database()
    found = observe_server(server.superuser_url)
    archiver = WalArchiver(
        url=server.superuser_url,
        slot=doors.slot_of(policy.environment),
        programs=find_programs(major=found.major, folders=doors.programs_folders()),
        store=doors.open_store(policy),
        prefix=doors.prefix_of(policy.environment),
        folder=folder / "wal",
        recipients=policy.recipients,
        heartbeat=timedelta(seconds=0.5),
    )
    # From this thread: the receiver ends with the thread that started it.
    archiver.start()
    stop, is_quiet, is_still = threading.Event(), threading.Event(), threading.Event()

    def ship() -> None:
        from django.db import connection

        stretch = None
        while not stop.wait(0.3):
            if not is_quiet.is_set():
                shipped = archiver.ship()
                keeper.note(shipped)
                stretch = shipped.stretch
            elif not is_still.is_set():
                if stretch is not None:
                    keeper.record(stretch)
                is_still.set()
        connection.close()

    thread = threading.Thread(target=ship)
    thread.start()
    try:
        yield Shop(estate, policy, server, folder, sandboxes, archiver, is_quiet, is_still)
    finally:
        stop.set()
        thread.join()
        archiver.stop()
        ensure_no_slot(server.superuser_url, slot=doors.slot_of(policy.environment))
        _drop_databases(server)


def _drop_databases(server: Postgres) -> None:
    with psycopg.connect(server.superuser_url, autocommit=True) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datname ~ '^northwind'").fetchall()
        for (name,) in found:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def rio(shop: Shop) -> Any:
    return recovery_owner(shop.estate)
