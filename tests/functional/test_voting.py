"""Voting in the page: by script and without it, on exactly the plan that was seen, and the reason where one may not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from changecontrol.actions import changes
from changecontrol.models import ChangeRequest, Vote
from tests.factories import NOW, actor, assess, authorized_change, requirement_named, scheduled_change
from tests.factories.changes import CONTENT

pytestmark = pytest.mark.django_db

BY_SCRIPT = {"HX-Request": "true"}


def vote(client, change: ChangeRequest, *, role: str = "technical_reviewer", headers=None, **words: str):
    requirement = requirement_named(change, role)
    sent = {"verdict": "approve", "seen_digest": change.plan.digest, "comment": "", **words}
    return client.post(reverse("vote", args=[requirement.pk]), sent, headers=headers or {})


def revised(estate, change: ChangeRequest) -> ChangeRequest:
    content = {**CONTENT, "reason": "Another reason."}
    changes.revise_change(actor=actor(estate.ada), change_id=change.pk, content=content, at=NOW)
    return assess(ChangeRequest.objects.get(pk=change.pk), format=2)


def test_vote_by_script_brings_the_approvals_and_the_badge_out_of_band(estate, signed_in) -> None:
    change = authorized_change(estate)

    answer = vote(signed_in(estate.cy), change, headers=BY_SCRIPT)

    assert answer.status_code == 200
    assert "You approved revision 1." in answer.text
    assert '<div id="approvals-part" hx-swap-oob="true">' in answer.text
    assert '<div id="status" class="mb-3" hx-swap-oob="true">' in answer.text
    assert "<html" not in answer.text
    assert Vote.objects.get().plan_digest == change.plan.digest  # APR-7


def test_last_vote_without_script_schedules_the_change_and_comes_back_to_it(estate, signed_in) -> None:
    change = authorized_change(estate)
    vote(signed_in(estate.cy), change)

    answer = vote(signed_in(estate.ben), change, role="change_manager")

    assert answer.url == f"{change.get_absolute_url()}#approvals"
    assert ChangeRequest.objects.get(pk=change.pk).state == "scheduled"


@pytest.mark.parametrize("headers", [BY_SCRIPT, {}])
def test_vote_on_a_replaced_plan_shows_the_fresh_card(estate, signed_in, headers) -> None:
    old = authorized_change(estate)
    fresh = revised(estate, old)

    answer = vote(signed_in(estate.cy), old, headers=headers)

    assert answer.status_code == 409  # APR-8
    assert "Revision 2 replaced what you were reading." in answer.text
    assert f'name="seen_digest" value="{fresh.plan.digest}"' in answer.text
    assert not Vote.objects.exists()


def test_rejection_without_a_reason_is_refused(estate, signed_in) -> None:
    change = authorized_change(estate)

    answer = vote(signed_in(estate.cy), change, headers=BY_SCRIPT, verdict="reject", comment="  ")

    assert answer.status_code == 422  # APR-5
    assert "Say in a comment why you reject." in answer.text
    assert ChangeRequest.objects.get(pk=change.pk).state == "authorize"


def test_requester_reads_the_reason_where_the_button_would_be(estate, signed_in) -> None:
    change = authorized_change(estate)
    ada = signed_in(estate.ada)

    shown = ada.get(change.get_absolute_url())
    tried = vote(ada, change, headers=BY_SCRIPT)

    assert "You asked for this change, so others decide on it." in shown.text  # APR-1, APR-15
    assert 'value="approve"' not in shown.text
    assert tried.status_code == 403
    assert "others decide on it" in tried.headers["HX-Trigger"]
    assert not Vote.objects.exists()


def test_each_approver_reads_what_follows_their_approval(estate, signed_in) -> None:
    change = authorized_change(estate)

    first = signed_in(estate.cy).get(change.get_absolute_url()).text
    vote(signed_in(estate.cy), change)
    last = signed_in(estate.ben).get(change.get_absolute_url()).text

    assert "After your approval these stay open: Change manager (1 place)." in first.replace(
        "Change Manager", "Change manager"
    )
    assert "Yours is the last approval: after it the change is scheduled." in last


def test_waiting_stage_says_so(estate, signed_in) -> None:
    change = authorized_change(estate)

    answer = signed_in(estate.ben).get(change.get_absolute_url())

    assert "An earlier stage is open." in answer.text
    assert 'value="approve"' not in answer.text


@pytest.mark.parametrize(("minutes", "may"), [(0, True), (6, False)])
def test_tier_1_asks_for_a_fresh_proof_of_identity(estate, signed_in, minutes: int, may: bool) -> None:
    change = authorized_change(estate)
    ChangeRequest.objects.filter(pk=change.pk).update(tier=1)
    cy = signed_in(estate.cy, proved_at=NOW - timedelta(minutes=minutes))

    shown = cy.get(change.get_absolute_url())
    tried = vote(cy, change)

    back = f"{reverse('account_reauthenticate')}?next={change.get_absolute_url().replace('/', '%2F')}%23decision"
    assert ('value="approve"' in shown.text) is may  # APR-7
    assert (back in shown.text) is not may
    assert tried.status_code == (302 if may else 403)


def test_withdrawn_vote_takes_a_scheduled_change_back(estate, signed_in) -> None:
    change = scheduled_change(estate)
    requirement = requirement_named(change, "change_manager")
    ben = signed_in(estate.ben)

    shown = ben.get(change.get_absolute_url())
    answer = ben.post(reverse("withdraw-vote", args=[requirement.pk]), {"comment": "I read it again."})

    assert "Withdraw my vote" in shown.text
    assert answer.status_code == 302
    assert ChangeRequest.objects.get(pk=change.pk).state == "authorize"  # APR-6


def test_queue_shows_mine_with_the_button_and_others_with_the_reason(estate, signed_in) -> None:
    change = authorized_change(estate)

    cy, ben = (signed_in(person).get(reverse("approvals")) for person in (estate.cy, estate.ben))

    assert "Review and decide" in cy.text  # APR-15
    assert "4 stores" in cy.text
    assert "Review and decide" not in ben.text
    assert "An earlier stage is open." in ben.text
    assert change.number in ben.text


def test_requirement_of_another_tenant_is_missing(estate, eve, signed_in) -> None:
    change = authorized_change(estate)

    answer = vote(signed_in(eve), change)

    assert answer.status_code == 404
    assert not Vote.objects.exists()


@pytest.mark.parametrize("headers", [BY_SCRIPT, {}])
@pytest.mark.parametrize(("verdict", "control"), [("approve", "decision-comment"), ("reject", "decision-why")])
def test_words_typed_for_a_refused_vote_are_in_the_fresh_card(estate, signed_in, headers, verdict, control) -> None:
    old = authorized_change(estate)
    revised(estate, old)

    answer = vote(signed_in(estate.cy), old, headers=headers, verdict=verdict, comment="Points <are> lost.")

    field = answer.text.partition(f'id="{control}"')[2].partition("</textarea>")[0]
    assert answer.status_code == 409
    assert field.endswith(">Points &lt;are&gt; lost.")
    assert answer.text.count("Points &lt;are&gt; lost.") == 1
    assert ('id="decision-reject" open' in answer.text) is (verdict == "reject")


def test_words_of_a_vote_that_is_no_longer_asked_for_stand_to_be_copied(estate, signed_in) -> None:
    change = authorized_change(estate)
    vote(signed_in(estate.cy), change)

    answer = vote(signed_in(estate.cy), change, comment="Twice, to be sure.")

    assert answer.status_code in {403, 409}
    assert "What you wrote, to copy:" in answer.text
    assert "Twice, to be sure." in answer.text
