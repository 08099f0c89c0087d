"""What the proofs share: an Odoo-like source that is written to all the time, and fast places for restores.

Attachments are written as Odoo writes them: the file first, then the row that names it; a row is deleted at once, its
file by a collector long after.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from changecontrol.project.local.distribution import shared_folder
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.filestore import FolderSource, StoredFilestores
from recovery.adapters.postgres.fetching import fetch_copy
from recovery.adapters.postgres.restoring import Restored, start_copy
from recovery.adapters.postgres.sandbox import Sandbox, make_sandbox, tear_down
from recovery.ports.filestore import FilestoreCopied, FilestorePoint
from recovery.ports.postgres import BaseBackup, Coverage, Latest, RestoreTo
from tests.recovery.adapters.postgres.conftest import KEY, Source, now_at

INDEX_KEY = make_key_pair()
ATTACHMENTS_A_SECOND = 50
MARKS_A_SECOND = 100
TABLES = """
DROP TABLE IF EXISTS marks, ir_attachment;
CREATE TABLE marks (number int PRIMARY KEY, filler text);
CREATE TABLE ir_attachment (id int PRIMARY KEY, store_fname varchar, file_size int);
"""
FREE_BYTES = 4 * 1024**3


@contextmanager
def place_for_restores() -> Iterator[Path]:
    """Make a folder for sandboxes, in memory where there is enough: flushing a shared disk would take most of the time.

    The user that PostgreSQL runs as can reach it, and its path is short enough for sockets.
    """
    memory = Path("/dev/shm")
    is_large = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > FREE_BYTES
    parent = memory if is_large else shared_folder() if os.geteuid() == 0 else Path("/tmp")
    folder = parent / f"proof-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    finally:
        for run in folder.iterdir():
            tear_down(folder, run_id=run.name)
        folder.rmdir()


def filestores(source: Source, *, prefix: str = "") -> StoredFilestores:
    return StoredFilestores(
        source.store,
        prefix=prefix or source.prefix,
        recipients=[KEY.recipient],
        index_identity=INDEX_KEY.identity,
    )


def name_for(content: bytes) -> str:
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return f"{digest[:2]}/{digest}"


@dataclass
class Attachment:
    """A row as it was committed and, perhaps, as its deletion was: times of the server."""

    id: int
    name: str
    written_at: datetime
    deleted_at: datetime | None = None

    def is_there(self, at: datetime) -> bool:
        return self.written_at <= at and (self.deleted_at is None or self.deleted_at > at)


@dataclass
class Odoo:
    """A source under writes. `attachments` are all that ever were; `trouble` is what ended a writer."""

    source: Source
    filestore: Path
    chance: random.Random
    attachments: dict[int, Attachment] = field(default_factory=dict)
    trouble: list[BaseException] = field(default_factory=list)
    _collected: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.source.execute(TABLES)
        self.filestore.mkdir()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write marks and attachments, and delete some, for as long as the block lasts."""
        stopped = threading.Event()
        writers = [threading.Thread(target=self._run, args=(write, stopped)) for write in (self._mark, self._attach)]
        for writer in writers:
            writer.start()
        try:
            yield
        finally:
            stopped.set()
            for writer in writers:
                writer.join()
        assert self.trouble == []

    def attach(self, connection: Any, number: int) -> None:
        content = self.chance.randbytes(self.chance.randrange(1, 6000))
        self._write_file(content)
        name = name_for(content)
        connection.execute("INSERT INTO ir_attachment VALUES (%s, %s, %s)", [number, name, len(content)])
        statement = "SELECT pg_xact_commit_timestamp(xmin) FROM ir_attachment WHERE id = %s"
        (at,) = connection.execute(statement, [number]).fetchone()
        self.attachments[number] = Attachment(number, name, at)

    def marks(self) -> list[tuple[int, datetime]]:
        with psycopg.connect(self.source.url) as connection:
            statement = "SELECT number, pg_xact_commit_timestamp(xmin) FROM marks ORDER BY number"
            return [(number, at) for number, at in connection.execute(statement)]

    def names(self) -> list[str]:
        with psycopg.connect(self.source.url) as connection:
            return names_in(connection)

    def names_at(self, at: datetime) -> list[str]:
        return sorted(one.name for one in self.attachments.values() if one.is_there(at))

    def copy(self, point: str) -> FilestoreCopied:
        at = now_at(self.source)
        return filestores(self.source).ensure_copy(point=point, source=FolderSource(self.filestore), at=at)

    def collect(self, *, held_at: datetime | None) -> None:
        """Remove the files whose rows are deleted, as Odoo's daily collector does, of those that a copy then held."""
        for one in list(self.attachments.values()):
            is_held = held_at is not None and one.written_at < held_at
            if is_held and one.deleted_at is not None and one.id not in self._collected:
                (self.filestore / one.name).unlink()
                self._collected.add(one.id)

    def _run(self, write: Callable[[Any, threading.Event], None], stopped: threading.Event) -> None:
        try:
            with psycopg.connect(self.source.url, autocommit=True) as connection:
                write(connection, stopped)
        except BaseException as error:
            self.trouble.append(error)
            raise

    def _mark(self, connection: Any, stopped: threading.Event) -> None:
        for number in _paced(MARKS_A_SECOND, stopped):
            connection.execute("INSERT INTO marks VALUES (%s, repeat(md5(random()::text), 20))", [number])

    def _attach(self, connection: Any, stopped: threading.Event) -> None:
        for number in _paced(ATTACHMENTS_A_SECOND, stopped):
            self.attach(connection, number)
            if number % 5 == 4:
                self._delete_one(connection)

    def _write_file(self, content: bytes) -> None:
        """Write the file where it will be read, a half at a time: Odoo makes no draft."""
        path = self.filestore / name_for(content)
        path.parent.mkdir(exist_ok=True)
        with path.open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            file.write(content[len(content) // 2 :])

    def _delete_one(self, connection: Any) -> None:
        chosen = self.chance.choice([one for one in self.attachments.values() if one.deleted_at is None])
        with connection.transaction():
            connection.execute("DELETE FROM ir_attachment WHERE id = %s", [chosen.id])
            (deleter,) = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        statement = "SELECT pg_xact_commit_timestamp(%s::text::xid)"
        (chosen.deleted_at,) = connection.execute(statement, [deleter]).fetchone()


def _paced(a_second: int, stopped: threading.Event) -> Iterator[int]:
    began = time.monotonic()
    for number in itertools.count():
        if stopped.wait(max(0.0, began + number / a_second - time.monotonic())):
            return
        yield number


def names_in(connection: Any) -> list[str]:
    return [name for (name,) in connection.execute("SELECT store_fname FROM ir_attachment ORDER BY store_fname")]


@dataclass
class Fetched:
    """A copy fetched once, from which any number of restores begin: each replays and is promoted by itself."""

    source: Source
    base: BaseBackup
    sandbox: Sandbox
    coverage: Coverage

    @classmethod
    def of(cls, source: Source, base: BaseBackup) -> Fetched:
        sandbox = make_sandbox(source.runs, run_id="fetched")
        coverage = fetch_copy(
            store=source.store,
            base=base,
            archive=source.archive(),
            at=Latest.LATEST,
            identities=[KEY.identity],
            sandbox=sandbox,
        )
        return cls(source, base, sandbox, coverage)

    @contextmanager
    def restored(self, at: RestoreTo) -> Iterator[Restored]:
        run_id = uuid.uuid4().hex[:8]
        sandbox = make_sandbox(self.source.runs, run_id=run_id)
        shutil.rmtree(sandbox.data)
        sandbox.wal.rmdir()
        shutil.copytree(self.sandbox.data, sandbox.data, copy_function=_copy_as_owned)
        for path in [sandbox.data, *sandbox.data.rglob("*")]:
            sandbox.give(path)
        sandbox.wal.symlink_to(self.sandbox.wal)
        try:
            with start_copy(
                sandbox,
                programs=self.source.programs,
                base=self.base,
                coverage=self.coverage,
                at=at,
                role="postgres",
            ) as restored:
                yield restored
        finally:
            tear_down(self.source.runs, run_id=run_id)


def _copy_as_owned(source: str, target: str) -> object:
    return shutil.copy2(source, target)


@dataclass(frozen=True)
class Pair:
    """A filestore's point with the time at which its copy began."""

    began_at: datetime
    point: FilestorePoint


def pair_for(at: datetime, *, pairs: list[Pair]) -> Pair:
    """Return the first copy that began at or after a time: it holds every file that a row of that time names."""
    return next(pair for pair in pairs if pair.began_at >= at)
