"""Keyset paging: a page begins after the last row seen, so the last one costs what the first does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param
from rest_framework.views import APIView

PAGE_SIZE = 50
PAGE_SIZE_LIMIT = 200
CURSOR = "cursor"
SIZE = "page_size"
_CURSOR = re.compile(r"(after|before)-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page lies in the order of its list: behind one row, in front of one, or at the very end."""

    after: int | None = None
    before: int | None = None
    is_last: bool = False

    @property
    def is_backward(self) -> bool:
        return self.before is not None or self.is_last

    @classmethod
    def read(cls, request: Request) -> Cursor:
        text = request.query_params.get(CURSOR, "")
        if not text:
            return cls()
        if text == "last":
            return cls(is_last=True)
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValidationError({CURSOR: ["Use a cursor as “next” or “previous” gave it, or “last”."]})
        key = int(found[2])
        return cls(after=key) if found[1] == "after" else cls(before=key)


def size_of(request: Request) -> int:
    text = request.query_params.get(SIZE, str(PAGE_SIZE))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= PAGE_SIZE_LIMIT):
        raise ValidationError({SIZE: [f"A page has 1 to {PAGE_SIZE_LIMIT} rows."]})
    return int(text)


def page(request: Request, rows: Any, *, previous: int | None, following: int | None) -> dict[str, Any]:
    """Return a page's document. `previous` and `following` are the keys its neighbours begin beside, or None."""
    here = remove_query_param(request.build_absolute_uri(), CURSOR)
    return {
        "next": replace_query_param(here, CURSOR, f"after-{following}") if following is not None else None,
        "previous": replace_query_param(here, CURSOR, f"before-{previous}") if previous is not None else None,
        "results": rows,
    }


class KeysetPagination(BasePagination):
    """`?cursor=…&page_size=…`, by key: newest first, or oldest first where the view says so.

    There is no total: counting costs more than the page, and is out of date when it arrives.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        cursor, size = Cursor.read(request), size_of(request)
        is_ascending = getattr(view, "is_oldest_first", False) != cursor.is_backward
        key = cursor.before if cursor.is_backward else cursor.after
        if key is not None:
            queryset = queryset.filter(**{"pk__gt" if is_ascending else "pk__lt": key})
        found = list(queryset.order_by("pk" if is_ascending else "-pk")[: size + 1])
        has_more, found = len(found) > size, found[:size]
        if cursor.is_backward:
            found.reverse()
        self._request = request
        has_previous = has_more if cursor.is_backward else cursor.after is not None
        has_next = cursor.before is not None if cursor.is_backward else has_more
        self._previous = found[0].pk if found and has_previous else None
        self._next = found[-1].pk if found and has_next else None
        return found

    def get_paginated_response(self, data: Any) -> Response:
        return Response(page(self._request, data, previous=self._previous, following=self._next))

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            {
                "name": CURSOR,
                "in": "query",
                "required": False,
                "description": "Where the page begins, as `next` and `previous` give it, or `last`.",
                "schema": {"type": "string"},
            },
            {
                "name": SIZE,
                "in": "query",
                "required": False,
                "description": "Rows on a page.",
                "schema": {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_LIMIT, "default": PAGE_SIZE},
            },
        ]
