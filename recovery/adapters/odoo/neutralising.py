"""Make a restored copy of an Odoo database harmless before anybody starts it, and judge whether it is.

Odoo's own command does its part where one is configured; our SQL then does the rest, or all of it. What the database
says goes nowhere: sentences name tables and count rows.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from changecontrol.errors import Permanent
from recovery.adapters.odoo.commands import neutralise_by_command
from recovery.adapters.odoo.databases import observe_odoo
from recovery.adapters.odoo.measures import (
    BANNERS,
    CREDENTIALS,
    DUMMY_HOST,
    DUMMY_SERVER,
    FLAG_TABLES,
    KEPT_CRON,
    KEPT_CRON_COLUMNS,
    MEASURES,
    PRODUCTION_FLAG,
    PROVIDER_TABLES,
    TABLES,
    TEST_FLAG,
)
from recovery.adapters.odoo.schema import Schema, one_transaction, read_schema
from recovery.ports.odoo import NeutralisationFinding, NeutralisedBy

MARKER = "changecontrol.neutralised_for"
"""The parameter that names the run a copy was neutralised for, and how: its identity is changed once for each."""
NO_ROWS: LiteralString = "SELECT NULL::int WHERE false"


def ensure_neutralised(url: str, *, run_id: str, folder: Path) -> NeutralisedBy:
    """Neutralise a copy that was never started; done again for the same run it changes nothing.

    `folder` is where Odoo's command may keep its configuration for a moment. Raises `Permanent` where this is no Odoo
    database, or the command or the database refuses: then the copy is not to be started.
    """
    facts = observe_odoo(url)
    if facts is None:
        raise Permanent("This is not an Odoo database: there is nothing to neutralise.")
    by = _marked_by(url, run_id=run_id)
    if by is None:
        is_done = neutralise_by_command(url, version=facts.version, run_id=run_id, folder=folder)
        by = NeutralisedBy.ODOO if is_done else NeutralisedBy.SQL
    with one_transaction(url) as connection:
        schema = read_schema(connection, TABLES)
        _change_rows(connection, schema)
        _ensure_dummy_server(connection, schema)
        _ensure_parameters(connection, schema, mark=f"{run_id} {by}")
        if schema.has("ir_ui_view", "key", "active"):
            connection.execute(
                "UPDATE ir_ui_view SET active = true WHERE key = ANY(%s) AND active IS DISTINCT FROM true",
                [list(BANNERS)],
            )
    return by


def observe_neutralised(url: str, *, source_uuid_sha256: str = "") -> tuple[NeutralisationFinding, ...]:
    """Return what in a copy could still reach the world outside, however it was neutralised; nothing is changed.

    With the digest of the source's `database.uuid` (`OdooFacts`) a copy that kept it is named, too.
    """
    with one_transaction(url) as connection:
        schema = read_schema(connection, TABLES)
        findings = [
            *_remaining_rows(connection, schema),
            *_mail_without_dummy(connection, schema),
            *_flag_of_database(connection, schema),
        ]
    facts = observe_odoo(url)
    if facts is not None and source_uuid_sha256 and facts.uuid_sha256 == source_uuid_sha256:
        findings.append(
            NeutralisationFinding("ir_config_parameter", "The copy has the same database.uuid as its source.")
        )
    return tuple(sorted(set(findings)))


# What remains, and what is changed: the same rows.


def _conditions(
    connection: psycopg.Connection[Any], schema: Schema
) -> Iterator[tuple[str, sql.Composable, sql.Composable | None, str]]:
    """Yield table, condition of the rows that could still act, what sets them right (None deletes them), and words."""
    for one in MEASURES:
        if schema.has(one.table, *one.columns):
            yield one.table, sql.SQL(one.remains), None if one.change is None else sql.SQL(one.change), one.words
    if schema.has("ir_cron", "id", "active"):
        is_known = all(schema.has(table, *columns) for table, columns in KEPT_CRON_COLUMNS.items())
        kept = sql.SQL(KEPT_CRON if is_known else NO_ROWS)
        remains = sql.SQL("active AND id NOT IN ({})").format(kept)
        yield "ir_cron", remains, sql.SQL("active = false"), "scheduled jobs are active"
    for table in FLAG_TABLES:
        for name, column in schema.columns(table).items():
            if column.is_flag and (wanted := _wanted_flag(name)) is not None:
                remains = sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier(name), sql.Literal(wanted))
                change = sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(wanted))
                yield table, remains, change, "rows are set to a service in production"
    for table in CREDENTIALS:
        yield from _credentials(connection, schema, table)


def _wanted_flag(column: str) -> bool | None:
    if re.search(PRODUCTION_FLAG, column):
        return False
    return True if re.search(TEST_FLAG, column) else None


def _credentials(
    connection: psycopg.Connection[Any], schema: Schema, table: str
) -> Iterator[tuple[str, sql.Composable, sql.Composable | None, str]]:
    prefixes = _provider_prefixes(connection, schema, table)
    for name, column in schema.columns(table).items():
        if not (re.search(CREDENTIALS[table], name, re.IGNORECASE) or name.startswith(prefixes)):
            continue
        if column.type == "bytea":
            filled, empty = sql.SQL("octet_length({}) > 0"), sql.SQL("''::bytea")
        elif column.is_text:
            # Odoo's own command leaves words such as `dummy_value` where a value is required.
            filled, empty = sql.SQL("{0} <> '' AND {0} NOT ILIKE 'dummy%'"), sql.SQL("''")
        else:
            continue
        change = sql.SQL("{} = {}").format(sql.Identifier(name), empty if column.is_required else sql.SQL("NULL"))
        yield table, filled.format(sql.Identifier(name)), change, "rows hold a key or a password"


def _provider_prefixes(connection: psycopg.Connection[Any], schema: Schema, table: str) -> tuple[str, ...]:
    """Return how the columns of each provider begin, such as `stripe_`: all of them are what lets us in there."""
    column: LiteralString = "code" if table == "payment_provider" else "provider"
    if table not in PROVIDER_TABLES or not schema.has(table, column):
        return ()
    rows = connection.execute(
        sql.SQL("SELECT DISTINCT {} FROM {}").format(sql.Identifier(column), sql.Identifier(table))
    )
    return tuple(f"{code}_" for (code,) in rows if code and code not in ("none", "custom"))


def _change_rows(connection: psycopg.Connection[Any], schema: Schema) -> None:
    for table, remains, change, _ in _conditions(connection, schema):
        if change is None:
            statement = sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), remains)
        else:
            statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(sql.Identifier(table), change, remains)
        connection.execute(statement)


def _remaining_rows(connection: psycopg.Connection[Any], schema: Schema) -> Iterator[NeutralisationFinding]:
    for table, remains, _, words in _conditions(connection, schema):
        count = _count(connection, sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(table), remains))
        if count:
            yield NeutralisationFinding(table, f"{table}: {words} ({count}).")


# Mail, and the database's own parameters.


def _ensure_dummy_server(connection: psycopg.Connection[Any], schema: Schema) -> None:
    """Leave exactly one server that goes nowhere: Odoo's command adds another each time it is run."""
    columns = schema.columns("ir_mail_server")
    if not schema.has("ir_mail_server", "id", "name", "smtp_host", "active"):
        return
    connection.execute(
        "DELETE FROM ir_mail_server WHERE name = %(name)s AND smtp_host = %(host)s AND id >"
        " (SELECT min(id) FROM ir_mail_server WHERE name = %(name)s AND smtp_host = %(host)s AND active)",
        {"name": DUMMY_SERVER, "host": DUMMY_HOST},
    )
    values = {
        "name": DUMMY_SERVER,
        "smtp_host": DUMMY_HOST,
        "active": True,
        "smtp_port": 1025,
        "smtp_encryption": "none",
        "smtp_authentication": "login",
    }
    present = [name for name in values if name in columns]
    connection.execute(
        sql.SQL(
            "INSERT INTO ir_mail_server ({}) SELECT {} WHERE NOT EXISTS"
            " (SELECT FROM ir_mail_server WHERE active AND smtp_host = {})"
        ).format(
            sql.SQL(", ").join(map(sql.Identifier, present)),
            sql.SQL(", ").join(sql.Literal(values[name]) for name in present),
            sql.Literal(DUMMY_HOST),
        )
    )


def _mail_without_dummy(connection: psycopg.Connection[Any], schema: Schema) -> Iterator[NeutralisationFinding]:
    if not schema.has("ir_mail_server", "smtp_host", "active"):
        return
    if not _count(connection, sql.SQL("SELECT count(*) FROM ir_mail_server WHERE active AND smtp_host = 'invalid'")):
        yield NeutralisationFinding(
            "ir_mail_server",
            "ir_mail_server: no server that goes nowhere is active, so mail takes the one of Odoo's configuration.",
        )


def _ensure_parameters(connection: psycopg.Connection[Any], schema: Schema, *, mark: str) -> None:
    """Flag the database, and give it an identity of its own: what is signed in a copy must not count at its source."""
    if not schema.has("ir_config_parameter", "key", "value"):
        return
    _set_parameter(connection, "database.is_neutralized", "true")
    if _parameter(connection, MARKER) == mark:
        return
    _set_parameter(connection, "database.uuid", str(uuid.uuid4()))
    _set_parameter(connection, "database.secret", str(uuid.uuid4()))
    _set_parameter(connection, MARKER, mark)


def _flag_of_database(connection: psycopg.Connection[Any], schema: Schema) -> Iterator[NeutralisationFinding]:
    has_parameters = schema.has("ir_config_parameter", "key", "value")
    if not has_parameters or (_parameter(connection, "database.is_neutralized") or "").lower() != "true":
        yield NeutralisationFinding("ir_config_parameter", "The database does not say that it is neutralised.")


def _marked_by(url: str, *, run_id: str) -> NeutralisedBy | None:
    """Return what this run neutralised the copy by, or None where it has not."""
    with one_transaction(url) as connection:
        if not read_schema(connection, TABLES).has("ir_config_parameter", "key", "value"):
            return None
        mark = _parameter(connection, MARKER)
    return next((by for by in NeutralisedBy if mark == f"{run_id} {by}"), None)


def _parameter(connection: psycopg.Connection[Any], key: str) -> str | None:
    row = connection.execute("SELECT value FROM ir_config_parameter WHERE key = %s", [key]).fetchone()
    return None if row is None else str(row[0])


def _set_parameter(connection: psycopg.Connection[Any], key: str, value: str) -> None:
    found = _parameter(connection, key)
    if found is None:
        connection.execute("INSERT INTO ir_config_parameter (key, value) VALUES (%s, %s)", [key, value])
    elif found != value:
        connection.execute("UPDATE ir_config_parameter SET value = %s WHERE key = %s", [value, key])


def _count(connection: psycopg.Connection[Any], statement: sql.SQL | sql.Composed) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row is not None else 0
