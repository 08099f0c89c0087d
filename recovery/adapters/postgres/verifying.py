"""What a copy is held against (level 1), and what a restored server is asked (level 2), before it counts as verified.

Raises `Permanent` naming the first thing that is not as it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.incremental import FaultIn, chain_of
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    connection_environment,
    run_program,
    undisturbed,
)
from recovery.adapters.postgres.wal import coverage_of, open_history, open_wal
from recovery.adapters.streams import verify_stream
from recovery.ports.postgres import BaseBackup, Coverage, WalArchive

CHECK_SECONDS = 12 * 3600.0


def verify_stored(*, store: ObjectStore, base: BaseBackup, archive: WalArchive, identities: Sequence[str]) -> Coverage:
    """Read every object of a base backup, of those it builds upon and of its WAL; open what was encrypted (level 1).

    Raises `FaultIn` for what is wrong with the backup or with one it builds upon, and `Permanent` for WAL.
    The copy itself is held against its manifest by `verify_copy` once it is unpacked.
    """
    for member in chain_of(store, base):
        try:
            verify_stream(store, member.key, sha256=member.sha256)
            verify_stream(store, member.manifest_key, sha256=member.manifest_sha256)
        except Permanent as fault:
            raise FaultIn(member.label, fault.reason) from None
    coverage = coverage_of(base, archive=archive)
    for switch in coverage.switches:
        open_history(store, switch, identities=identities)
    for one in coverage.needed:
        open_wal(store, one, archive=archive, identities=identities)
    return coverage


class Answering(Protocol):
    """A server that answers at its superuser's address."""

    @property
    def url(self) -> str: ...


def question(server: Answering, *, programs: Programs) -> tuple[str, ...]:
    """Check the structure of every table and index and read every row of every database; return the databases.

    The extension amcheck is added to the copy.
    """
    url = undisturbed(server.url)
    environment = connection_environment(url)
    run_program(
        [
            programs.path("pg_amcheck"),
            "--all",
            f"--maintenance-db={environment['PGDATABASE']}",
            "--install-missing",
            "--no-password",
            "--jobs=2",
        ],
        environment=environment,
        seconds=CHECK_SECONDS,
    )
    with connected(url) as connection:
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname").fetchall()
    databases = tuple(str(name) for (name,) in names)
    for database in databases:
        _read_everything(database, programs=programs, environment=environment)
    return databases


def _read_everything(database: str, *, programs: Programs, environment: dict[str, str]) -> None:
    run_program(
        # To nowhere: what counts is that every row can be read and written down.
        [programs.path("pg_dump"), "--format=plain", "--file=/dev/null", "--no-password"],
        environment=environment | {"PGDATABASE": database},
        seconds=CHECK_SECONDS,
    )
