"""One run: what lives, what is offered to whom, and what asking it leaves behind."""

from __future__ import annotations

from typing import Any

import pytest

from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import AuditEvent, ChangeRequest, Run, RunLog, RunTarget
from tests.factories import NOW, advance_to, authorized_change, scheduled_change
from tests.factories.rollout import LiveRun, live_run
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def live(estate: Any) -> LiveRun:
    return live_run(estate, at=NOW)


def test_page_says_how_far_the_run_is(estate, live, signed_in) -> None:
    text = signed_in(estate.cy).get(f"/runs/{live.run.pk}/").text

    assert "32 of 60" in text
    assert "0 of 2" in text
    assert "Time left" in text
    assert 'aria-label="Log of the run, newest first"' in text
    assert "No data for stock moves delayed" in text
    assert "Node de-1-w7 does not answer" in text


def test_hidden_run_answers_like_a_missing_one(live, eve, signed_in) -> None:
    client = signed_in(eve)

    hidden = client.get(f"/runs/{live.run.pk}/")
    missing = client.get("/runs/999999/")
    asked = client.post(f"/runs/{live.run.pk}/pause/")

    assert (hidden.status_code, missing.status_code, asked.status_code) == (404, 404, 404)
    assert "There is no such run." in hidden.text
    assert "There is no such run." in missing.text
    assert live.change.title not in hidden.text
    assert Run.objects.get(pk=live.run.pk).intent == ""


def test_live_part_is_drawn_again_only_when_something_changed(estate, live, signed_in) -> None:
    client = signed_in(estate.cy)
    seen = client.get(f"/runs/{live.run.pk}/").context["version"]

    same = client.get(f"/runs/{live.run.pk}/?part=live&seen={seen}", headers=HTMX)
    RunLog.objects.create(run=live.run, at=NOW, icon="point", sentence="Something new.")
    other = client.get(f"/runs/{live.run.pk}/?part=live&seen={seen}", headers=HTMX)

    assert same.status_code == 204
    assert other.status_code == 200
    assert "Something new." in other.text
    assert "<html" not in other.text
    assert 'id="live-top" hx-swap-oob="true"' in other.text


def test_polling_stops_when_the_run_ends(estate, live, signed_in) -> None:
    client = signed_in(estate.cy)
    before = client.get(f"/runs/{live.run.pk}/").text

    Run.objects.filter(pk=live.run.pk).update(state="succeeded", finished_at=NOW)
    after = client.get(f"/runs/{live.run.pk}/").text

    assert before.count('hx-trigger="every 3s"') == 2
    assert "every 3s" not in after


def test_controls_stay_as_they_are_while_nothing_else_is_offered(estate, live, signed_in) -> None:
    client = signed_in(estate.cy)
    seen = client.get(f"/runs/{live.run.pk}/").context["controls"].key

    same = client.get(f"/runs/{live.run.pk}/?part=controls&seen={seen}", headers=HTMX)
    Run.objects.filter(pk=live.run.pk).update(state="paused")
    other = client.get(f"/runs/{live.run.pk}/?part=controls&seen={seen}", headers=HTMX)

    assert same.status_code == 204
    assert 'value="resume"' in other.text


@pytest.mark.parametrize(
    ("who", "offered"),
    [
        ("cy", {"pause", "abort", "roll_back"}),
        ("ben", {"pause", "abort", "roll_back"}),
        ("ada", {"pause"}),
        ("dee", set()),
    ],
)
def test_controls_offer_what_the_roles_allow(estate, live, signed_in, who: str, offered: set[str]) -> None:
    answer = signed_in(getattr(estate, who)).get(f"/runs/{live.run.pk}/")

    rows = answer.context["controls"].rows
    assert {row["verb"] for row in rows if not row["refusal"]} == offered
    assert [row["verb"] for row in rows if row["is_primary"]] == (["pause"] if offered else [])
    if not offered:
        assert "You may watch this run." in answer.text


def test_pause_is_written_down_for_the_next_tick(estate, live, signed_in) -> None:
    client = signed_in(estate.cy)

    answer = client.post(f"/runs/{live.run.pk}/pause/", follow=True)

    run = Run.objects.get(pk=live.run.pk)
    assert (run.intent, run.intent_by) == ("pause", estate.cy)
    assert "Cy asked to pause" in answer.text
    assert "It has already been asked to pause" in answer.text.replace("it has", "It has")
    assert AuditEvent.objects.filter(change=live.change, tag="run:safety_action").count() == 1  # WIN-8


@pytest.mark.parametrize("verb", ["abort", "roll-back"])
def test_abort_and_rollback_need_a_reason(estate, live, signed_in, verb: str) -> None:
    client = signed_in(estate.cy)

    without = client.post(f"/runs/{live.run.pk}/{verb}/", {"reason": "  "})
    assert Run.objects.get(pk=live.run.pk).intent == ""
    with_reason = client.post(f"/runs/{live.run.pk}/{verb}/", {"reason": "Tills stand."})

    assert (without.status_code, with_reason.status_code) == (422, 302)
    assert "Say why." in without.text
    assert Run.objects.get(pk=live.run.pk).intent == verb.replace("-", "_")


def test_refusals_come_back_on_the_page(estate, live, signed_in) -> None:
    forbidden = signed_in(estate.dee).post(f"/runs/{live.run.pk}/pause/")
    impossible = signed_in(estate.cy).post(f"/runs/{live.run.pk}/resume/")
    unknown = signed_in(estate.cy).post(f"/runs/{live.run.pk}/explode/")

    assert (forbidden.status_code, impossible.status_code, unknown.status_code) == (403, 409, 404)
    assert "This needs one of these roles here" in forbidden.text
    assert f"<h1>{live.change.title}</h1>" in impossible.text


@pytest.mark.parametrize(
    "state",
    [
        "queued",
        "waiting_for_window",
        "preflight",
        "running",
        "baking",
        "awaiting_promotion",
        "paused",
        "aborting",
        "aborted",
        "rolling_back",
        "rolled_back",
        "rollback_failed",
        "succeeded",
        "failed",
    ],
)
def test_every_state_has_its_page_and_at_most_one_filled_button(estate, live, signed_in, state: str) -> None:
    Run.objects.filter(pk=live.run.pk).update(state=state)

    answer = signed_in(estate.cy).get(f"/runs/{live.run.pk}/")

    assert answer.status_code == 200
    assert answer.text.count("btn-primary") <= 1


def test_a_page_costs_as_much_with_one_target_as_with_many(estate, live, signed_in) -> None:
    client = signed_in(estate.cy)
    many = statements(client, f"/runs/{live.run.pk}/")

    kept = RunTarget.objects.filter(run=live.run, wave=2)[0]
    RunTarget.objects.filter(run=live.run).exclude(pk=kept.pk).delete()
    one = statements(client, f"/runs/{live.run.pk}/")

    assert one == many <= 26


def test_a_poll_that_finds_nothing_new_costs_little(estate, live, signed_in) -> None:
    client = signed_in(estate.cy)

    assert statements(client, f"/runs/{live.run.pk}/?part=controls", **HTMX) <= 8


def test_change_page_shows_its_run_as_a_part(estate, live, signed_in) -> None:
    client = signed_in(estate.ben)

    part = client.get(f"/changes/{live.change.number}/run/", headers=HTMX)
    alone = client.get(f"/changes/{live.change.number}/run/")

    assert "32 of 60 healthy" in part.text
    assert "<html" not in part.text
    assert 'hx-trigger="every 5s"' in part.text
    assert alone.url == f"/runs/{live.run.pk}/"


def test_scheduled_change_says_when_it_begins_and_offers_to_start(estate, signed_in) -> None:
    change = scheduled_change(estate)

    cy = signed_in(estate.cy).get(f"/changes/{change.number}/run/", headers=HTMX)
    dee = signed_in(estate.dee).get(f"/changes/{change.number}/run/", headers=HTMX)

    assert "Start now" in cy.text
    assert "Start now" not in dee.text
    assert "as soon as its window is open" in dee.text
    assert signed_in(estate.dee).post(f"/changes/{change.number}/run/").status_code == 403
    assert ChangeRequest.objects.get(pk=change.pk).state == ChangeState.SCHEDULED


def test_without_script_a_scheduled_change_can_be_started_on_a_page_of_its_own(estate, signed_in) -> None:
    change = scheduled_change(estate)

    shown = signed_in(estate.cy).get(f"/changes/{change.number}/run/")

    assert shown.status_code == 200
    assert "<html" in shown.text
    assert f'<form class="mt-3" method="post" action="/changes/{change.number}/run/">' in shown.text


def test_a_start_that_is_refused_comes_back_with_its_sentence(estate, signed_in) -> None:
    change = authorized_change(estate)

    early = signed_in(estate.cy).post(f"/changes/{change.number}/run/")
    forbidden = signed_in(estate.dee).post(f"/changes/{change.number}/run/")

    assert (early.status_code, forbidden.status_code) == (409, 403)
    assert "Not started." in early.text
    assert "Only a scheduled change can be started." in early.text
    assert "This needs one of these roles here" in forbidden.text
    assert "Back to the change" in early.text


def test_what_an_apply_changed_is_folded_away_and_reached_by_keyboard(estate, live, signed_in) -> None:
    changed = "--- before\n+++ after\n-  image: odoo:<old>\n+  image: odoo:<new>\n"
    line = RunLog.objects.create(run=live.run, at=NOW, icon="upload", sentence="nw: 1 object applied.", detail=changed)
    RunLog.objects.create(run=live.run, at=NOW, icon="point", sentence="Another.", detail="One line only.")

    text = signed_in(estate.cy).get(f"/runs/{live.run.pk}/").text

    assert f'<details id="log-{line.pk}"><summary>What it changed: 1 line added, 1 removed<' in text
    assert '<pre class="cc-code" tabindex="0"' in text
    assert "+  image: odoo:&lt;new&gt;" in text
    assert "<small>One line only.</small>" in text


def test_draft_has_no_run_yet(estate, signed_in) -> None:
    change = advance_to(estate, ChangeState.DRAFT)

    answer = signed_in(estate.ada).get(f"/changes/{change.number}/run/", headers=HTMX)

    assert "No run yet." in answer.text
    assert "hx-trigger" not in answer.text


def test_run_of_a_hidden_change_is_not_found(live, eve, signed_in) -> None:
    assert signed_in(eve).get(f"/changes/{live.change.number}/run/", headers=HTMX).status_code == 404


def test_after_plan_drift_the_pages_say_what_to_press_and_pressing_it_works(estate, signed_in) -> None:  # APR-9
    change = scheduled_change(estate)
    run = Run.objects.create(
        change=change,
        revision=change.revision,
        plan=change.plan,
        kind="rollout",
        state="paused",
        pause_reason="plan_drift",
        created_at=NOW,
    )
    ada = signed_in(estate.ada)

    pages = [ada.get(path) for path in (f"/runs/{run.pk}/", change.get_absolute_url())]
    form = ada.get(f"/changes/{change.number}/edit/?step=all")
    given = {name: value for one in form.context["forms"] for name, value in answers(one)}
    again = ada.post(
        f"/changes/{change.number}/edit/",
        {**given, "step": "all", "then": "revise", "seen_version": change.draft_version},
        follow=True,
    )

    for page in pages:
        assert "“Write a new revision” and then “Submit this revision”" in page.text
    assert [one.label for one in pages[1].context["steps"] if one.is_primary] == ["Write a new revision"]
    assert "The new revision is submitted." in again.text
    assert ChangeRequest.objects.get(pk=change.pk).revision.number == 2


def answers(form: Any) -> list[tuple[str, Any]]:
    """Return what a browser would send of a form that nobody touched."""
    return [(one.html_name, value) for one in form if (value := one.value()) is not None and value is not False]
