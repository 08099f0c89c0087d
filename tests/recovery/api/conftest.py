"""Northwind's production with a policy and points, and whoever calls for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol import clock
from changecontrol.models import User
from recovery.models import BackupPolicy, RecoveryPoint
from tests.changecontrol.api.conftest import client_for
from tests.factories import SmallEstate, small_estate
from tests.factories.recovery import backup_policy, recorded_point, recovery_owner, ship_wal

AT = "/api/v1/recovery"
PLACE = {"tenant": "northwind", "environment": "production"}
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Scene:
    """Two points of production, two days and a day old, the older one with WAL of an hour. Keeps the last alone.

    Times are the real ones: calls of the API read the clock.
    """

    estate: SmallEstate
    rio: User
    policy: BackupPolicy
    older: RecoveryPoint
    newer: RecoveryPoint

    @property
    def place_id(self) -> int:
        return self.estate.production.pk

    def environment(self, part: str) -> str:
        return f"{AT}/environments/{self.place_id}/{part}/"


@pytest.fixture(autouse=True)
def without_static_files(settings: Any) -> None:
    """Spare every client the walk through all static files that the middleware begins with; no call here needs one."""
    settings.MIDDLEWARE = [one for one in settings.MIDDLEWARE if not one.startswith("whitenoise.")]


@pytest.fixture
def scene(db: None) -> Scene:
    estate = small_estate()
    rio = recovery_owner(estate)
    now = clock.now().replace(microsecond=0)
    policy = backup_policy(estate.production, at=now - 100 * DAY, keep_last=1, store_credential="env:STORE")
    older = recorded_point(estate.production, "older", now - 2 * DAY, by=rio)
    ship_wal(estate.production, older.consistent_at, older.consistent_at + timedelta(hours=1))
    newer = recorded_point(estate.production, "newer", now - DAY, by=rio)
    return Scene(estate, rio, policy, older, newer)


@pytest.fixture
def rio(scene: Scene) -> APIClient:
    return client_for(scene.rio)


@pytest.fixture
def root(scene: Scene) -> APIClient:
    """A platform administrator, who says where data and secrets are read from and sent to."""
    return client_for(User.objects.create_superuser("root", "root@retailer.example"))
