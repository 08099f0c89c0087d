"""What a database that takes another's place on its server gets from it: rights, settings, the owner of its sentinels.

A dump holds none of what PostgreSQL keeps of a database beside it. What the role may not carry over is told, and stops
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.rules.counting import counted
from recovery.adapters.postgres.programs import Programs, connected, plain_environment, run_program
from recovery.adapters.postgres.sentinel import TABLE

READ_SECONDS = 300.0
RIGHTS = """
SELECT pg_get_userbyid(nullif(acl.grantee, 0)), acl.privilege_type, acl.is_grantable
FROM pg_database, aclexplode(datacl) AS acl WHERE datname = %s
"""
"""Who may do what with a database; a role that is NULL is everybody. No row where nobody has ever changed it."""
SETTINGS = """
SELECT pg_get_userbyid(nullif(setrole, 0)), split_part(one, '=', 1), substr(one, strpos(one, '=') + 1)
FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase, unnest(setconfig) AS one WHERE datname = %s
"""
SENTINELS = """
SELECT nspname, pg_get_userbyid(relowner) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relname = %s AND relkind = 'r'
"""
RIGHT = re.compile(r"\d+; \d+ \d+ (DEFAULT )?ACL ")
"""An entry in what `pg_restore` lists that grants and revokes."""
BY_DEFAULT = "ALTER DEFAULT PRIVILEGES"
STATEMENT = re.compile(
    rf"^(?:GRANT|REVOKE|{BY_DEFAULT}|SET SESSION AUTHORIZATION|RESET SESSION AUTHORIZATION)\b.*?;$", re.M | re.S
)
LISTS = ("search_path", "temp_tablespaces")
"""Settings whose value is a list of names: as one literal it would be one name."""
OF_THE_OLD = "default_transaction_read_only"
"""Set to keep everybody from writing to what is replaced."""


def ensure_granted(url: str, *, folder: Path, programs: Programs, owner: str) -> list[str]:
    """Grant on what was restored what a dump's folder says was granted; return what could not be, as a sentence.

    Each right alone: a role of that time that is gone since has none to miss, and costs nobody else theirs.
    """
    wanted = folder.with_name(f"{folder.name}.rights")
    listed = _of_dump(folder, "--list", programs=programs)
    wanted.write_text("".join(f"{line}\n" for line in listed.splitlines() if RIGHT.match(line)))
    statements = STATEMENT.findall(_of_dump(folder, "--file=-", f"--use-list={wanted}", programs=programs))
    left: list[str] = []
    with connected(url) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        _run(connection, left, [one for one in statements if not one.startswith(BY_DEFAULT)])
        # Rights on what somebody else will make are not the owner's to give.
        connection.execute("RESET ROLE")
        _run(connection, left, [one for one in statements if one.startswith(BY_DEFAULT)])
    if not left:
        return []
    return [f"Not granted anew: {counted(len(left), 'right')} of that time, such as {left[0]}"]


def ensure_stands_in(url: str, *, place_of: str, owner: str) -> list[str]:
    """Give a database the rights, the settings and the owner of sentinels that another of its server has.

    The role is a member of the owner. Return what it may not carry over, a sentence each.
    """
    name = str(conninfo_to_dict(url)["dbname"])
    left: list[str] = []
    with connected(make_conninfo(url, dbname=place_of)) as connection:
        rights = connection.execute(RIGHTS, [place_of]).fetchall()
        settings = connection.execute(SETTINGS, [place_of]).fetchall()
        keepers = connection.execute(SENTINELS, [TABLE]).fetchall()
    with connected(url) as connection:
        if rights:
            with _trying(connection, left, what=f"the rights on “{place_of}” itself"):
                _grant(connection, name, rights=rights, owner=owner)
        for role, setting, value in settings:
            if setting != OF_THE_OLD:
                with _trying(connection, left, what=f"the setting {setting}"):
                    _set(connection, name, role=role, setting=setting, value=value)
        for schema, keeper in keepers:
            _keep_sentinels(connection, left, schema=schema, keeper=keeper, owner=owner)
    return left


def _of_dump(folder: Path, *words: str, programs: Programs) -> str:
    command: list[str | Path] = [programs.path("pg_restore"), "--no-owner", *words, folder]
    return run_program(command, environment=plain_environment(), seconds=READ_SECONDS)


def _run(connection: psycopg.Connection[Any], left: list[str], statements: Sequence[str]) -> None:
    for statement in statements:
        try:
            # Prepared, so that each is one statement whatever the names in it are.
            connection.execute(statement.encode(), prepare=True)
        except psycopg.OperationalError:
            raise
        except psycopg.errors.UndefinedObject:
            continue
        except psycopg.Error as error:
            left.append(f"{statement} {_words_of(error)}")


def _grant(connection: psycopg.Connection[Any], name: str, *, rights: Sequence[tuple[Any, ...]], owner: str) -> None:
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
    database = sql.Identifier(name)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    for role, right, is_grantable in rights:
        grant = sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            sql.SQL(right),
            database,
            sql.Identifier(role) if role else sql.SQL("PUBLIC"),
            sql.SQL(" WITH GRANT OPTION" if is_grantable else ""),
        )
        connection.execute(grant)


def _set(connection: psycopg.Connection[Any], name: str, *, role: str | None, setting: str, value: str) -> None:
    database = sql.Identifier(name)
    whose = sql.SQL("DATABASE {}").format(database)
    if role:
        whose = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
    key = sql.SQL(".").join(map(sql.Identifier, setting.split(".")))
    if setting.lower() not in LISTS:
        connection.execute(sql.SQL("ALTER {} SET {} TO {}").format(whose, key, sql.Literal(value)))
        return
    connection.execute("SELECT set_config(%s, %s, true)", [setting, value])
    connection.execute(sql.SQL("ALTER {} SET {} FROM CURRENT").format(whose, key))


def _keep_sentinels(
    connection: psycopg.Connection[Any], left: list[str], *, schema: str, keeper: str, owner: str
) -> None:
    table = sql.Identifier(schema, TABLE)
    if connection.execute("SELECT to_regclass(%s)", [table.as_string(connection)]).fetchone() == (None,):
        return
    given: list[str] = []
    with _trying(connection, given, what=""):
        connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(keeper)))
    if given:
        # Only a member of both may hand it over; who may write it needs no more.
        with _trying(connection, left, what="the rights on the table of sentinels"):
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
            connection.execute(sql.SQL("GRANT ALL ON {} TO {}").format(table, sql.Identifier(keeper)))


@contextmanager
def _trying(connection: psycopg.Connection[Any], left: list[str], *, what: str) -> Iterator[None]:
    """Do all of the block or nothing; what the server refuses is added to what is left."""
    try:
        with connection.transaction():
            yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        left.append(f"Not carried over: {what}. {_words_of(error)}")


def _words_of(error: psycopg.Error) -> str:
    """Return why the server refused, in its own words."""
    return f"The server says: {str(error).strip().splitlines()[0]}."
