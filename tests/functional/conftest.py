"""A person's path through the pages, without a browser: the small estate, and everybody signed in beside each other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from changecontrol.models import User
from tests.factories import NOW, SmallEstate, small_estate, stranger_estate


@pytest.fixture(autouse=True)
def frozen_time() -> Any:
    """Hold the clock at Monday, 10:12 UTC."""
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture(autouse=True)
def static_files(settings: Any) -> None:
    """Serve static files from where they are: nothing is collected for tests."""
    settings.STATIC_ROOT = settings.BASE_DIR / "static"


@pytest.fixture
def estate(db: None) -> SmallEstate:
    return small_estate()


@pytest.fixture
def eve(estate: SmallEstate) -> User:
    return stranger_estate()[1]


@pytest.fixture
def signed_in() -> Callable[..., Client]:
    """Return a function that signs somebody in, who proved a moment ago who they are."""

    def sign_in(person: User, *, proved_at: datetime | None = None) -> Client:
        client = Client()
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
        session = client.session
        at = (proved_at or timezone.now()).timestamp()
        session["account_authentication_methods"] = [{"method": "password", "at": at, "username": person.username}]
        session.save()
        return client

    return sign_in
