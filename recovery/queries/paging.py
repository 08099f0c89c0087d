"""Long lists by key, newest first: no page numbers, no counting of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class KeyPage(Generic[M]):
    """One page; `newer` and `older` are the keys that the pages beside it go on from, None at the ends."""

    rows: list[M]
    newer: int | None
    older: int | None


def page_by_key(rows: QuerySet[M], *, before: int | None, after: int | None) -> KeyPage[M]:
    """Return the page before or after a key, or the newest one, in one statement."""
    if after is not None:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])
        has_newer, has_older = len(found) > PAGE_SIZE, True
        found = found[:PAGE_SIZE][::-1]
    else:
        rows = rows.filter(pk__lt=before) if before is not None else rows
        found = list(rows.order_by("-pk")[: PAGE_SIZE + 1])
        has_newer, has_older = before is not None, len(found) > PAGE_SIZE
        found = found[:PAGE_SIZE]
    return KeyPage(
        rows=found,
        newer=found[0].pk if found and has_newer else None,
        older=found[-1].pk if found and has_older else None,
    )
