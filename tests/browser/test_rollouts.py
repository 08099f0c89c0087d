"""The live rollout in Chromium: it updates without reload, and steering it works by keyboard alone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from changecontrol import clock
from changecontrol.lifecycles.run import RunState
from changecontrol.models import Run, RunLog, RunTarget
from tests.browser.conftest import Complaints, Visit, overflow, violations
from tests.browser.scene import Scene
from tests.browser.sweep import faults
from tests.factories.rollout import LiveRun, live_run

pytestmark = pytest.mark.browser

PARTS = re.compile(r"\?part=")


@pytest.fixture(scope="module")
def live(scene: Scene) -> LiveRun:
    return live_run(scene.estate, at=clock.now())


PAGES = {
    "rollouts": ("cy", "/rollouts/"),
    "run": ("cy", "/runs/{run}/"),
    "run-auditor": ("dee", "/runs/{run}/"),
    "change-with-run": ("ben", "/changes/{number}/"),
}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_fits_and_is_silent(
    scene: Scene, live: LiveRun, visit: Visit, complaints: Complaints, name: str
) -> None:
    who, path = PAGES[name]
    page = visit(path.format(run=live.run.pk, number=live.change.number), getattr(scene.estate, who))

    assert faults(page, name) == {}
    assert complaints == []


@pytest.mark.parametrize("width", [1920, 1280, 1024, 900])
def test_names_in_the_grid_stay_readable_beside_the_controls(
    scene: Scene, live: LiveRun, visit: Visit, width: int
) -> None:
    page = visit(f"/runs/{live.run.pk}/", scene.estate.cy, width=width)

    names = page.locator(".cc-grid th.cc-cohort")
    assert max(names.evaluate_all("(all) => all.map((one) => one.offsetHeight)")) < 120
    inside = "(one) => one.getBoundingClientRect().right <= one.closest('.cc-panel').getBoundingClientRect().right + 1"
    assert page.locator("#targets .cc-scroll").evaluate(inside)
    assert overflow(page) == 0


def _tab_to(page: Page, selector: str, *, presses: int = 80) -> None:
    for _ in range(presses):
        page.keyboard.press("Tab")
        if page.evaluate("(wanted) => document.activeElement?.matches(wanted)", selector):
            return
    raise AssertionError(f"{selector} is not reached by Tab")


def test_run_updates_without_reload_and_keeps_focus_and_an_open_reason(
    scene: Scene, live: LiveRun, visit: Visit, complaints: Complaints
) -> None:
    Run.objects.filter(pk=live.run.pk).update(state="running", intent="", finished_at=None)
    page = visit(f"/runs/{live.run.pk}/", scene.estate.cy)
    page.evaluate("window.sameDocument = true")
    page.locator("#control-abort summary").press("Enter")
    page.locator("#why-abort").press_sequentially("The tills in Ber")
    # As a person leaves it who drags the field larger: the swap must not copy what the security policy refuses.
    page.locator("#why-abort").evaluate("(one) => { one.style.height = '90px'; }")

    RunTarget.objects.filter(run=live.run, state="updating").update(state="healthy", ready_count=4)
    Run.objects.filter(pk=live.run.pk).update(state="baking", bakes_until=clock.now())
    RunLog.objects.create(run=live.run, at=clock.now(), icon="hourglass", sentence="Wave 2 bakes for 30 min.")

    expect(page.get_by_text("Wave 2 bakes for 30 min.")).to_be_visible()
    expect(page.locator("#live-top .cc-state").first).to_have_text("baking")
    expect(page.locator("#control-skip")).to_be_attached()
    page.keyboard.type("lin stand")
    expect(page.locator("#why-abort")).to_have_value("The tills in Berlin stand")
    assert page.evaluate("document.activeElement.id") == "why-abort"
    assert page.evaluate("window.sameDocument") is True
    expect(page.locator("#announcer")).to_have_text("The run is baking, wave 2.")
    assert complaints == []


def test_run_is_paused_by_keyboard_alone(scene: Scene, live: LiveRun, visit: Visit) -> None:
    Run.objects.filter(pk=live.run.pk).update(state="running", intent="", finished_at=None)
    page = visit(f"/runs/{live.run.pk}/", scene.estate.cy)

    _tab_to(page, "button[name=verb][value=pause]", presses=160)
    page.keyboard.press("Enter")

    expect(page.get_by_text("Asked to pause. The next tick obeys, within 10 s.")).to_be_visible()
    expect(page.locator("#controls")).to_contain_text("Cy asked to pause")
    assert Run.objects.get(pk=live.run.pk).intent == "pause"


def test_ended_run_is_not_asked_again(scene: Scene, live: LiveRun, visit: Visit) -> None:
    Run.objects.filter(pk=live.run.pk).update(state="running", intent="", finished_at=None)
    page = visit(f"/runs/{live.run.pk}/", scene.estate.dee)
    asked: list[str] = []

    Run.objects.filter(pk=live.run.pk).update(state="succeeded", finished_at=clock.now())
    expect(page.locator("#live-top .cc-state").first).to_have_text("succeeded")
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4000)

    assert asked == []


def test_polls_rest_while_nobody_answers_and_go_on_afterwards(scene: Scene, live: LiveRun, visit: Visit) -> None:
    Run.objects.filter(pk=live.run.pk).update(state="running", intent="", finished_at=None)
    page = visit(f"/runs/{live.run.pk}/", scene.estate.cy)
    asked: list[str] = []

    def cut(route: Route) -> None:
        asked.append(route.request.url)
        route.abort()

    page.route(PARTS, cut)
    expect(page.locator("#messages")).to_contain_text("The server does not answer.")
    page.wait_for_timeout(12_000)
    seen = len(asked)
    page.unroute(PARTS)
    RunLog.objects.create(run=live.run, at=clock.now(), icon="point", sentence="The server is back.")

    expect(page.get_by_text("The server is back.")).to_be_visible(timeout=40_000)
    expect(page.locator("#messages [data-failure]")).to_have_count(0)
    assert seen <= 6


def test_every_state_of_a_run_is_accessible_on_a_phone_in_the_dark(scene: Scene, live: LiveRun, visit: Visit) -> None:
    page = visit("/rollouts/", scene.estate.cy, theme="dark", width=360)

    found = {}
    for state in RunState:
        Run.objects.filter(pk=live.run.pk).update(state=state, intent="", finished_at=None)
        page.goto(f"/runs/{live.run.pk}/")
        found[state] = (violations(page), overflow(page))

    assert {state: one for state, one in found.items() if one != ([], 0)} == {}
