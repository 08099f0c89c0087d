"""How many statements a page costs."""

from __future__ import annotations

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def statements(client: Client, path: str, **headers: str) -> int:
    """Return how many statements a page that opens asks for, once sessions and the like are warm."""
    client.get(path, headers=headers)
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.status_code
    return len(seen)
