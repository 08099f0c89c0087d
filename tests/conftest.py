"""Fixtures for every test. The scene itself is set by `tests.plugin`, which is loaded before Django.

`db` (a rolled-back transaction) is the usual way; `fresh_db` commits for real.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis

from changecontrol import clock
from tests.plugin import TestDatabase
from tests.scenes import retailer, stage, world

__all__ = ["retailer", "stage", "world"]


SLOW_PLACES = (
    "tests/browser/",
    "tests/changecontrol/api/test_grid.py",
    "tests/changecontrol/api/test_sweep.py",
    "tests/changecontrol/api/test_tenancy.py",
    "tests/changecontrol/local/",
    "tests/concurrency/",
    "tests/contracts/",
    "tests/deployments/practice/",
    "tests/deployments/workflows/",
)
"""Where tests start servers of their own or play whole rollouts: `make check` leaves them to `make test`."""


def pytest_configure() -> None:
    # The production hasher, but for its cost: half a second of CPU for each password set or tried.
    PBKDF2PasswordHasher.iterations = 1
    # How long an example takes is what else the machine does.
    hypothesis.register_profile(
        "patient", hypothesis.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    hypothesis.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW_PLACES):
            item.add_marker(pytest.mark.slow)
        if item.nodeid.startswith("tests/browser/"):
            item.add_marker(pytest.mark.browser)
        if item.get_closest_marker("odoo") and not os.environ.get("TEST_ODOO_COMMAND"):
            item.add_marker(pytest.mark.skip(reason="This needs an Odoo: make test-odoo sets one up."))


@pytest.fixture(autouse=True)
def clock_of_this_host() -> Iterator[None]:
    """Give the clock back as it was: a test may have told it how far the database's is ahead."""
    yield
    clock.set_offset(timedelta())


@pytest.fixture(scope="session")
def database() -> TestDatabase:
    return TestDatabase()


@pytest.fixture(scope="session")
def django_db_setup(database: TestDatabase, django_db_blocker: Any) -> Iterator[None]:
    """Replace pytest-django's: the schema is the owner's, and the application's role cannot make databases."""
    from django.db import connections

    database.create()
    os.environ["DATABASE_URL"] = database.url
    connections["default"].settings_dict["NAME"] = database.name
    yield
    connections.close_all()
    database.drop()


@pytest.fixture
def fresh_db(django_db_setup: None, database: TestDatabase, django_db_blocker: Any) -> Iterator[TestDatabase]:
    """Allow real commits, from any number of connections and processes; afterwards nothing of them is left."""
    from django.db import connections

    with django_db_blocker.unblock():
        if not database.is_empty():
            # Whatever a test before this one committed is that test's fault, and must not become this one's.
            connections.close_all()
            database.drop()
            database.create()
        yield database
        connections.close_all()
        database.drop()
        database.create()
