"""Servers that were brought back and answer, wherever they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from changecontrol.errors import Hindered, Permanent, Transient, UnderWay
from recovery import doors
from recovery.adapters.postgres.entering import ensure_owns, ensure_role, ensure_undisturbed
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    entrance_of,
    find_programs,
    observe_version,
    undisturbed,
)
from recovery.models import RecoveryPoint
from recovery.ports.clusters import DatabaseClusters

ALTERED = "changecontrol: Odoo worked on this copy"
LOOK_SECONDS = 30.0
"""How long a job waits before it asks again a cluster that does not answer: each time takes a process of its own."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server by two addresses, which are never shown, with the programs of its version.

    A superuser looks at the catalogue, dumps and verifies by `url`. Rows are asked and changed by a role that is none:
    whoever owned something in a database left code there that is run by it.
    """

    url: str = field(repr=False)
    asking_url: str = field(repr=False)
    version: str
    programs: Programs
    left_out: tuple[str, ...] = ()
    """In words, what of a dump is not there."""

    def url_of(self, database: str) -> str:
        """Return the address by which the rows of a database are asked and changed."""
        return doors.url_of(self.asking_url, database=database)

    def superuser_url_of(self, database: str) -> str:
        return doors.url_of(self.url, database=database)


def server_at(url: str, *, version: str, programs: Programs, left_out: tuple[str, ...] = ()) -> Server:
    """Return a server that was brought back, made ready to be asked. `url` is its superuser's."""
    ensure_undisturbed(url)
    return Server(undisturbed(url), ensure_role(url), version, programs, left_out)


def _told(clusters: DatabaseClusters, recovery: Mapping[str, Any]) -> str:
    try:
        return clusters.observe_recovery_url(run=recovery["run"], namespace=recovery["namespace"])
    except Transient as silence:
        raise UnderWay(silence.reason, after=silence.after or LOOK_SECONDS) from None


def recovered_server(point: RecoveryPoint, recovery: Mapping[str, Any]) -> Server:
    """Return the server that an operator recovered for a run, as the order of its job tells it.

    Raises `UnderWay` while its cluster does not answer, which costs no attempt: what hours have recovered is not given
    up for that. Raises `Transient` where it lets nobody in, `Hindered` where the programs of its version are not here.
    None says anything of the point.
    """
    clusters = doors.open_database_clusters(point.environment)
    try:
        told = _told(clusters, recovery)
        url = entrance_of(undisturbed(told), database=point.environment.database)
        with connected(url) as connection:
            major, version = observe_version(connection)
    except Permanent as trouble:
        # The operator sets the password only once the server runs.
        raise Transient(f"The recovered cluster cannot be used yet. {trouble.reason}") from None
    try:
        programs = find_programs(major=major, folders=doors.programs_folders())
    except Permanent as trouble:
        raise Hindered(trouble.reason) from None
    return server_at(url, version=version, programs=programs)


def begin_altering(server: Server, *, database: str) -> None:
    """Let Odoo work on a database, and mark it before: the mark outlives an attempt that is killed."""
    with connected(server.url) as connection:
        statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
        connection.execute(statement.format(sql.Identifier(database), sql.Literal(ALTERED)))
    ensure_owns(server.superuser_url_of(database), role=str(conninfo_to_dict(server.asking_url)["user"]))


def check_unaltered(server: Server, *, database: str) -> None:
    """Raise `Hindered` where an earlier attempt had Odoo work on a database: what it sold says nothing of the point."""
    with connected(server.url) as connection:
        found = connection.execute(
            "SELECT FROM pg_database WHERE datname = %s AND shobj_description(oid, 'pg_database') = %s",
            [database, ALTERED],
        ).fetchone()
    if found is not None:
        raise Hindered("An attempt ended while Odoo worked on the recovered database: hold the drill again.")
