"""A durable PostgreSQL full of hashes, a real S3 server, and the keys: what every figure is measured with."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from changecontrol.ports import ObjectStore
from changecontrol.project.local.distribution import shared_folder
from changecontrol.project.local.postgres import Postgres
from recovery.adapters.encryption import KeyPair, make_key_pair
from tests.seaweed import open_s3, seaweed
from tests.worker import ROOT, Order

DATABASE = "shop"
TABLES = 4
ROW_BYTES = 157
"""What a row of hashes takes with its two indexes, as measured."""
TABLE = (
    "CREATE TABLE {} (id int, hash text, written_at timestamptz)",
    "INSERT INTO {} SELECT i, md5(random()::text), now() FROM generate_series(1, {rows}) i",
    "ALTER TABLE {} ADD PRIMARY KEY (id)",
    "CREATE INDEX ON {} (hash)",
)
PREFIX = "shop/production"
VOLUMES = 100
"""Of 512 MB each, made as they are needed."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`folder` is for whatever a figure writes, on the disk of the servers; it goes with the run."""

    server: Postgres
    endpoint: str
    folder: Path
    size: int
    file_count: int
    keys: KeyPair = field(default_factory=make_key_pair)
    index_keys: KeyPair = field(default_factory=make_key_pair)

    @property
    def store_url(self) -> str:
        return f"s3://backups?endpoint={self.endpoint}"

    @property
    def url(self) -> str:
        return self.server.superuser_url

    def store(self) -> ObjectStore:
        return open_s3(self.store_url)

    def order(self, work: str, *, label: str, prefix: str = PREFIX, store: str = "", **more: str) -> Order:
        return Order(
            work=work,
            store=store or self.store_url,
            prefix=prefix,
            label=label,
            programs=str(self.server.tool("pg_basebackup").parent),
            **more,
        )


@contextmanager
def scene(*, size: int, file_count: int) -> Iterator[Scene]:
    """Start what is needed and stop it with the block. The database stays for the next run of the same size."""
    server = Postgres(ROOT / ".local" / "bench-recovery").start()
    try:
        _fill(server, size=size)
        # Where the user that PostgreSQL runs as can reach it, with paths short enough for sockets.
        parent = shared_folder() if os.geteuid() == 0 else Path("/tmp")
        with tempfile.TemporaryDirectory(prefix="b-", dir=parent) as name:
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "objects").mkdir()
            with seaweed(folder / "objects", buckets=("backups",), volumes=VOLUMES) as store:
                yield Scene(server=server, endpoint=store.url, folder=folder, size=size, file_count=file_count)
    finally:
        server.stop()


def _fill(server: Postgres, *, size: int) -> None:
    rows = size // TABLES // ROW_BYTES
    with psycopg.connect(server.superuser_url, autocommit=True) as owner:
        wanted = f"{TABLES} tables of {rows} hashes"
        found = owner.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [DATABASE]
        ).fetchone()
        if found == (wanted,):
            return
        owner.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(DATABASE)))
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        with psycopg.connect(server.superuser_url, dbname=DATABASE, autocommit=True) as shop:
            for number in range(TABLES):
                for statement in TABLE:
                    shop.execute(sql.SQL(statement).format(sql.Identifier(f"hashes_{number}"), rows=rows))
            shop.execute("VACUUM FREEZE ANALYZE")
        owner.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(DATABASE), sql.Literal(wanted)))
        owner.execute("CHECKPOINT")
