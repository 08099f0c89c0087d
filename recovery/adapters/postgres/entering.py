"""How a restored server is entered: whatever its databases and roles set for themselves changes nothing of what we ask.

Settings are reset in the copy alone, which nobody keeps. Those that say how the shop reads its own data, such as a
search path or the shop's own parameters, stay.
"""

from __future__ import annotations

from psycopg import sql

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
