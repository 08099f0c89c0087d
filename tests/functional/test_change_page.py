"""The page of one change."""

from __future__ import annotations

import pytest
from django.db import transaction

from changecontrol import access, audit
from changecontrol.events import Tag
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import AuditEvent, Run
from changecontrol.views.timeline import entry_of
from tests.factories import advance_to, submitted_change
from tests.factories.estate import NOW

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", list(ChangeState))
def test_page_shows_every_state_to_everybody_of_the_tenant(estate, signed_in, state: ChangeState) -> None:
    change = advance_to(estate, state)
    people = [estate.ada, estate.ben, estate.cy, estate.dee]

    answers = [signed_in(person).get(change.get_absolute_url()) for person in people]

    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(f"<h1>{change.title}</h1>" in answer.text for answer in answers)


def test_a_gate_that_asks_many_places_says_how_far_it_is(estate, signed_in) -> None:  # GATE-1
    change = advance_to(estate, ChangeState.ASSESS)
    said = "14 of 20 environments asked."
    Run.objects.create(
        change=change,
        revision=change.revision,
        kind="assessment",
        state="running",
        created_at=NOW,
        data={"asking": {"gate": "dry_run", "sentence": said}},
    )
    client = signed_in(estate.ada)

    page, part = (client.get(f"{change.get_absolute_url()}{query}").text for query in ("", "?part=live"))

    assert page.count(said) == part.count(said) == 1


def test_the_timeline_tells_the_story_and_leaves_each_object_to_the_run(estate, signed_in) -> None:
    change = advance_to(estate, ChangeState.SCHEDULED)
    with transaction.atomic():
        data = {"target": "production", "object": "ConfigMap odoo-settings"}
        audit.record(Tag.OBJECT_APPLIED, subject=change, actor=access.system_actor("test"), at=NOW, data=data)

    page = signed_in(estate.dee).get(change.get_absolute_url()).text

    count = AuditEvent.objects.filter(change=change).count()
    assert "ConfigMap odoo-settings" not in page
    assert f"{count} events in the audit trail" in page.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("tag", "data", "look"),
    [
        (Tag.VOTE_CAST, {"verdict": "approve"}, ("circle-check", "good")),
        (Tag.VOTE_CAST, {"verdict": "reject"}, ("circle-x", "bad")),
        (Tag.VOTE_CAST, {"verdict": "abstain"}, ("circle-minus", "")),
        (Tag.GATE_JUDGED, {"gate": "policy", "verdict": "fail"}, ("circle-x", "bad")),
        (Tag.CHANGE_CLOSED, {"close_code": "rolled_back"}, ("arrow-back-up", "warn")),
        (Tag.RUN_MOVED, {"from": "running", "to": "paused"}, ("player-pause", "hold")),
        (Tag.CHANGE_HELD, {"reason": "reject"}, ("player-pause", "hold")),
    ],
)
def test_an_event_looks_as_good_or_bad_as_what_it_says(estate, tag, data, look) -> None:
    change = advance_to(estate, ChangeState.SCHEDULED)
    with transaction.atomic():
        event = audit.record(tag, subject=change, actor=access.system_actor("test"), at=NOW, data=data)

    entry = entry_of(event)

    assert (entry["icon"], entry["tone"]) == look


def test_the_plan_names_what_is_watched_with_its_unit_and_what_it_means(estate, signed_in) -> None:
    rules = [{"indicator": "pos_orders_unsynchronised", "threshold": 0.025, "consecutive_breaches": 1}]
    change = submitted_change(estate, indicators=rules)

    page = signed_in(estate.dee).get(change.get_absolute_url()).text.replace("\u00a0", " ")

    assert "POS orders not synchronised: at most 2.5 %" in page
    assert "what the business feels; 3 samples for a pass, 1 breach in a row stop the rollout" in page
    assert "pos_orders_unsynchronised" not in page


def test_a_piece_of_evidence_with_no_possible_name_is_missing(estate, signed_in) -> None:
    change = advance_to(estate, ChangeState.SCHEDULED)

    assert signed_in(estate.dee).get(f"{change.get_absolute_url()}artefacts/aa%00/").status_code == 404


def test_a_plan_names_a_pinned_commit_by_its_short_hash(estate, signed_in) -> None:
    change = submitted_change(estate, commit="f" * 40, revision_name="f" * 40)

    page = signed_in(estate.dee).get(change.get_absolute_url()).text

    assert "Bring fffffff to production of Northwind" in page
