"""A good change by the people it takes, each in a browser of their own: filed, approved, watched, closed, proved."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from deployments.demo.manifests import GOOD
from tests.browser.conftest import Complaints, Visit, keep, violations
from tests.scenes import World

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WAVES = [
    {"name": "Pilot", "environments": ["nw-pilot"], "bake_seconds": 3},
    {"name": "Back office", "environments": ["nw-warehouse"], "bake_seconds": 1},
]
"""Milliseconds that a page may take on a busy machine."""


@pytest.fixture
def origin(stage: World) -> str:
    """Serve the whole slice in place of the painted scene."""
    return stage.origin


def sign_in(page: Page, username: str, password: str) -> None:
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign in")).to_have_count(0)


def assert_accessible(page: Page, name: str) -> None:
    keep(page, f"path-{name}")
    assert violations(page) == [], name


def test_good_change_goes_through_by_the_hands_of_four_people(
    world: World,
    visit: Visit,
    complaints: Complaints,
    tmp_path: Path,
) -> None:
    # APR-1, APR-15, RUN-2, AUD-3
    draft = world.change(GOOD.summary)
    content = {"waves": WAVES, "environments": ["nw-pilot", "nw-warehouse"]}
    world.caller("ada").must(f"changes/{draft.number}/draft/", seen_version=draft.draft_version, content=content)
    ada, cy, ben, dee = (visit("/accounts/login/") for _ in range(4))
    for page, name in ((ada, "ada"), (cy, "cy"), (ben, "ben"), (dee, "dee")):
        sign_in(page, name, world.password)

    ada_submits(world, ada)
    cannot_approve_her_own(ada)
    for page, name in ((cy, "cy"), (ben, "ben")):
        approves_from_the_queue(page, name)
    watches_the_rollout_to_its_end(world, cy)
    closes(ben, draft.number)
    exports(world, dee, draft.number, tmp_path)

    assert complaints == []


def ada_submits(world: World, page: Page) -> None:
    assert_accessible(page, "home")
    page.get_by_role("link", name="Open the guide").click()
    assert_accessible(page, "guide")
    page.get_by_role("link", name="Open the good change").click()
    assert_accessible(page, "draft")
    page.get_by_role("button", name="Submit for assessment").click()
    page.evaluate("window.sameDocument = true")
    # The page loads itself once the gates have judged; nobody presses anything.
    world.until(lambda: "authorize" in page.locator("#status p.cc-sr").inner_text())
    expect(page.locator("#gates")).to_contain_text("pass")


def cannot_approve_her_own(page: Page) -> None:
    decision = page.locator("#decision")
    expect(decision).to_contain_text("You asked for this change, so others decide on it.")
    expect(decision.get_by_role("button")).to_have_count(0)
    assert_accessible(page, "own-change")


def approves_from_the_queue(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Approvals").first.click()
    assert_accessible(page, f"queue-{name}")
    page.get_by_role("link", name=GOOD.summary).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(GOOD.summary)
    assert_accessible(page, f"decision-{name}")
    page.get_by_role("button", name="Approve revision 1").click()
    expect(page.get_by_text("You approved this plan.")).to_be_visible()
    expect(page.locator("#decision")).to_contain_text("Withdraw my vote")


def watches_the_rollout_to_its_end(world: World, page: Page) -> None:
    page.goto("/rollouts/")
    link = page.locator("#active").get_by_role("link", name=GOOD.summary)
    world.until(lambda: link.count() or not page.reload())
    link.first.click()
    expect(page.locator("#live")).to_be_visible()
    page.evaluate("window.sameDocument = true")
    seen = set()

    def has_ended() -> bool:
        seen.add(page.locator("#live-top .cc-state").first.inner_text())
        return "succeeded" in seen

    world.until(has_ended)
    assert seen & {"running", "baking"}
    assert page.evaluate("window.sameDocument") is True
    expect(page.locator("#log")).to_contain_text("Git names")
    assert_accessible(page, "rollout")


def closes(page: Page, number: str) -> None:
    page.goto(f"/changes/{number}/")
    assert_accessible(page, "review")
    form = page.locator("#do-close form")
    form.get_by_label("What happened").fill("The tills close in two seconds.")
    form.get_by_role("button", name="Close this change").click()
    expect(page.locator("#status p.cc-sr")).to_have_text("State: closed")


def exports(world: World, page: Page, number: str, folder: Path) -> None:
    page.goto(f"/changes/{number}/")
    assert_accessible(page, "closed")
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("link", name="download as a pack").click()
    pack = folder / "pack.zip"
    download.value.save_as(pack)
    with zipfile.ZipFile(pack) as archive:
        archive.extract("verify.py", folder)

    said = subprocess.run(
        [sys.executable, "-I", str(folder / "verify.py"), str(pack), "--key", str(world.public_key)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (said.returncode, said.stdout.splitlines()[0]) == (0, "VERIFIED"), said.stdout
