"""What takes a database's place, by a role that is no superuser and a member of its owner alone."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from changecontrol.project.local.postgres import Postgres
from recovery.adapters.postgres.rights import ensure_stands_in
from recovery.adapters.postgres.sentinel import ensure_sentinel

pytestmark = pytest.mark.slow

ROLES = ("books_odoo", "books_restores", "books_backup")


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def address(server: Postgres, database: str, *, role: str) -> str:
    return make_conninfo(server.superuser_url, dbname=database, user=role, password=role)


@pytest.fixture
def books(server: Postgres) -> Iterator[Postgres]:
    """A server with the database `books` and the one that is to stand in for it."""
    run(
        server.superuser_url,
        *(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'" for role in ROLES),
        "GRANT books_odoo TO books_restores",
        "CREATE DATABASE books OWNER books_odoo",
        "CREATE DATABASE books_monday OWNER books_odoo",
        "GRANT CONNECT ON DATABASE books TO books_backup WITH GRANT OPTION",
        "ALTER DATABASE books SET statement_timeout TO '5min'",
        "ALTER DATABASE books SET default_transaction_read_only TO on",
        "ALTER ROLE books_backup IN DATABASE books SET work_mem TO '7MB'",
    )
    for database in ("books", "books_monday"):
        url = make_conninfo(server.superuser_url, dbname=database, options="-c default_transaction_read_only=off")
        run(url, "GRANT CREATE ON SCHEMA public TO books_backup")
    run(
        make_conninfo(server.superuser_url, dbname="books", options="-c default_transaction_read_only=off"),
        "CREATE TABLE changecontrol_sentinel (at timestamptz PRIMARY KEY DEFAULT clock_timestamp())",
        "ALTER TABLE changecontrol_sentinel OWNER TO books_backup",
    )
    ensure_sentinel(address(server, "books_monday", role="books_odoo"))
    yield server
    run(server.superuser_url, "DROP DATABASE books", "DROP DATABASE books_monday")
    run(server.superuser_url, *(f"DROP ROLE {role}" for role in ROLES))


def test_what_the_role_may_give_is_given_and_what_it_may_not_is_told(books: Postgres) -> None:
    url = address(books, "books_monday", role="books_restores")

    left = ensure_stands_in(url, place_of="books", owner="books_odoo")

    assert [one.partition(" The server says")[0] for one in left] == ["Not carried over: the setting work_mem."]
    ensure_sentinel(address(books, "books_monday", role="books_backup"))
    with psycopg.connect(books.superuser_url) as connection:
        rights = "SELECT datacl::text FROM pg_database WHERE datname ~ '^books' ORDER BY datname"
        old, new = (sorted(acl.strip("{}").split(",")) for (acl,) in connection.execute(rights))
        settings = connection.execute(
            "SELECT setconfig FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase"
            " WHERE datname = 'books_monday'"
        ).fetchall()
    assert old == new
    # What keeps everybody from writing is of the old database alone.
    assert settings == [(["statement_timeout=5min"],)]
