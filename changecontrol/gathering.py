"""Gathers rows of one kind, so that a transaction that settles many writes them by one statement and not one by one.

Nothing gathered outlives its transaction: it is written before `gathering` ends, or lost with everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import connection

Item = TypeVar("Item")


@dataclass
class _Gathered:
    depth: int
    kept: dict[Callable[[list[Any]], object], list[Any]] = field(default_factory=dict)


_open: ContextVar[_Gathered | None] = ContextVar("gathered", default=None)


@contextmanager
def gathering() -> Iterator[None]:
    """Hold back what `gather` is given until the end of the block (the outermost). Call it inside a transaction."""
    outer = _open.get()
    if outer is not None and len(connection.savepoint_ids) == outer.depth:
        yield
        return
    gathered = _Gathered(depth=len(connection.savepoint_ids))
    token = _open.set(gathered)
    try:
        yield
        for write, items in gathered.kept.items():
            write(items)
    finally:
        _open.reset(token)


def gather(write: Callable[[list[Item]], object], item: Item) -> bool:
    """Hand an item to `write`, at the end of the block with all others; return False where nothing is gathered."""
    gathered = _open.get()
    # Inside a savepoint it could be rolled back alone, and what is held back would not know.
    if gathered is None or len(connection.savepoint_ids) != gathered.depth:
        return False
    gathered.kept.setdefault(write, []).append(item)
    return True
