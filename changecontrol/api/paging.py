"""Keyset paging: the next page begins after the last row seen, so the last page costs what the first does."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination


class KeysetPagination(CursorPagination):
    """`?cursor=…&page_size=…`; newest first. There is no total: counting is not free, and ages."""

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
