"""How a restored server is entered: by a role that could do no harm, whatever its databases hold and set.

Whoever owned something in a database left code in it: triggers, rules, views, functions of an index. What it is run by
decides what it may do, and a superuser runs programs of this host. A superuser asks nothing but the catalogue.
Settings are reset in the copy alone, which nobody keeps. Those that say how the shop reads its own data, such as a
search path or the shop's own parameters, stay.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from recovery.adapters.postgres.programs import connected, undisturbed

DISTURBING = (
    "bytea_output",
    "check_function_bodies",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_tablespace",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "local_preload_libraries",
    "lock_timeout",
    "role",
    "row_security",
    "session_preload_libraries",
    "session_replication_role",
    "standard_conforming_strings",
    "statement_timeout",
    "temp_file_limit",
    "temp_tablespaces",
    "timezone",
    "transaction_timeout",
    "xmlbinary",
    "xmloption",
)
"""Settings of a database or a role that keep us out, end what we ask, or bend the answer."""
SETTINGS = """
SELECT datname, rolname, split_part(one, '=', 1)
FROM pg_db_role_setting LEFT JOIN pg_database ON pg_database.oid = setdatabase
LEFT JOIN pg_roles ON pg_roles.oid = setrole, unnest(setconfig) AS one
WHERE lower(split_part(one, '=', 1)) = ANY(%s)
"""
LIMITED = "SELECT datname FROM pg_database WHERE datconnlimit >= 0"
OPEN = "SELECT datname FROM pg_database WHERE datallowconn"
EVERY_ROW = ("pg_read_all_data", "pg_write_all_data")
OWNERS = """
SELECT rolname FROM pg_roles AS owner
WHERE oid IN (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND deptype = 'o')
AND rolname !~ '^pg_' AND NOT EXISTS (
    SELECT FROM pg_roles AS mighty
    WHERE pg_has_role(owner.oid, mighty.oid, 'MEMBER') AND (
        rolsuper OR rolcreaterole OR rolreplication
        OR rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
    )
)
"""
"""Who owns anything, but for those that are, or can become, somebody who reaches beyond the rows."""
OF_MIGHTY = """
SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, nspname, relname
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'public' AND relkind IN ('r', 'p', 'v', 'S') AND NOT pg_has_role(%s, relowner, 'MEMBER')
AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
    AND (deptype = 'e' OR (relkind = 'S' AND deptype IN ('a', 'i')))
)
"""
"""What is of no owner that the role is a member of, and no extension made; a column's sequence goes with its table."""


def ensure_undisturbed(url: str) -> None:
    """Reset on a restored server what databases and roles set that would disturb us. `url` is its superuser's."""
    with connected(undisturbed(url)) as connection:
        for database, role, setting in connection.execute(SETTINGS, [list(DISTURBING)]).fetchall():
            whose = _whose(database, role)
            connection.execute(sql.SQL("ALTER {} RESET {}").format(whose, sql.Identifier(setting)))
        for (database,) in connection.execute(LIMITED).fetchall():
            connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(sql.Identifier(database)))


def _whose(database: str | None, role: str | None) -> sql.Composable:
    if role is None and database is not None:
        return sql.SQL("DATABASE {}").format(sql.Identifier(database))
    named = sql.SQL("ROLE {}").format(sql.Identifier(role) if role is not None else sql.SQL("ALL"))
    if database is None:
        return named
    return sql.SQL("{} IN DATABASE {}").format(named, sql.Identifier(database))


def ensure_role(url: str) -> str:
    """Make a role on a restored server that is no superuser, and return the address as which it enters.

    It may read and write every row, whatever the security of rows says, and what the owners of the shop's tables may;
    a superuser's tables are not its own. Nobody can guess its name, so nobody granted anything to it before.
    """
    name, password = f"changecontrol_{secrets.token_hex(8)}", secrets.token_urlsafe(24)
    with connected(undisturbed(url)) as connection:
        owners = [str(owner) for (owner,) in connection.execute(OWNERS).fetchall()]
        # Only its hash is in the statement: a server may log what makes roles.
        hidden = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        statement = sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {} IN ROLE {}")
        members = _names([*EVERY_ROW, *owners])
        connection.execute(statement.format(sql.Identifier(name), sql.Literal(hidden), members))
        databases = [str(database) for (database,) in connection.execute(OPEN).fetchall()]
        grant = sql.SQL("GRANT ALL ON DATABASE {} TO {}")
        connection.execute(grant.format(_names(databases), sql.Identifier(name)))
    # The options of a superuser are not for anybody else to set.
    words = {key: str(value) for key, value in conninfo_to_dict(url).items() if key != "options"}
    return make_conninfo("", **{**words, "user": name, "password": password})


def ensure_owns(url: str, *, role: str) -> None:
    """Give a role what it may not own through others of a shop's tables in a database. `url` is the superuser's.

    Odoo alters its tables as it works, and where its own role is a superuser, or may make roles, nobody else may.
    """
    with connected(undisturbed(url)) as connection:
        if connection.execute("SELECT FROM pg_namespace WHERE nspname = 'public'").rowcount:
            connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(sql.Identifier(role)))
        for kind, schema, name in connection.execute(OF_MIGHTY, [role]).fetchall():
            statement = sql.SQL("ALTER {} {} OWNER TO {}")
            connection.execute(statement.format(sql.SQL(kind), sql.Identifier(schema, name), sql.Identifier(role)))


def _names(names: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, names))
