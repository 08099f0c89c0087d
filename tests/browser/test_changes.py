"""Every page a change lives on, in Chromium: accessible, inside the window, silent, in both themes."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Complaints, Visit, violations
from tests.browser.scene import Scene
from tests.browser.sweep import faults

pytestmark = pytest.mark.browser

PAGES = {
    "home-ben": ("ben", "/"),
    "home-ada": ("ada", "/"),
    "home-dee": ("dee", "/"),
    "changes": ("ada", "/changes/"),
    "changes-none": ("ada", "/changes/?q=nothing+like+it"),
    "change-waiting": ("ben", "/changes/{waiting}/"),
    "change-own": ("ada", "/changes/{waiting}/"),
    "change-strict": ("cy", "/changes/{strict}/"),
    "change-draft": ("ada", "/changes/{draft}/"),
    "change-assessing": ("ada", "/changes/{assessing}/"),
    "change-running": ("cy", "/changes/{running}/"),
    "change-closed": ("dee", "/changes/{closed}/"),
    "difference": ("ben", "/changes/{waiting}/difference/?against=1"),
    "new": ("ada", "/changes/new/"),
    "edit-what": ("ada", "/changes/{draft}/edit/?step=what"),
    "edit-where": ("ada", "/changes/{draft}/edit/?step=where"),
    "edit-commit": ("ada", "/changes/{draft}/edit/?step=commit"),
    "edit-how": ("ada", "/changes/{draft}/edit/?step=how"),
    "edit-risk": ("ada", "/changes/{draft}/edit/?step=risk"),
    "edit-all": ("ada", "/changes/{waiting}/edit/?step=all"),
    "approvals-cy": ("cy", "/approvals/"),
    "approvals-ben": ("ben", "/approvals/"),
    "inbox": ("ben", "/inbox/"),
    "account": ("ada", "/account/"),
    "guide": ("ada", "/try/"),
    "sign-in": ("", "/accounts/login/"),
    "second-factor": ("ada", "/accounts/second-factor/"),
    "password": ("ada", "/accounts/password/change/"),
    "missing": ("ada", "/changes/CHG-999999/"),
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(scene: Scene, visit: Visit, complaints: Complaints, name: str) -> None:
    who, path = PAGES[name]
    person = getattr(scene.estate, who) if who else None
    numbers = {key: getattr(scene, key) for key in ("waiting", "strict", "draft", "assessing", "running", "closed")}
    page = visit(path.format(**numbers), person)

    assert faults(page, name) == {}
    assert complaints == []


def test_vote_by_script_swaps_the_card_and_the_badge_in_place(
    scene: Scene, visit: Visit, complaints: Complaints
) -> None:
    page = visit(f"/changes/{scene.waiting}/", scene.estate.cy)

    page.get_by_role("button", name="Approve revision 2").click()

    expect(page.locator("#decision-part")).to_contain_text("You approved revision 2.")
    expect(page.locator("#approvals-part")).to_contain_text("1 of 1")
    assert violations(page) == []
    assert complaints == []
