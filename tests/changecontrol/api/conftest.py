"""Clients of the API: each is somebody, by a token of their own or by a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol import clock
from changecontrol.actions.tokens import create_token
from changecontrol.models import User
from tests.factories import SmallEstate, actor, small_estate

Caller = Callable[..., APIClient]


def secret_for(person: User, *, scopes: Iterable[str] = (), days: int = 30) -> str:
    at = clock.now()
    return create_token(
        actor=actor(person, at=at), name="tests", scopes=scopes, expires_at=at + timedelta(days=days), at=at
    ).secret


def client_for(person: User | None, *, scopes: Iterable[str] = (), warm: bool = False) -> APIClient:
    """Return a client that calls as somebody by a token; None is nobody. A warm one has just been used."""
    client = APIClient()
    if person is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret_for(person, scopes=scopes)}")
        if warm:
            person.api_tokens.update(last_used_at=clock.now())
    return client


def sentence(answer: Any) -> str:
    """Return the sentence of a problem document, having looked at its form."""
    assert answer["Content-Type"] == "application/problem+json", answer.content
    body = answer.json()
    assert set(body) - {"errors"} == {"type", "title", "status", "detail"}
    assert body["status"] == answer.status_code
    assert isinstance(body["detail"], str)
    assert body["detail"]
    found: str = body["detail"]
    return found


@pytest.fixture(autouse=True)
def without_static_files(settings: Any) -> None:
    """Spare every client the walk through all static files that the middleware begins with; no call here needs one."""
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if not one.startswith("whitenoise.")]


@pytest.fixture
def estate(db: None) -> SmallEstate:
    return small_estate()


def days_ahead(count: int) -> str:
    return (datetime.now(UTC) + timedelta(days=count)).isoformat()
