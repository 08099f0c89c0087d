"""The estate in Chromium."""

from __future__ import annotations

import pytest

from changecontrol import access, clock
from changecontrol.models import User
from changecontrol.rules.roles import Role
from tests.browser.conftest import Complaints, Visit
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories import add_person
from tests.factories.rollout import live_run

pytestmark = pytest.mark.browser

PAGES = {
    "estate": "/estate/",
    "estate-stores": "/estate/stores/",
    "environment": "/environments/northwind/production/",
    "estate-new-environment": "/estate/environment/new/",
    "estate-edit-cohort": "/estate/cohort/{cohort}/edit/",
}


@pytest.fixture(scope="module")
def administrator(scene: Scene) -> User:
    person = add_person("administrator")
    access.grant_role(person, Role.TENANT_ADMINISTRATOR, scene.estate.tenant)
    live_run(scene.estate, at=clock.now())
    return person


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(
    scene: Scene, administrator: User, visit: Visit, complaints: Complaints, name: str
) -> None:
    page = visit(PAGES[name].format(cohort=scene.estate.pilot.pk), administrator)

    assert faults(page, name) == {}
    assert complaints == []
