"""Administration in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from changecontrol import access
from changecontrol.models import ApprovalPolicy, User
from changecontrol.rules.roles import Role
from tests.browser.conftest import Complaints, Visit
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories import add_person

pytestmark = pytest.mark.browser

PAGES = {
    "administration": "/administration/",
    "policy": "/administration/policies/{policy}/",
    "policy-new": "/administration/policies/new/",
    "people": "/administration/people/northwind/",
    "components": "/components/",
}


@pytest.fixture(scope="module")
def administrator(scene: Scene) -> User:
    person = add_person("administrator")
    access.grant_role(person, Role.TENANT_ADMINISTRATOR, scene.estate.tenant)
    return person


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(
    scene: Scene, administrator: User, visit: Visit, complaints: Complaints, name: str
) -> None:
    policy = ApprovalPolicy.objects.filter(is_active=True).order_by("pk").last()
    assert policy is not None
    page = visit(PAGES[name].format(policy=policy.pk), administrator)

    assert faults(page, name) == {}
    assert complaints == []


def test_a_first_password_is_shown_once(
    scene: Scene, administrator: User, visit: Visit, complaints: Complaints
) -> None:
    page = visit("/administration/people/northwind/", administrator)

    page.get_by_label("User name").fill("eve")
    page.get_by_label("Name", exact=True).fill("Eve")
    page.get_by_role("button", name="Add person").click()

    password = page.locator("#first-password").inner_text()
    expect(page.locator("[data-takes-focus]")).to_be_focused()
    page.goto("/administration/people/northwind/")
    expect(page.locator("body")).not_to_contain_text(password)
    assert User.objects.get(username="eve@northwind").check_password(password)
    assert complaints == []
