"""What a database that takes another's place on its server gets from it: rights, settings, the owner of its sentinels.

A dump holds none of what PostgreSQL keeps of a database beside it, and what it says of rights would be text to run.
What the role may not carry over is told, and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.rules.counting import counted
from recovery.adapters.postgres.programs import connected
from recovery.adapters.postgres.sentinel import TABLE

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
WITHIN = """
WITH thing (kind, space, name, part, address, owner, rights) AS (
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relnamespace, relname::text, '', '', relowner,
        coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL
    SELECT 'COLUMN', relnamespace, relname, attname, '', relowner, attacl
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attacl IS NOT NULL AND NOT attisdropped
    UNION ALL
    SELECT 'ROUTINE', pronamespace, proname, oidvectortypes(proargtypes), oid::regprocedure::text, proowner,
        coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
    UNION ALL
    SELECT 'TYPE', typnamespace, typname, '', '', typowner, coalesce(typacl, acldefault('T', typowner)) FROM pg_type
    UNION ALL
    SELECT 'SCHEMA', oid, nspname, '', '', nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
    UNION ALL
    SELECT 'LANGUAGE', NULL, lanname, '', '', lanowner, coalesce(lanacl, acldefault('l', lanowner)) FROM pg_language
    UNION ALL
    SELECT 'FOREIGN DATA WRAPPER', NULL, fdwname, '', '', fdwowner, coalesce(fdwacl, acldefault('F', fdwowner))
    FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT 'FOREIGN SERVER', NULL, srvname, '', '', srvowner, coalesce(srvacl, acldefault('S', srvowner))
    FROM pg_foreign_server
    UNION ALL
    SELECT 'LARGE OBJECT', NULL, oid::text, '', '', lomowner, lomacl
    FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL
    UNION ALL
    SELECT 'DEFAULT', NULL, rolname, made.name, '', pg_roles.oid,
        coalesce(defaclacl, acldefault(CASE letter WHEN 'S' THEN 's' ELSE letter END, pg_roles.oid))
    FROM pg_roles CROSS JOIN (
        VALUES ('r'::"char", 'TABLES'), ('S', 'SEQUENCES'), ('f', 'ROUTINES'), ('T', 'TYPES'), ('n', 'SCHEMAS')
    ) AS made (letter, name)
    LEFT JOIN pg_default_acl ON defaclrole = pg_roles.oid AND defaclnamespace = 0 AND defaclobjtype = letter
    UNION ALL
    SELECT 'DEFAULT IN SCHEMA', defaclnamespace, pg_get_userbyid(defaclrole),
        CASE defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' ELSE 'TYPES' END,
        '', defaclrole, defaclacl
    FROM pg_default_acl WHERE defaclnamespace <> 0
)
SELECT kind, coalesce(nspname, ''), name, part, address, pg_get_userbyid(owner), grantee = owner,
    pg_get_userbyid(nullif(grantee, 0)), privilege_type, bool_or(is_grantable) AND grantee <> owner
FROM thing LEFT JOIN pg_namespace ON pg_namespace.oid = space LEFT JOIN LATERAL aclexplode(rights) AS acl ON true
WHERE nspname IS NULL OR (nspname <> 'information_schema' AND nspname !~ '^pg_')
GROUP BY kind, nspname, name, part, address, owner, grantee, privilege_type
"""
"""Who may do what with what is in a database, and by default with what is made there later.

Not of what PostgreSQL itself brings. What nobody was granted or denied anything on has what its kind begins with; a
large object, a column and a default in a schema have then no row. What nobody has a right on has one without.
"""
ON = {
    "TABLE": "TABLE {space}.{name}",
    "SEQUENCE": "SEQUENCE {space}.{name}",
    "COLUMN": "TABLE {space}.{name}",
    "ROUTINE": "ROUTINE {address}",
    "TYPE": "TYPE {space}.{name}",
    "SCHEMA": "SCHEMA {name}",
    "LANGUAGE": "LANGUAGE {name}",
    "FOREIGN DATA WRAPPER": "FOREIGN DATA WRAPPER {name}",
    "FOREIGN SERVER": "FOREIGN SERVER {name}",
    "LARGE OBJECT": "LARGE OBJECT {number}",
}
"""How what is granted on is named, by kind, in the order in which it is: of tables before their columns."""
DEFAULTS = {
    "DEFAULT": "ALTER DEFAULT PRIVILEGES FOR ROLE {name}",
    "DEFAULT IN SCHEMA": "ALTER DEFAULT PRIVILEGES FOR ROLE {name} IN SCHEMA {space}",
}
MADE = ("TABLES", "SEQUENCES", "ROUTINES", "TYPES", "SCHEMAS")
ONLY_WITH_RIGHTS = ("COLUMN", "LARGE OBJECT", "DEFAULT IN SCHEMA")
PRIVILEGES = frozenset(
    "SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER MAINTAIN USAGE CREATE EXECUTE".split()  # noqa: SIM905
)
"""What is granted at all: a source is not asked for words to run."""
LISTS = ("search_path", "temp_tablespaces")
"""Settings whose value is a list of names: as one literal it would be one name."""
OF_THE_OLD = "default_transaction_read_only"
"""Set to keep everybody from writing to what is replaced."""


@dataclass(frozen=True, slots=True)
class Thing:
    """What rights are on, by what it is called on any server: `part` is its column, or what a routine takes.

    Of a default it is what is made later, `name` then is the role that makes it.
    """

    kind: str
    space: str
    name: str
    part: str


@dataclass(frozen=True, slots=True)
class Right:
    """What a role may do; None is everybody. An owner is known as such alone: elsewhere it is another."""

    role: str | None
    is_owner: bool
    privilege: str
    is_grantable: bool


@dataclass(slots=True)
class Held:
    """The rights on one thing, whom it belongs to, and how a server names it that is a routine."""

    owner: str
    address: str = ""
    rights: set[Right] = field(default_factory=set)


def ensure_granted(url: str, *, source: str, owner: str) -> list[str]:
    """Grant on what was restored what is granted in the database it came from, and revoke what is not.

    The catalogue of the source is read, and statements are made here: whatever its names hold, they are names. Each
    right goes alone: a role of that time that is gone since has none to miss, and costs nobody else theirs. Return what
    could not be granted, as a sentence.
    """
    wanted = _rights_within(make_conninfo(source, client_encoding="utf8"))
    found = _rights_within(url)
    left: list[str] = []
    with connected(url) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        for kind in ON:
            _run(connection, left, _statements(kind, wanted, found=found, owner=owner))
        # Rights on what somebody else will make are not the owner's to give.
        connection.execute("RESET ROLE")
        for kind in DEFAULTS:
            _run(connection, left, _statements(kind, wanted, found=found, owner=owner))
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


def _rights_within(url: str) -> dict[Thing, Held]:
    found: dict[Thing, Held] = {}
    with connected(url) as connection:
        # Nothing that somebody made in the database stands in for what PostgreSQL brings, and names come whole.
        connection.execute("SELECT pg_catalog.set_config('search_path', '', false)")
        rows = connection.execute(WITHIN).fetchall()
    for kind, space, name, part, address, owner, is_owner, role, privilege, is_grantable in rows:
        held = found.setdefault(Thing(kind, space, name, part), Held(owner, address))
        if privilege in PRIVILEGES:
            held.rights.add(Right(None if is_owner else role, is_owner, privilege, is_grantable))
    return found


def _statements(
    kind: str, wanted: Mapping[Thing, Held], *, found: Mapping[Thing, Held], owner: str
) -> Iterator[sql.Composed]:
    """Yield what makes the rights on things of a kind what they should be, a right each."""
    # A later PostgreSQL knows privileges that an earlier one does not: it neither denied them nor has them to give.
    known_there, known_here = (
        {one.privilege for thing, held in side.items() if thing.kind == kind for one in held.rights}
        for side in (wanted, found)
    )
    for thing in sorted((one for one in wanted if one.kind == kind), key=astuple):
        held = found.get(thing)
        if held is None and kind not in ONLY_WITH_RIGHTS:
            continue
        here = held or Held(owner)
        should, has = wanted[thing].rights, here.rights
        for one in sorted(has - should, key=_order):
            if one.privilege in known_there:
                yield _statement("REVOKE", thing, one, held=here)
        for one in sorted(should - has, key=_order):
            if not one.is_owner or (held is not None and one.privilege in known_here):
                yield _statement("GRANT", thing, one, held=here)


def _order(right: Right) -> tuple[str, str]:
    return right.role or "", right.privilege


def _statement(verb: Literal["GRANT", "REVOKE"], thing: Thing, right: Right, *, held: Held) -> sql.Composed:
    """Return one statement. Only what this module names is taken as it is; the rest are identifiers and a number."""
    names = {
        "space": sql.Identifier(thing.space),
        "name": sql.Identifier(thing.name),
        # How our own server calls what it has.
        "address": sql.SQL(held.address),
        "number": sql.Literal(int(thing.name) if thing.kind == "LARGE OBJECT" else 0),
    }
    role = held.owner if right.is_owner else right.role
    column = sql.SQL(" ({})").format(sql.Identifier(thing.part)) if thing.kind == "COLUMN" else sql.SQL("")
    is_default = thing.kind in DEFAULTS
    place = sql.SQL(MADE[MADE.index(thing.part)] if is_default else ON[thing.kind]).format(**names)
    return sql.SQL("{before}{verb} {privilege}{column} ON {place} {to} {role}{more}").format(
        before=sql.SQL(f"{DEFAULTS[thing.kind]} ").format(**names) if is_default else sql.SQL(""),
        verb=sql.SQL(verb),
        privilege=sql.SQL(right.privilege),
        column=column,
        place=place,
        to=sql.SQL("TO" if verb == "GRANT" else "FROM"),
        role=sql.Identifier(role) if role else sql.SQL("PUBLIC"),
        more=sql.SQL(" WITH GRANT OPTION" if verb == "GRANT" and right.is_grantable else ""),
    )


def _run(connection: psycopg.Connection[Any], left: list[str], statements: Iterable[sql.Composed]) -> None:
    for statement in statements:
        try:
            # Prepared, so that the server takes it as one statement or not at all.
            connection.execute(statement, prepare=True)
        except psycopg.OperationalError:
            raise
        except psycopg.errors.UndefinedObject:
            continue
        except psycopg.Error as error:
            left.append(f"{statement.as_string(connection)}. {_words_of(error)}")


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
