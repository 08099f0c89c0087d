"""By keyboard alone, without JavaScript, and with a second factor: the ways in and to a vote that have to stay open."""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from base64 import b32decode
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from changecontrol.models import Run, Vote
from deployments.demo.manifests import GOOD
from tests.browser.conftest import Complaints, Visit, violations
from tests.scenes import World, submitted

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STAGING = [{"name": "Staging", "environments": ["nw-staging"], "bake_seconds": 0}]
STEP_SECONDS = 30
"""How long a code of an authenticator app holds."""


@pytest.fixture
def origin(stage: World) -> str:
    """Serve the whole slice in place of the painted scene."""
    return stage.origin


@pytest.fixture
def waiting(stage: World) -> str:
    """Return the number of a change that waits for Cy's vote, and for nobody else's."""
    return submitted(stage, stage.caller("ada"), GOOD.summary, waves=STAGING)


def press_tab_to(page: Page, wanted: str, *, presses: int = 120) -> None:
    """Press Tab until the focus is on it. Wherever the focus passes it can be seen, and is inside the window."""
    # A person reads before pressing Tab, and what is fetched after the page may still move what follows it.
    page.wait_for_load_state("networkidle")
    for _ in range(presses):
        page.keyboard.press("Tab")
        if _focus_once_it_is_seen(page, wanted)["is_wanted"]:
            return
    raise AssertionError(f"{wanted} is not reached by Tab")


def _focus_once_it_is_seen(page: Page, wanted: str) -> dict[str, Any]:
    """Return where the focus is, once the page has scrolled to it."""
    ends_at = time.monotonic() + 3
    while not (focus := page.evaluate(FOCUS, wanted))["is_visible"]:
        assert time.monotonic() < ends_at, f"The focus cannot be seen: {focus}"
        page.wait_for_timeout(50)
    return dict(focus)


FOCUS = """(wanted) => {
  const one = document.activeElement;
  if (!one || one === document.body) return {is_visible: true, is_wanted: false, markup: ''};
  const style = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  const isInside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const isMarked = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
  return {
    is_visible: one.matches(':focus-visible') && isMarked && isInside && box.width > 0,
    is_wanted: one.matches(wanted),
    isInside, isMarked, box: JSON.stringify(box), markup: one.outerHTML.slice(0, 200),
  };
}"""


def test_vote_is_reached_and_cast_by_keyboard_alone(
    stage: World,
    waiting: str,
    visit: Visit,
    complaints: Complaints,
) -> None:
    page = visit("/accounts/login/")
    keys = page.keyboard

    press_tab_to(page, "input[name=login]")
    keys.type("cy")
    press_tab_to(page, "input[name=password]")
    keys.type(stage.password)
    press_tab_to(page, "main button")
    keys.press("Space")
    expect(page).to_have_title("Home · ChangeControl")
    press_tab_to(page, "nav a[href='/approvals/']")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Approvals")
    press_tab_to(page, f"main a[href^='/changes/{waiting}/']")
    keys.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(GOOD.summary)
    press_tab_to(page, "#decision button[value=approve]")
    keys.press("Enter")

    expect(page.get_by_text("You approved this plan.")).to_be_visible()
    assert [(vote.voter.username, vote.verdict) for vote in Vote.objects.all()] == [("cy", "approve")]
    assert complaints == []


def test_change_is_read_and_voted_on_without_javascript(stage: World, waiting: str, visit: Visit) -> None:
    page = visit("/accounts/login/", java_script_enabled=False)
    page.get_by_label("Username").fill("cy")
    page.get_by_label("Password").fill(stage.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Sign in")

    page.goto(f"/changes/{waiting}/")
    parts = {"plan": "nw-staging", "gates": "pass", "approvals": "Technical review", "timeline": "Ada submitted"}
    for anchor, words in parts.items():
        expect(page.locator(f"#{anchor}")).to_be_visible()
        expect(page.locator(f"#{anchor}")).to_contain_text(words)
    page.get_by_role("button", name="Approve revision 1").click()

    expect(page.get_by_text("You approved this plan.")).to_be_visible()
    assert [(vote.voter.username, vote.verdict) for vote in Vote.objects.all()] == [("cy", "approve")]
    stage.until(Run.objects.filter(kind="rollout").exists)
    page.reload()
    page.get_by_role("link", name="Open it by itself").click()
    expect(page).to_have_title(f"Rollout of {waiting} · ChangeControl")


def test_second_factor_is_set_up_and_then_asked_for(
    stage: World,
    visit: Visit,
    complaints: Complaints,
) -> None:
    page = visit("/accounts/login/")
    sign_in(page, stage)
    page.goto("/accounts/second-factor/totp/activate/")
    # Who changes how an account is protected proves once more who they are.
    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm it is you")
    page.get_by_label("Password").fill(stage.password)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Add an authenticator app")
    secret = page.locator("code").first.inner_text()
    used = code_of(secret)
    assert violations(page) == []
    page.get_by_label("Authenticator code").fill(used)
    page.get_by_role("button", name="Add the app").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Add an authenticator app")

    page = visit("/accounts/login/")
    sign_in(page, stage)
    expect(page.get_by_role("heading", level=1)).to_have_text("Second factor")
    assert violations(page) == []
    page.get_by_label("Code").fill("000000" if used != "000000" else "000001")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    page.goto("/approvals/")
    # The password alone opens nothing: whatever is asked for, the code is.
    expect(page.get_by_role("heading", level=1)).to_have_text("Second factor")

    # A code is taken once: what was shown to the server already does not count again.
    stage.until(lambda: code_of(secret) != used, seconds=STEP_SECONDS + 5)
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_title("Home · ChangeControl")
    assert complaints == []


def sign_in(page: Page, stage: World) -> None:
    page.get_by_label("Username").fill("ben")
    page.get_by_label("Password").fill(stage.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Sign in")


def code_of(secret: str) -> str:
    """Return the six digits that an authenticator app shows now (RFC 6238)."""
    counter = struct.pack(">Q", int(time.time()) // STEP_SECONDS)
    digest = hmac.new(b32decode(secret + "=" * (-len(secret) % 8)), counter, hashlib.sha1).digest()
    offset = digest[-1] & 15
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"
