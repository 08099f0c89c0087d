"""What an Odoo database says of itself: read alone, whatever modules it has, and however many attachments."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from recovery.adapters.odoo.schema import Schema, one_transaction, read_schema
from recovery.ports.odoo import OdooAttachment, OdooFacts, OdooModule

ROWS_AT_ONCE = 10_000
TABLES = ("ir_module_module", "ir_config_parameter", "ir_attachment", "sale_order", "pos_order")


def observe_odoo(url: str) -> OdooFacts | None:
    """Return what the database says of itself, or None where it is not an Odoo database."""
    with one_transaction(url) as connection:
        schema = read_schema(connection, TABLES)
        if not schema.has("ir_module_module", "name", "latest_version", "state"):
            return None
        modules = tuple(
            OdooModule(name=name, version=version or "", state=state or "uninstalled")
            for name, version, state in connection.execute(
                "SELECT name::text, latest_version::text, state::text FROM ir_module_module"
                " WHERE name IS NOT NULL ORDER BY name, id"
            )
        )
        base = next((module for module in modules if module.name == "base"), None)
        if base is None:
            return None
        return OdooFacts(
            version=base.version,
            modules=modules,
            newest_sale_order_at=_newest(connection, schema, "sale_order"),
            newest_pos_order_at=_newest(connection, schema, "pos_order"),
            uuid_sha256=_uuid_digest(connection, schema),
        )


def observe_attachments(url: str) -> Iterator[OdooAttachment]:
    """Yield every file that attachments name, each once, without ever holding more than some thousand of them.

    A file that two attachments describe differently comes twice. A database without attachments has none.
    """
    with one_transaction(url) as connection:
        if not read_schema(connection, TABLES).has("ir_attachment", "store_fname", "checksum", "file_size"):
            return
        with connection.cursor(name="attachments") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(
                "SELECT DISTINCT store_fname, coalesce(checksum, ''), coalesce(file_size, 0)::bigint"
                "  FROM ir_attachment WHERE store_fname <> ''"
            )
            for name, sha1, size in cursor:
                yield OdooAttachment(name=name, sha1=sha1, size=size)


def _newest(connection: psycopg.Connection[Any], schema: Schema, table: LiteralString) -> datetime | None:
    if not schema.has(table, "id", "create_date") or schema.columns(table)["create_date"].type != "timestamp":
        return None
    # By the primary key, which rows are given in turn: the times have no index in tables of millions.
    statement = sql.SQL("SELECT create_date FROM {} WHERE create_date < '9999-01-01' ORDER BY id DESC LIMIT 1")
    row = connection.execute(statement.format(sql.Identifier(table))).fetchone()
    # Odoo writes UTC without saying so.
    return row[0].replace(tzinfo=UTC) if row is not None else None


def _uuid_digest(connection: psycopg.Connection[Any], schema: Schema) -> str:
    if not schema.has("ir_config_parameter", "key", "value"):
        return ""
    row = connection.execute("SELECT value FROM ir_config_parameter WHERE key = 'database.uuid'").fetchone()
    return hashlib.sha256(row[0].encode()).hexdigest() if row is not None and row[0] else ""
