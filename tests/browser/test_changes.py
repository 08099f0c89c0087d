"""Every page a change lives on, in Chromium: accessible, inside the window, silent, in both themes."""

from __future__ import annotations

import pytest
from django.db import transaction
from playwright.sync_api import expect

from changecontrol import access, audit, clock
from changecontrol.events import Tag
from changecontrol.models import ChangeRequest
from tests.browser.conftest import Complaints, Visit, overflow, violations
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
    "second-factor-new": ("ada", "/accounts/second-factor/totp/activate/"),
    "confirm": ("ada", "/accounts/reauthenticate/"),
    "sign-out": ("ada", "/accounts/logout/"),
    "run-to-come": ("ada", "/changes/{draft}/run/"),
    "missing": ("ada", "/changes/CHG-999999/"),
    "refused": ("dee", "/changes/new/"),
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


@pytest.mark.parametrize("width", [1440, 1280, 1024])
def test_window_fit_and_gates_stay_inside_their_panels(scene: Scene, visit: Visit, width: int) -> None:
    page = visit(f"/changes/{scene.waiting}/", scene.estate.ben, width=width)

    for part in ("#gates", "#fit"):
        scroll = page.locator(f"{part} .cc-scroll")
        assert scroll.evaluate("(one) => one.scrollWidth <= one.clientWidth"), part
    first = page.locator("#gates tbody th").first
    assert first.evaluate("(one) => one.offsetWidth / one.closest('table').offsetWidth") > 0.3


def test_a_long_word_of_the_timeline_breaks_on_a_phone(scene: Scene, visit: Visit) -> None:
    change = ChangeRequest.objects.get(pk=int(scene.running.removeprefix("CHG-")))
    with transaction.atomic():
        data = {"sentence": "registry.example/odoo@sha256:" + "8" * 64}
        audit.record(
            Tag.RUN_NEEDS_ATTENTION, subject=change, actor=access.system_actor("test"), at=clock.now(), data=data
        )

    page = visit(f"/changes/{scene.running}/", scene.estate.cy, width=360)

    expect(page.locator("#timeline")).to_contain_text(data["sentence"])
    assert overflow(page) == 0
