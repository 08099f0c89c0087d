"""What a copy is held against (level 1), and what a restored server is asked (level 2), before it counts as verified.

Raises `Permanent` naming the first thing that is not as it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    connection_environment,
    one_row,
    run_program,
)
from recovery.adapters.postgres.restoring import Restored
from recovery.adapters.postgres.wal import coverage_of, open_history, open_wal
from recovery.adapters.streams import verify_stream
from recovery.ports import BaseBackup, Coverage, WalArchive

CHECK_SECONDS = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class DatabaseAnswers:
    """What a restored server answered. `newest_at` is the newest sentinel, where there is a sentinel table."""

    databases: tuple[str, ...]
    newest_at: datetime | None


def verify_stored(*, store: ObjectStore, base: BaseBackup, archive: WalArchive, identities: Sequence[str]) -> Coverage:
    """Read every object of a base backup and of the WAL that follows it, and open what was encrypted (level 1).

    The copy itself is held against its manifest by `verify_copy` once it is unpacked.
    """
    verify_stream(store, base.key, sha256=base.sha256)
    verify_stream(store, base.manifest_key, sha256=base.manifest_sha256)
    coverage = coverage_of(base, archive=archive)
    for switch in coverage.switches:
        open_history(store, switch, identities=identities)
    for one in coverage.needed:
        open_wal(store, one, archive=archive, identities=identities)
    return coverage


def question(
    restored: Restored, *, programs: Programs, sentinel: tuple[str, str, str] | None = None
) -> DatabaseAnswers:
    """Check the structure of every table and index, read every row of every database, and find the newest sentinel.

    `sentinel` names a database, a table and its column of times. The extension amcheck is added to the copy.
    """
    environment = connection_environment(restored.url)
    run_program(
        [programs.path("pg_amcheck"), "--all", "--install-missing", "--no-password", "--jobs=2"],
        environment=environment,
        seconds=CHECK_SECONDS,
    )
    with connected(restored.url) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname").fetchall()
    databases = tuple(str(name) for (name,) in names)
    for database in databases:
        _read_everything(database, programs=programs, environment=environment)
    return DatabaseAnswers(databases=databases, newest_at=_newest(restored, sentinel) if sentinel else None)


def _read_everything(database: str, *, programs: Programs, environment: dict[str, str]) -> None:
    run_program(
        # To nowhere: what counts is that every row can be read and written down.
        [programs.path("pg_dump"), "--format=plain", "--file=/dev/null", "--no-password"],
        environment=environment | {"PGDATABASE": database},
        seconds=CHECK_SECONDS,
    )


def _newest(restored: Restored, sentinel: tuple[str, str, str]) -> datetime:
    database, table, column = sentinel
    with connected(restored.url_of(database)) as connection:
        statement = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(column), sql.Identifier(*table.split(".")))
        newest = one_row(connection, statement.as_string(connection))[0]
    if newest is None:
        raise Permanent(f"The restored database holds no sentinel in {table}.")
    at: datetime = newest
    return at
