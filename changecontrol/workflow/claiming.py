"""The statement that claims rows: those due and free, locked and leased in one round trip.

Kept for each kind of workflow, since building it takes longer than the database takes to answer.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from django.db.models import Q, QuerySet

from changecontrol.workflow.rows import columns_of

_AT = datetime(1, 1, 1, tzinfo=UTC)
_statements: dict[type[Any], tuple[str, tuple[Any, ...]]] = {}


@dataclass(frozen=True, slots=True)
class Together:
    """Rows that one tick may take: those that share a column with the row due longest, and so many of them."""

    column: str
    at_most: int


class Claiming(Protocol):
    """What of a workflow its claim asks; `together` and `crowded` may be missing."""

    model: type[Any]

    def due(self) -> Q: ...


def free(at: datetime) -> Q:
    """Return the condition under which nobody holds a row."""
    return Q(lease_until__isnull=True) | Q(lease_until__lte=at)


def statement(workflow: Claiming, *, token: uuid.UUID, at: datetime, until: datetime) -> tuple[str, list[Any]]:
    """Return the SQL that claims, and its parameters: it returns the columns of each row, and whether it takes over."""
    kind = type(workflow)
    if kind not in _statements:
        _statements[kind] = _statement(workflow)
    sql, params = _statements[kind]
    # `_AT` stands for the time in what is kept.
    return sql, [*(at if param == _AT else param for param in params), token, until]


def _statement(workflow: Claiming) -> tuple[str, tuple[Any, ...]]:
    model = workflow.model
    table, key = f'"{model._meta.db_table}"', f'"{model._meta.pk.column}"'
    found, params = _first_due(workflow)
    due = "SELECT key, previous FROM first"
    if together := getattr(workflow, "together", None):
        others, more = _due_with_it(workflow, together)
        found, params = f"{found}, {others}", (*params, *more)
        due += " UNION ALL SELECT key, previous FROM others"
    claiming = (
        f"WITH {found}, due AS ({due}) UPDATE {table} SET lease_token = %s, lease_until = %s, "  # noqa: S608
        "attempts = attempts + (CASE WHEN due.previous IS NULL THEN 0 ELSE 1 END) "
        f"FROM due WHERE {table}.{key} = due.key RETURNING {columns_of(model)}, due.previous IS NOT NULL"
    )
    return claiming, params


def _first_due(workflow: Claiming) -> tuple[str, tuple[Any, ...]]:
    rows = _due_and_free(workflow)
    if crowded := getattr(workflow, "crowded", None):
        rows = rows.exclude(crowded(_AT))
    # Rows due at one moment come in any order: to put a whole wave in order for each claim costs more than it.
    return _locked_as("first", rows.order_by("next_due_at")[:1])


def _due_with_it(workflow: Claiming, together: Together) -> tuple[str, tuple[Any, ...]]:
    table, key = f'"{workflow.model._meta.db_table}"', f'"{workflow.model._meta.pk.column}"'
    rows = _due_and_free(workflow).filter(attempts=0, lease_token__isnull=True)
    first = f'SELECT one."{together.column}" FROM first JOIN {table} one ON one.{key} = first.key'  # noqa: S608
    like = f'{table}."{together.column}" = ({first} WHERE one.attempts = 0 AND one.lease_token IS NULL)'
    other = f"{table}.{key} <> (SELECT key FROM first)"  # noqa: S608
    rows = rows.extra(where=[like, other])  # noqa: S610  names of ours alone
    return _locked_as("others", rows.order_by("next_due_at")[: together.at_most - 1])


def _due_and_free(workflow: Claiming) -> QuerySet[Any]:
    rows: QuerySet[Any] = workflow.model._default_manager.filter(workflow.due(), free(_AT), next_due_at__lte=_AT)
    return rows


def _locked_as(name: str, rows: QuerySet[Any]) -> tuple[str, tuple[Any, ...]]:
    """Return rows as a part of a statement that locks them.

    Written out, since Django locks only inside a transaction, which would cost two more round trips. Only the rows
    themselves are locked, and not their keys: whoever holds their root, or adds a log line to one, does not hide it.
    """
    sql, params = rows.values_list("pk", "lease_token").query.sql_with_params()
    table = rows.model._meta.db_table
    return f'{name} (key, previous) AS ({sql} FOR NO KEY UPDATE OF "{table}" SKIP LOCKED)', tuple(params)
