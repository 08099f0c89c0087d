"""What people do with a change and a run besides voting, by the hands they have: held, canceled, scheduled, closed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from playwright.sync_api import Page, expect

from changecontrol import access, clock
from changecontrol.actions.gates import Judged, record_gate_result
from changecontrol.gates import GateVerdict, gates_for
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Run
from changecontrol.models.gate import Verdict
from changecontrol.rules.roles import Role
from tests.browser.conftest import Complaints, Visit, violations
from tests.browser.scene import Scene
from tests.factories import add_person, advance_to
from tests.factories.rollout import live_run

pytestmark = pytest.mark.browser


def now(change: ChangeRequest) -> ChangeRequest:
    return ChangeRequest.objects.get(pk=change.pk)


def test_a_change_is_held_in_a_dialog_by_keyboard_and_released(
    scene: Scene, visit: Visit, complaints: Complaints
) -> None:
    change = advance_to(scene.estate, ChangeState.AUTHORIZE, at=clock.now(), title="To be held")
    page = visit(f"/changes/{change.number}/", scene.estate.ben)

    page.get_by_role("button", name="Put on hold").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("dialog").get_by_role("textbox").press_sequentially("The supplier is late.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.locator("#messages")).to_contain_text("On hold.")
    expect(page.locator("#status")).to_contain_text("The supplier is late.")
    page.get_by_role("button", name="End the hold").click()
    expect(page.locator("#messages")).to_contain_text("The hold is over.")
    assert now(change).state == ChangeState.SUBMITTED
    assert complaints == []


def test_a_dialog_is_left_by_escape_and_gives_the_focus_back(scene: Scene, visit: Visit) -> None:
    change = advance_to(scene.estate, ChangeState.AUTHORIZE, at=clock.now(), title="Nearly canceled")
    page = visit(f"/changes/{change.number}/", scene.estate.ada)

    opener = page.get_by_role("button", name="Cancel this change").first
    opener.click()
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(opener).to_be_focused()
    assert now(change).state == ChangeState.AUTHORIZE


def test_a_change_is_canceled_with_a_reason(scene: Scene, visit: Visit, complaints: Complaints) -> None:
    change = advance_to(scene.estate, ChangeState.AUTHORIZE, at=clock.now(), title="To be canceled")
    page = visit(f"/changes/{change.number}/", scene.estate.ada)

    page.get_by_role("button", name="Cancel this change").click()
    page.get_by_role("dialog").get_by_role("textbox").fill("Nobody needs it any more.")
    page.get_by_role("dialog").get_by_role("button", name="Cancel this change").click()

    expect(page.locator("#messages")).to_contain_text("Canceled. It is never carried out.")
    expect(page.locator("#timeline")).to_contain_text("“Nobody needs it any more.”")
    assert now(change).state == ChangeState.CANCELED
    assert complaints == []


def test_the_start_of_a_change_is_set(scene: Scene, visit: Visit, complaints: Complaints) -> None:
    change = advance_to(scene.estate, ChangeState.SCHEDULED, at=clock.now(), title="To be scheduled")
    page = visit(f"/changes/{change.number}/", scene.estate.ben)

    # Within the night that is open every day, on the clocks of Ben, in Lisbon.
    start = (clock.now() + timedelta(days=1)).strftime("%Y-%m-%dT02:30")
    page.locator("#do-schedule summary").click()
    page.locator("#do-schedule-planned_start_at").fill(start)
    page.locator("#do-schedule").get_by_role("button", name="Change the start").click()

    expect(page.locator("#messages")).to_contain_text("The start is set.")
    found = now(change).planned_start_at
    assert found is not None
    assert f"{found:%Y-%m-%dT%H:%M}" == start
    assert complaints == []


def test_a_change_is_handed_over_and_closed_with_how_it_ended(
    scene: Scene, visit: Visit, complaints: Complaints
) -> None:
    deputy = add_person("deputy")
    access.grant_role(deputy, Role.ENGINEER, scene.estate.tenant)
    change = advance_to(scene.estate, ChangeState.REVIEW, at=clock.now(), title="To be closed")
    page = visit(f"/changes/{change.number}/", scene.estate.ada)

    page.locator("#do-hand-over summary").click()
    page.get_by_label("New owner").select_option(label=str(deputy))
    page.locator("#do-hand-over").get_by_role("button", name="Hand over").click()
    expect(page.locator("#messages")).to_contain_text("Handed over.")
    assert now(change).assignee == deputy

    page = visit(f"/changes/{change.number}/", scene.estate.ben)
    page.get_by_label("How it ended").select_option("successful_with_issues")
    page.locator("#do-close").get_by_role("button", name="Close this change").click()
    expect(page.get_by_role("alert")).to_contain_text("This was not done.")
    page.get_by_label("How it ended").select_option("successful_with_issues")
    page.get_by_role("textbox", name="What happened").fill("One till had to be restarted.")
    page.locator("#do-close").get_by_role("button", name="Close this change").click()

    expect(page.locator("#messages")).to_contain_text("Closed.")
    assert (now(change).state, now(change).close_code) == (ChangeState.CLOSED, "successful_with_issues")
    assert complaints == []


def judge_one(change: ChangeRequest) -> None:
    gate = gates_for(change.kind)[0]
    found = GateVerdict(Verdict.PASS, "Every object is accepted.", "5" * 64, "manifests", tool_version="1.0")
    judged = Judged(gate.key, gate.name, gate.tool, timedelta(hours=12), found, "", 1.2)
    with transaction.atomic():
        locked = ChangeRequest.objects.select_for_update().get(pk=change.pk)
        record_gate_result(
            locked, revision=change.revision, judged=judged, actor=access.system_actor("test"), at=clock.now()
        )


def test_gates_move_under_the_readers_eyes_while_they_are_judged(
    scene: Scene, visit: Visit, complaints: Complaints
) -> None:
    change = ChangeRequest.objects.get(pk=int(scene.assessing.removeprefix("CHG-")))
    page = visit(f"/changes/{change.number}/", scene.estate.ada)
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#gates")).to_contain_text("0 of 8 gates judged")

    judge_one(change)

    expect(page.locator("#gates")).to_contain_text("1 of 8 gates judged")
    expect(page.locator("#gates")).to_contain_text("Every object is accepted.")
    expect(page.locator("#announcer")).to_have_text("1 of 8 gates judged")
    assert page.evaluate("window.sameDocument") is True
    assert complaints == []


def ask(page: Page, verb: str, reason: str) -> None:
    page.locator(f"#control-{verb} summary").click()
    page.locator(f"#why-{verb}").fill(reason)
    page.locator(f"#control-{verb} form").get_by_role("button").click()


def test_abort_and_rollback_are_asked_from_the_page_of_the_run(
    scene: Scene, visit: Visit, complaints: Complaints
) -> None:
    live = live_run(scene.estate, at=clock.now())
    page = visit(f"/runs/{live.run.pk}/", scene.estate.cy)
    abort, back = page.locator("#control-abort"), page.locator("#control-roll_back")
    expect(abort.locator("..")).to_contain_text("Puts nothing back.")
    expect(back.locator("..")).to_contain_text("Puts the old version back on up to 38 targets")

    ask(page, "abort", "The tills in Berlin stand.")
    expect(page.get_by_text("Asked to abort. The next tick obeys")).to_be_visible()
    assert Run.objects.get(pk=live.run.pk).intent == "abort"
    ask(page, "roll_back", "They still stand.")
    expect(page.locator("#controls")).to_contain_text("Cy asked to roll back")

    found = Run.objects.get(pk=live.run.pk)
    assert (found.intent, found.intent_reason, found.intent_by) == ("roll_back", "They still stand.", scene.estate.cy)
    assert violations(page) == []
    assert complaints == []


def test_lock_out_says_how_long_it_lasts_and_who_helps(scene: Scene, visit: Visit) -> None:
    page = visit("/accounts/login/")

    for _ in range(5):
        page.get_by_label("Username").fill("nobody-of-this-name")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Locked for a while")
    expect(page.locator("main")).to_contain_text("Wait 15 minutes, then try again.")
    assert violations(page) == []


def test_counts_beside_the_navigation_arrive_without_moving_anything(
    scene: Scene, visit: Visit, complaints: Complaints
) -> None:
    page = visit("/", scene.estate.cy)

    expect(page.locator("#n-votes")).to_contain_text("for you to decide")
    link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Approvals")
    assert link.evaluate("(one) => one.getBoundingClientRect().height") == link.evaluate(
        "(one) => one.nextElementSibling.getBoundingClientRect().height"
    )
    assert complaints == []
