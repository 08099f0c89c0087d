"""What takes a database's place, by a role that is no superuser and a member of its owner alone."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

from changecontrol.project.local.postgres import Postgres
from recovery.adapters.postgres.rights import ensure_granted, ensure_stands_in
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


ALL_RIGHTS = """
SELECT kind || name AS thing, right_of::text FROM (
    SELECT 'relation ', oid::regclass::text, relacl FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'column ', attrelid::regclass || '.' || attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL
        AND attrelid >= 16384
    UNION ALL SELECT 'routine ', oid::regprocedure::text, proacl FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'type ', oid::regtype::text, typacl FROM pg_type WHERE typacl IS NOT NULL AND oid >= 16384
    UNION ALL SELECT 'schema ', nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_|^information'
    UNION ALL SELECT 'object ', oid::text, lomacl FROM pg_largeobject_metadata
    UNION ALL
    SELECT 'default ', concat(defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype), defaclacl
    FROM pg_default_acl
) AS found (kind, name, acl) LEFT JOIN LATERAL unnest(acl) AS right_of ON true ORDER BY 1, 2
"""
OBJECTS = (
    "CREATE SCHEMA reports",
    "CREATE TABLE sale_order (id serial PRIMARY KEY, name text, margin numeric)",
    "CREATE VIEW newest AS SELECT max(id) FROM sale_order",
    "CREATE TYPE amount AS (value numeric, currency text)",
    "CREATE FUNCTION total(a int, b amount) RETURNS int LANGUAGE sql RETURN 1",
    "CREATE PROCEDURE tidy(INOUT a int) LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE latest(int) (SFUNC = int4larger, STYPE = int)",
    "SELECT lo_create(77)",
)
GRANTS = (
    "GRANT SELECT, INSERT ON sale_order TO zoo_reader WITH GRANT OPTION",
    "GRANT SELECT (name), UPDATE (margin) ON sale_order TO zoo_other",
    "GRANT SELECT ON newest TO PUBLIC",
    "GRANT USAGE ON SEQUENCE sale_order_id_seq TO zoo_reader",
    "REVOKE TRUNCATE ON sale_order FROM zoo_odoo",
    "REVOKE EXECUTE ON FUNCTION total(int, amount) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION total(int, amount) TO zoo_reader",
    "GRANT EXECUTE ON PROCEDURE tidy(int) TO zoo_reader",
    "REVOKE ALL ON FUNCTION latest(int) FROM PUBLIC, zoo_odoo",
    "REVOKE USAGE ON TYPE amount FROM PUBLIC",
    "GRANT USAGE, CREATE ON SCHEMA reports TO zoo_reader",
    "GRANT SELECT ON LARGE OBJECT 77 TO zoo_reader",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA reports GRANT SELECT ON TABLES TO zoo_reader",
)
ZOO = ("zoo_odoo", "zoo_restores", "zoo_reader", "zoo_other")


@pytest.fixture
def zoo(server: Postgres) -> Iterator[tuple[str, str]]:
    """Two databases of one owner, the source and what is restored, and a role that restores and may give a right away.

    Yields the address of the source as a superuser, and of the other as the role that restores.
    """
    run(
        server.superuser_url,
        *(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'" for role in ZOO),
        "GRANT zoo_odoo TO zoo_restores",
        "GRANT pg_monitor TO zoo_restores WITH ADMIN OPTION",
        *(f"CREATE DATABASE {name} OWNER zoo_odoo TEMPLATE template0" for name in ("zoo", "zoo_monday")),
    )
    source = make_conninfo(server.superuser_url, dbname="zoo")
    yield source, address(server, "zoo_monday", role="zoo_restores")
    run(server.superuser_url, "DROP DATABASE zoo", "DROP DATABASE zoo_monday")
    run(server.superuser_url, *(f"DROP ROLE {role}" for role in ZOO))


def as_owner(url: str, *statements: str | sql.Composed) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET ROLE zoo_odoo")
        for statement in statements:
            connection.execute(statement)


def rights_in(url: str) -> list[tuple[str, str | None]]:
    with psycopg.connect(url) as connection:
        return connection.execute(ALL_RIGHTS).fetchall()


def members(server: Postgres) -> list[tuple[str, str, bool]]:
    with psycopg.connect(server.superuser_url) as connection:
        return connection.execute(
            "SELECT roleid::regrole::text, member::regrole::text, admin_option FROM pg_auth_members ORDER BY 1, 2"
        ).fetchall()


def test_rights_of_every_kind_are_those_of_the_source(zoo: tuple[str, str]) -> None:
    source, new = zoo
    as_owner(source, *OBJECTS, *GRANTS)
    as_owner(new, *OBJECTS)
    assert rights_in(source) != rights_in(new)

    left = [ensure_granted(new, source=source, owner="zoo_odoo") for _ in range(2)]

    assert left == [[], []]
    assert rights_in(new) == rights_in(source)


def test_a_right_that_may_not_be_given_is_told_and_costs_no_other(zoo: tuple[str, str], server: Postgres) -> None:
    source, new = zoo
    run(source, "CREATE ROLE zoo_gone")
    as_owner(source, *OBJECTS[:2])
    run(
        source,
        "GRANT SELECT ON sale_order TO zoo_reader, zoo_gone",
        "ALTER DEFAULT PRIVILEGES FOR ROLE zoo_other GRANT SELECT ON TABLES TO zoo_reader",
    )
    as_owner(new, *OBJECTS[:2])
    run(source, "DROP OWNED BY zoo_gone", "DROP ROLE zoo_gone")

    left = ensure_granted(new, source=source, owner="zoo_odoo")

    assert left == [
        'Not granted anew: 1 right of that time, such as ALTER DEFAULT PRIVILEGES FOR ROLE "zoo_other" GRANT SELECT ON '
        'TABLES TO "zoo_reader". The server says: permission denied to change default privileges.'
    ]
    can = [right for thing, right in rights_in(new) if thing == "relation sale_order"]
    assert "zoo_reader=r/zoo_odoo" in can


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15) | st.text(
    "\"';$-/*\\\n\r ()%{}", min_size=1, max_size=15
)
GIVES = ";\nRESET SESSION AUTHORIZATION;\nGRANT pg_monitor TO zoo_odoo;\n"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(table=GIVES, column="a", role="zoo_reader")
@example(table="a\nRESET ROLE;\nGRANT pg_monitor TO zoo_odoo;\n--", column='"; RESET ROLE; --', role="r")
@example(table="$$;RESET ROLE;GRANT pg_monitor TO zoo_odoo;$$", column="E'\\'", role="/* */")
@example(table="%s%(a)s{}", column="''", role='a"b')
@given(table=NAMES, column=NAMES, role=NAMES.map(lambda name: f"_{name}"))
def test_what_is_called_like_a_statement_is_a_name_alone(
    zoo: tuple[str, str], server: Postgres, table: str, column: str, role: str
) -> None:
    source, new = zoo
    within, of, reader = (sql.Identifier(one) for one in (table, column, role))
    made = sql.SQL("CREATE TABLE {} ({} int); CREATE FUNCTION {}({}) RETURNS int LANGUAGE sql RETURN 1;").format(
        within, of, within, within
    )
    grants = sql.SQL(
        "GRANT SELECT ON {0} TO {2}; GRANT INSERT ({1}) ON {0} TO {2}; GRANT EXECUTE ON FUNCTION {0}({0}) TO {2}"
    ).format(within, of, reader)
    if role != "zoo_reader":
        with psycopg.connect(server.superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {}").format(reader))
    as_owner(source, made, grants)
    as_owner(new, made)
    before = members(server)
    try:
        left = ensure_granted(new, source=source, owner="zoo_odoo")

        assert left == []
        assert rights_in(new) == rights_in(source)
        assert members(server) == before
    finally:
        for url in (source, new):
            as_owner(url, sql.SQL("DROP TABLE {} CASCADE").format(within))
        if role != "zoo_reader":
            with psycopg.connect(server.superuser_url, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP ROLE {}").format(reader))
