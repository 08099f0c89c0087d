"""The calendar, windows and freezes in Chromium."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.sync_api import expect

from changecontrol import access
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Freeze, Window
from changecontrol.rules.roles import Role
from tests.browser.conftest import Complaints, Visit
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories import advance_to

pytestmark = pytest.mark.browser

PAGES = {
    "calendar": "/calendar/",
    "calendar-later": "/calendar/?from=2027-02-01",
    "window": "/windows/{window}/",
    "window-edit": "/windows/{window}/edit/",
    "window-new": "/windows/new/",
    "freeze-new": "/freezes/new/",
}


@pytest.fixture(scope="module")
def planned(scene: Scene) -> Scene:
    """Plan two changes for one night, a blackout behind them, and let Ben write windows and freezes."""
    for role in (Role.TENANT_ADMINISTRATOR, Role.FREEZE_OWNER):
        access.grant_role(scene.estate.ben, role, scene.estate.tenant)
    for number, title in enumerate(("Provision store Braga 2", "PostgreSQL 17.10 to 17.11")):
        change = advance_to(scene.estate, ChangeState.SCHEDULED, at=scene.at, title=title)
        start = (scene.at + timedelta(days=1 + number)).replace(hour=2, minute=12, second=0, microsecond=0)
        end = start + timedelta(minutes=90)
        ChangeRequest.objects.filter(pk=change.pk).update(planned_start_at=start, planned_end_at=end)
    Window.objects.create(
        tenant=scene.estate.tenant,
        name="Stock count",
        effect="deny",
        cohort=scene.estate.rest,
        zone="Europe/Berlin",
        starts_local=(scene.at + timedelta(days=11)).replace(hour=18, minute=0, second=0, microsecond=0),
        duration_seconds=18 * 3600,
        created_at=scene.at,
    )
    Freeze.objects.create(
        tenant=scene.estate.tenant,
        name="Warehouse move",
        reason="Scanners are off",
        starts_at=scene.at + timedelta(days=9),
        ends_at=scene.at + timedelta(days=10),
        opened_by=scene.estate.ben,
    )
    return scene


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(planned: Scene, visit: Visit, complaints: Complaints, name: str) -> None:
    window = Window.objects.get(name="Northwind night")
    page = visit(PAGES[name].format(window=window.pk), planned.estate.ben)

    assert faults(page, name) == {}
    assert complaints == []


def test_a_freeze_is_lifted_with_a_reason_in_a_dialog(planned: Scene, visit: Visit, complaints: Complaints) -> None:
    page = visit("/calendar/", planned.estate.ben)

    page.get_by_role("button", name="Lift it early").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("dialog").get_by_role("textbox").fill("Stock arrived early.")
    page.get_by_role("button", name="Lift the freeze").click()

    expect(page.locator("#messages")).to_contain_text("“Warehouse move” is lifted.")
    assert complaints == []
