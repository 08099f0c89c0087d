"""Which tables and columns an Odoo database has: what is asked of it must bear any subset of modules.

Errors of the database become sentences without its words, which repeat values of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from changecontrol.errors import Permanent, Transient
from recovery.adapters.postgres.programs import connected

LOCK_TIMEOUT = "60s"
PASSING = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATE that asking again may help: connection, serialisation, resources, locks, shutdown."""
COLUMNS = """
    SELECT c.relname, a.attname, t.typname, a.attnotnull
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attgenerated = ''
       AND c.relname = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Column:
    type: str
    is_required: bool

    @property
    def is_text(self) -> bool:
        return self.type in ("varchar", "text", "bpchar")

    @property
    def is_flag(self) -> bool:
        return self.type == "bool"


@dataclass(frozen=True, slots=True)
class Schema:
    """The plain tables among those asked for, with their columns."""

    tables: Mapping[str, Mapping[str, Column]]

    def has(self, table: str, *columns: str) -> bool:
        return table in self.tables and all(column in self.tables[table] for column in columns)

    def columns(self, table: str) -> Mapping[str, Column]:
        return self.tables.get(table, {})


def read_schema(connection: psycopg.Connection[Any], tables: Collection[str]) -> Schema:
    found: dict[str, dict[str, Column]] = {}
    for table, column, type_name, is_required in connection.execute(COLUMNS, [sorted(tables)]):
        found.setdefault(table, {})[column] = Column(type_name, is_required)
    return Schema(found)


@contextmanager
def one_transaction(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect and do everything in one transaction. Raises `Transient` or `Permanent`, never with a row's values."""
    with connected(url) as connection:
        try:
            # A database or role may carry a search path of its own, and `public` functions called like PostgreSQL's.
            connection.execute("SET search_path = pg_catalog, public")
            connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            with connection.transaction():
                yield connection
        except psycopg.Error as error:
            raise _refusal(error) from None


def _refusal(error: psycopg.Error) -> Transient | Permanent:
    state = error.sqlstate or ("08000" if isinstance(error, psycopg.OperationalError) else "22000")
    place = " ".join(
        f"{word} {name}"
        for word, name in (
            ("table", error.diag.table_name),
            ("column", error.diag.column_name),
            ("constraint", error.diag.constraint_name),
        )
        if name
    )
    sentence = f"The Odoo database refused a statement ({state}{', ' + place if place else ''})."
    return Transient(sentence) if state[:2] in PASSING else Permanent(sentence)
