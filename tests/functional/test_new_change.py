"""Filing a change in steps: each saved as it is answered, left and gone on with, refused with everything kept."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from changecontrol.models import ChangeRequest
from changecontrol.rules.content import Content
from changecontrol.rules.content_problems import problems
from changecontrol.rules.risk import QUESTIONS
from tests.factories import draft_change

pytestmark = pytest.mark.django_db

WHAT = {
    "title": "Replenishment: faster reorder proposals",
    "reason": "Buyers miss the 07:00 cut-off.",
    "security_impact": "None.",
    "links": "Incident 2291 https://tickets.example/2291",
}
HOW = {
    "wave_plan": "own",
    "place_production_pilot": "1",
    "place_production_rest": "2",
    "wave_1_name": "Pilot",
    "wave_1_bake": "20",
    "wave_1_promotion": "manual",
    "wave_2_bake": "10",
    "planned_start_at": "2026-11-24T03:30",
    "ready_within_minutes": "10",
    "max_unavailable": "1",
    "failure_budget": "0",
    "on_failure": "roll_back",
    "on_window_close": "finish_wave",
    "watch_pos_orders_unsynchronised": "on",
    "threshold_pos_orders_unsynchronised": "2",
}
RISK = {
    **{f"risk_{one.key}": next(iter(one.points)) for one in QUESTIONS},
    "rollback_plan": "Apply the previous commit.",
    "test_evidence": "Rehearsed on staging.",
}


def edit(change: ChangeRequest) -> str:
    return reverse("change-edit", args=[change.number])


def send(client, change: ChangeRequest, step: str, then: str = "next", **answers: object):
    version = ChangeRequest.objects.get(pk=change.pk).draft_version
    return client.post(edit(change), {"step": step, "then": then, "seen_version": version, **answers})


def test_change_is_filed_step_by_step_and_submitted(estate, signed_in) -> None:
    estate.ada.zone = "Europe/Berlin"
    estate.ada.save()
    ada = signed_in(estate.ada)

    first = ada.post(reverse("change-new"), {"tenant": estate.tenant.pk, "type": "normal", **WHAT})
    change = ChangeRequest.objects.get()
    where = send(ada, change, "where", environments=["production"])
    commit = send(ada, change, "commit", revision_name="main")
    how = send(ada, change, "how", **HOW)
    risk = send(ada, change, "risk", **RISK)
    everything = {**WHAT, "environments": ["production"], "revision_name": "main", **HOW, **RISK}
    last = send(ada, change, "all", "submit", **everything)

    steps = [answer.url.rpartition("=")[2] for answer in (first, where, commit, how, risk)]
    assert steps == ["where", "commit", "how", "risk", "all"]
    assert last.url == change.get_absolute_url()
    change.refresh_from_db()
    content = Content.from_json(change.revision.content)
    assert change.state == "submitted"
    assert problems(content) == {}
    assert [(one.name, one.cohorts, one.bake_seconds, str(one.promotion)) for one in content.waves] == [
        ("Pilot", ("pilot",), 1200, "manual"),
        ("Wave 1", ("rest",), 600, "automatic"),
    ]
    assert content.planned_start_at == "2026-11-24T03:30:00+01:00"
    assert [(one.indicator, one.threshold) for one in content.indicators] == [("pos_orders_unsynchronised", 0.02)]
    assert [(one.label, one.url) for one in content.links] == [("Incident 2291", "https://tickets.example/2291")]


@pytest.mark.parametrize("step", ["what", "where", "commit", "how", "risk", "all"])
def test_step_shows_what_was_saved_before(estate, signed_in, step: str) -> None:
    change = draft_change(estate)

    answer = signed_in(estate.ada).get(f"{edit(change)}?step={step}")

    shown = {"what": "07:00 supplier", "where": "checked", "commit": "main", "how": "Pilot in", "risk": "Rehearsed"}
    assert answer.status_code == 200
    assert shown.get(step, "Submit for assessment") in answer.text


@pytest.mark.parametrize(
    ("start", "zone"), [("0001-01-01T00:00:00+00:00", "America/New_York"), ("9999-12-31T23:59:00+00:00", "Asia/Tokyo")]
)
def test_planned_start_that_is_none_on_ones_clock_is_asked_for_again(estate, signed_in, start: str, zone: str) -> None:
    """An API keeps a draft as it is given, and is refused as it is submitted."""
    estate.ada.zone = zone
    estate.ada.save()
    change = draft_change(estate)
    change.draft = {**change.draft, "planned_start_at": start}
    change.save()

    answer = signed_in(estate.ada).get(f"{edit(change)}?step=how")

    assert answer.status_code == 200
    assert answer.context["form"].initial["planned_start_at"] is None


def test_refused_submission_keeps_every_answer_and_links_to_the_fields(estate, signed_in) -> None:
    change = draft_change(estate)
    everything = {**WHAT, "environments": ["production"], "revision_name": "main", **HOW, **RISK}

    answer = send(signed_in(estate.ada), change, "all", "submit", **{**everything, "rollback_plan": "", "reason": ""})

    assert answer.status_code == 422
    assert "<title>Error: " in answer.text
    assert '<a href="#reason">Why: Say why the change is needed.</a>' in answer.text
    assert (
        '<a href="#rollback_plan">How it is undone: Say how the change is undone if it goes wrong.</a>' in answer.text
    )
    assert "Incident 2291 https://tickets.example/2291" in answer.text
    assert ChangeRequest.objects.get(pk=change.pk).state == "draft"


def test_draft_saved_elsewhere_meanwhile_is_not_overwritten(estate, signed_in) -> None:
    change = draft_change(estate)
    ada = signed_in(estate.ada)
    send(ada, change, "risk", **{**RISK, "test_evidence": "From the other window."})

    answer = ada.post(edit(change), {"step": "risk", "seen_version": change.draft_version, **RISK})

    assert answer.status_code == 409
    assert "This draft was saved elsewhere meanwhile" in answer.text
    assert "Rehearsed on staging." in answer.text
    assert ChangeRequest.objects.get(pk=change.pk).draft["test_evidence"] == "From the other window."


@pytest.mark.parametrize(
    ("step", "answers", "sentence"),
    [
        ("what", {**WHAT, "links": "javascript:alert(1)"}, "needs a name, then an address"),
        ("what", {**WHAT, "title": ""}, "Give the change a title that says what it does."),
        ("where", {"environments": ["of-another-tenant"]}, "There is no environment called “of-another-tenant” here."),
        ("how", {**HOW, "ready_within_minutes": "soon"}, "Enter a whole number."),
        ("how", {**HOW, "place_production_pilot": "", "place_production_rest": ""}, "Put at least one place in a wave"),
    ],
)
def test_answer_that_cannot_be_read_is_refused_at_its_step(estate, signed_in, step, answers, sentence) -> None:
    change = draft_change(estate)

    answer = send(signed_in(estate.ada), change, step, **answers)

    assert answer.status_code == 422
    assert sentence in answer.text
    assert ChangeRequest.objects.get(pk=change.pk).draft_version == change.draft_version


def test_whoever_may_not_file_is_told_the_role(estate, signed_in) -> None:
    answer = signed_in(estate.dee).get(reverse("change-new"))

    assert answer.status_code == 403
    assert "needs the role engineer" in answer.text


@pytest.mark.parametrize(
    ("name", "field", "sent", "wrong"),
    [
        ("title", "title", "", ""),
        ("title", "title", "x" * 201, "x" * 201),
        ("reason", "reason", "", ""),
        ("max_unavailable", "max_unavailable", "0", 0),
        ("max_unavailable", "max_unavailable", "", 0),
        ("failure_budget", "failure_budget", "501", 501),
        ("ready_within_seconds", "ready_within_minutes", "0", 0),
    ],
)
def test_page_says_what_the_rules_and_so_the_api_say(estate, signed_in, name, field, sent, wrong) -> None:
    change = draft_change(estate)
    everything = {**WHAT, "environments": ["production"], "revision_name": "main", **HOW, **RISK}

    answer = send(signed_in(estate.ada), change, "all", "submit", **{**everything, field: sent})

    ruled = problems(Content.from_json({**change.draft, name: wrong}))[name]
    assert answer.status_code == 422
    assert [slip.sentence for slip in answer.context["slips"] if slip.anchor == field] == ruled


def steps_on(client, change: ChangeRequest) -> dict[str, bool]:
    """Return what the change's page offers, with whether it is the page's filled button."""
    steps = client.get(change.get_absolute_url()).context["steps"]
    return {one.label: one.is_primary for one in steps if one.label in {"Submit for assessment", "Go on writing"}}


def test_a_complete_draft_is_submitted_from_its_own_page(estate, signed_in) -> None:
    change = draft_change(estate)
    ada = signed_in(estate.ada)

    offered = steps_on(ada, change)
    answer = ada.post(f"/changes/{change.number}/submit/", {"seen_version": change.draft_version}, follow=True)

    assert offered == {"Submit for assessment": True, "Go on writing": False}
    assert "Submitted. The gates judge it now." in answer.text
    assert ChangeRequest.objects.get(pk=change.pk).state == "submitted"


def test_an_unfinished_draft_says_on_its_page_what_is_missing(estate, signed_in) -> None:
    change = draft_change(estate, rollback_plan="", security_impact="")
    ada = signed_in(estate.ada)

    offered = steps_on(ada, change)
    page = ada.get(change.get_absolute_url())
    refused = ada.post(f"/changes/{change.number}/submit/", {"seen_version": change.draft_version})

    assert offered == {"Go on writing": True}
    for answer in (page, refused):
        assert "Say how the change is undone if it goes wrong." in answer.text
    assert f'href="{edit(change)}?step=what"' in page.text
    assert refused.status_code == 422
    assert ChangeRequest.objects.get(pk=change.pk).state == "draft"


def test_a_draft_that_somebody_else_saved_meanwhile_is_not_submitted_unread(estate, signed_in) -> None:
    change = draft_change(estate)

    answer = signed_in(estate.ada).post(f"/changes/{change.number}/submit/", {"seen_version": change.draft_version - 1})

    assert answer.status_code == 409
    assert "saved elsewhere meanwhile" in answer.text
    assert ChangeRequest.objects.get(pk=change.pk).state == "draft"


def test_what_was_written_comes_back_when_the_session_has_ended(estate) -> None:
    change = draft_change(estate)
    form = f"{edit(change)}?step=what"
    sent = {"step": "what", "then": "next", "seen_version": 2, "title": "Faster <tills>", "reason": "They\nstand."}

    answer = Client().post(edit(change), sent, headers={"Referer": f"http://testserver{form}"})
    elsewhere = Client().post(edit(change), sent, headers={"Referer": "http://evil.example/changes/"})

    assert answer.status_code == 401
    assert answer["Cache-Control"] == "private, no-store"
    assert [(one["label"], one["value"]) for one in answer.context["typed"]] == [
        ("Title", "Faster <tills>"),
        ("Reason", "They\nstand."),
    ]
    assert "Faster &lt;tills&gt;" in answer.text
    assert answer.context["sign_in_url"] == f"{reverse('account_login')}?{urlencode({'next': form})}"
    assert elsewhere.context["sign_in_url"] == f"{reverse('account_login')}?next=%2F"
    assert ChangeRequest.objects.get(pk=change.pk).draft_version == change.draft_version
