"""Home as whoever looks after recovery sees it: alarms and a drill that is late."""

from __future__ import annotations

from datetime import timedelta

import pytest

from changecontrol import clock
from changecontrol.models import User
from recovery.models import RaisedAlarm
from tests.browser.conftest import Complaints, Visit
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories.recovery import backup_policy, recovery_owner

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("django_db_setup")]

LOST = "No WAL has been archived for 4 minutes: what was written since 28 Nov 2026 16:24:02 UTC would be lost."


@pytest.fixture(scope="module")
def rio(scene: Scene) -> User:
    """Rio's production is backed up, its WAL is not, and nobody ever held a drill."""
    at = clock.now()
    backup_policy(scene.estate.production, at=at - timedelta(days=200))
    values = {"sentence": LOST, "since": at, "raised_at": at, "told_at": at}
    RaisedAlarm.objects.create(environment=scene.estate.production, kind="wal_failing", **values)
    return recovery_owner(scene.estate)


def test_alarms_of_recovery_read_well_in_every_theme_and_width(visit: Visit, rio: User, complaints: Complaints) -> None:
    page = visit("/", rio)

    assert page.get_by_role("heading", level=1).inner_text() == "2 alarms are open"
    assert page.get_by_text("Northwind production: drill overdue").is_visible()
    assert faults(page, "home-rio") == {}
    assert complaints == []
