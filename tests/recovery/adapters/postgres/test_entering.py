"""The role by which a restored server is entered may do what the shop's own could, whoever that was."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.project.local.postgres import Postgres
from recovery.adapters.postgres.entering import ensure_owns, ensure_role

pytestmark = pytest.mark.slow


@pytest.fixture
def database(server: Postgres) -> Iterator[str]:
    """A database of its own, by its superuser's address."""
    url, name = server.superuser_url, f"entered_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield make_conninfo(url, dbname=name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("may", ["", "CREATEROLE", "REPLICATION", "SUPERUSER"])
def test_tables_of_any_owner_are_altered_as_odoo_does(database: str, may: str) -> None:
    owner = f"owner_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {owner} {may}")
        connection.execute("CREATE TABLE res_partner (id serial PRIMARY KEY, name text)")
        connection.execute(f"ALTER TABLE res_partner OWNER TO {owner}")

    entered = ensure_role(database)
    role = str(conninfo_to_dict(entered)["user"])
    ensure_owns(database, role=role)

    with psycopg.connect(entered) as connection:
        connection.execute("ALTER TABLE res_partner ADD COLUMN ref text")
        connection.execute("CREATE INDEX ON res_partner (name)")
        connection.execute("INSERT INTO res_partner (name) VALUES ('Ada')")
        connection.execute("CREATE TABLE res_users (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
