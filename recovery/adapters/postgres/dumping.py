"""Logical copies of one database by `pg_dump`: for managed servers, which let nobody replicate, and for single tenants.

Streamed like base backups, without a file in between, and in the catalogue of the store once its facts are written. A
dump names no roles: what is restored belongs to whoever restores it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.contents import restore_contents
from recovery.adapters.postgres.entering import ensure_role
from recovery.adapters.postgres.facts import FACTS, backup_from, facts_of
from recovery.adapters.postgres.packing import BLOCK_BYTES, PackingWriter, UnpackingReader, read_ahead
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    connection_environment,
    feed_program,
    observe_version,
    one_row,
    output_of,
    plain_environment,
)
from recovery.adapters.streams import StreamReader, StreamWriter, ensure_stream_absent
from recovery.ports.postgres import DatabaseDump

IDENTITY = """
SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype, pg_database_size(oid), clock_timestamp()
FROM pg_database WHERE datname = current_database()
"""
CONTENT = "dump.pgdump.zst.age"
WITHOUT_ROLES = ("--no-owner", "--no-privileges", "--no-tablespaces", "--no-security-labels")
"""Roles and places of the source are not those of where a dump is restored."""
# A subscription that is restored would draw from the source's publisher; the other end of a publication is not here.
WITHOUT_LINKS = ("--no-subscriptions", "--no-publications")


def take_dump(
    *, url: str, programs: Programs, store: ObjectStore, prefix: str, label: str, recipients: Sequence[str]
) -> DatabaseDump:
    """Dump the database that the address names to `PREFIX/dump/LABEL/`, and return the facts.

    The role needs to read every table, no more. Raises `Permanent` where the label is taken, where the programs are
    older than the server, and what the server or the store refuse.
    """
    folder = f"{prefix}/dump/{label}"
    _clear_killed(store, folder=folder)
    with connected(url) as connection:
        major, version = observe_version(connection)
        database, encoding, collation, character_type, size_there, started_at = one_row(connection, IDENTITY)
    if programs.major < major:
        raise Permanent(f"The server is PostgreSQL {major}, the programs are of {programs.major}.")
    output = output_of(
        [
            programs.path("pg_dump"),
            "--format=custom",
            "--compress=0",
            "--no-password",
            *WITHOUT_ROLES,
            *WITHOUT_LINKS,
        ],
        environment=connection_environment(url) | {"PGDATABASE": database},
        part_bytes=BLOCK_BYTES,
    )
    size = 0
    with StreamWriter(store, f"{folder}/{CONTENT}") as stream:
        with closing(output) as parts, PackingWriter(stream, recipients=recipients) as packing:
            for data in parts:
                size += len(data)
                packing.write(data)
        stored = stream.close()
    with connected(url) as connection:
        finished_at = one_row(connection, "SELECT clock_timestamp()")[0]
    dump = DatabaseDump(
        label=label,
        key=stored.key,
        database=database,
        encoding=encoding,
        collation=collation,
        character_type=character_type,
        server_version=version,
        server_major=major,
        started_at=started_at,
        finished_at=finished_at,
        content_bytes=size,
        stored_bytes=stored.size,
        sha256=stored.sha256,
        database_bytes=size_there,
    )
    store.ensure_object(f"{folder}/{FACTS}", facts_of(dump))
    return dump


def observe_dump(store: ObjectStore, *, prefix: str, label: str) -> DatabaseDump:
    """Return the facts of a dump from the store. Raises `Permanent` where there is none."""
    folder = f"{prefix}/dump/{label}"
    data = store.observe_object(f"{folder}/{FACTS}")
    if data is None:
        raise Permanent(f"There is no dump {label} in the store.")
    dump = backup_from(data, DatabaseDump)
    if dump is None:
        raise Permanent(f"The facts of the dump {label} were changed.")
    if dump.label != label or dump.key != f"{folder}/{CONTENT}":
        raise Permanent(f"The facts of the dump {label} are those of {dump.key}.")
    return dump


def is_dumped(store: ObjectStore, *, prefix: str, label: str) -> bool:
    """Tell whether a dump is whole in the store."""
    return store.observe_object(f"{prefix}/dump/{label}/{FACTS}") is not None


def observe_dumps(store: ObjectStore, *, prefix: str) -> Iterator[DatabaseDump]:
    """Return the dumps that are whole, in no order."""
    for found in store.observe_objects(f"{prefix}/dump"):
        if found.key.endswith(f"/{FACTS}"):
            yield observe_dump(store, prefix=prefix, label=found.key.split("/")[-2])


def parts_of(*, store: ObjectStore, dump: DatabaseDump, identities: Sequence[str]) -> Generator[bytes, None, None]:
    """Yield all of a dump as `pg_dump` wrote it. Raises `Permanent` where it is missing or changed."""
    with StreamReader(store, dump.key, sha256=dump.sha256) as stored:
        content = UnpackingReader(stored, identities=identities)
        with closing(read_ahead(content.read)) as parts:
            yield from parts


def verify_dump(*, store: ObjectStore, dump: DatabaseDump, identities: Sequence[str], programs: Programs) -> None:
    """Read a dump to its end, open it, and write all of it down as SQL to nowhere (level 1).

    Raises `Permanent` naming what is missing, changed, or not what `pg_dump` wrote.
    """
    _feed(
        [programs.path("pg_restore"), "--file=/dev/null"],
        store=store,
        dump=dump,
        identities=identities,
        environment=plain_environment(),
    )


def restore_dump(
    *,
    store: ObjectStore,
    dump: DatabaseDump,
    identities: Sequence[str],
    programs: Programs,
    url: str,
    database: str,
) -> tuple[str, ...]:
    """Restore a dump into a new database on the server at `url`, as its superuser; return what was left out, in words.

    A role that is made for it owns what is restored. Raises `Permanent` where the database exists or the server is
    older than the dump's; what fails leaves no database behind.
    """
    if programs.major < dump.server_major:
        raise Permanent(f"The dump is of PostgreSQL {dump.server_major}, the programs are of {programs.major}.")
    with connected(url) as connection:
        major, _ = observe_version(connection)
    if major < dump.server_major:
        raise Permanent(f"The dump is of PostgreSQL {dump.server_major} and the server to restore to is {major}.")
    as_role = ensure_role(url)
    with _new_database(url, database=database, dump=dump, owner=str(conninfo_to_dict(as_role)["user"])):
        size, left_out = restore_contents(
            lambda: parts_of(store=store, dump=dump, identities=identities),
            url=url,
            as_role=as_role,
            database=database,
            programs=programs,
            flags=(*WITHOUT_ROLES, *WITHOUT_LINKS),
        )
        _check_size(size, dump=dump)
    return left_out


def _clear_killed(store: ObjectStore, *, folder: str) -> None:
    """Remove what an attempt left that was killed before its facts were written: it is no dump."""
    key = f"{folder}/{CONTENT}"
    if store.observe_object(key) is not None and store.observe_object(f"{folder}/{FACTS}") is None:
        ensure_stream_absent(store, key)


def _feed(
    command: Sequence[str | Path],
    *,
    store: ObjectStore,
    dump: DatabaseDump,
    identities: Sequence[str],
    environment: dict[str, str],
) -> None:
    with closing(parts_of(store=store, dump=dump, identities=identities)) as parts:
        size = feed_program(command, content=parts, environment=environment)
    _check_size(size, dump=dump)


def _check_size(size: int, *, dump: DatabaseDump) -> None:
    if size != dump.content_bytes:
        raise Permanent(f"The dump holds {size:,} bytes and should hold {dump.content_bytes:,}.")


@contextmanager
def _new_database(url: str, *, database: str, dump: DatabaseDump, owner: str) -> Iterator[None]:
    """Make the database as the source's was; what fails within the block removes it again."""
    make = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
        sql.Identifier(database),
        sql.Identifier(owner),
        sql.Literal(dump.encoding),
        sql.Literal(dump.collation),
        sql.Literal(dump.character_type),
    )
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
    with connected(url) as connection:
        try:
            connection.execute(make)
        except psycopg.errors.DuplicateDatabase:
            raise Permanent(f"There is a database {database} on the server already; nothing was restored.") from None
    try:
        yield
    except BaseException:
        with connected(url) as connection:
            connection.execute(drop)
        raise
