"""Reads rows of leased models by statements written out, since building them takes longer than answering them.

What comes back is what the model's manager would have returned: the same fields, converted the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection

from changecontrol.models.leased import Leased

Row = TypeVar("Row", bound=Leased)
Converter = tuple[int, Sequence[Callable[[Any, Any, Any], Any]], Any]


def columns_of(model: type[Leased]) -> str:
    """Return the columns from which `row_of` makes a row, to be selected or returned by a statement."""
    table = model._meta.db_table
    return ", ".join(f'"{table}"."{field.column}"' for field in model._meta.concrete_fields)


def row_of(model: type[Row], values: Sequence[Any]) -> Row:
    """Make a row from the values of its columns."""
    converted = list(values)
    for place, converters, expression in _converters(model):
        for convert in converters:
            converted[place] = convert(converted[place], expression, connection)
    return model.from_db(DEFAULT_DB_ALIAS, [field.attname for field in model._meta.concrete_fields], converted)


def lock_row(model: type[Row], pk: int) -> Row:
    """Lock one row against other writers, and read it. Log lines and other rows may still name it meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute(_locking(model), [pk])
        found = cursor.fetchone()
    if found is None:
        raise model.DoesNotExist(f"There is no {model._meta.verbose_name} {pk}.")
    return row_of(model, found)


@cache
def _locking(model: type[Leased]) -> str:
    table, key = model._meta.db_table, model._meta.pk.column
    return f'SELECT {columns_of(model)} FROM "{table}" WHERE "{key}" = %s FOR NO KEY UPDATE'  # noqa: S608


@cache
def _converters(model: type[Leased]) -> tuple[Converter, ...]:
    fields = model._meta.concrete_fields
    compiler = model._default_manager.all().query.get_compiler(DEFAULT_DB_ALIAS)
    found = compiler.get_converters([field.get_col(model._meta.db_table) for field in fields])
    return tuple((place, converters, expression) for place, (converters, expression) in found.items())
