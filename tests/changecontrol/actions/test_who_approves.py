"""Who may say yes, and when: what changes between the page somebody reads and the vote they send."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress

from changecontrol import clock
from changecontrol.actions import approvals, changes
from changecontrol.actions.plans import record_authors
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid
from changecontrol.models import ChangeRequest, User, Vote
from changecontrol.models.change import Contribution
from changecontrol.rules.roles import Role
from tests.changecontrol.actions.events import events
from tests.factories import (
    CONTENT,
    NOW,
    SmallEstate,
    actor,
    add_person,
    advance_to,
    authorized_change,
    grant,
    requirement_named,
    scheduled_change,
    small_estate,
)

pytestmark = pytest.mark.django_db

REVIEW, MANAGER = "technical_reviewer", "change_manager"
UNSEEN = ["\u200b", "\u2060 \ufeff", "\u3164", "\u00ad\n"]


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def vote(change: ChangeRequest, person: User, role: str, verdict: str = "approve", **words: Any) -> Vote:
    sent = {"seen_digest": change.plan.digest, "at": NOW, "actor": actor(person), **words}
    return approvals.cast_vote(requirement_id=requirement_named(change, role).pk, verdict=verdict, **sent)


def fresh(change: ChangeRequest) -> ChangeRequest:
    return ChangeRequest.objects.get(pk=change.pk)


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_somebody_deactivated_since_the_page_was_asked_says_nothing(estate: SmallEstate, verdict: str) -> None:
    # APR-1, APR-11: a reject would have ended the round although its author is gone.
    change = authorized_change(estate)
    before = actor(User.objects.get(pk=estate.cy.pk))
    User.objects.filter(pk=estate.cy.pk).update(is_active=False)

    with events() as tags, pytest.raises(Forbidden, match="deactivated"):
        vote(change, estate.cy, REVIEW, verdict, actor=before, comment="No.")

    assert (tags, Vote.objects.count(), fresh(change).state) == (["refused"], 0, "authorize")


def test_somebody_deactivated_takes_nothing_back(estate: SmallEstate) -> None:  # APR-11
    change = scheduled_change(estate)
    before = actor(User.objects.get(pk=estate.ben.pk))
    User.objects.filter(pk=estate.ben.pk).update(is_active=False)

    with pytest.raises(Forbidden, match="deactivated"):
        approvals.withdraw_vote(
            actor=before, requirement_id=requirement_named(change, MANAGER).pk, comment="No.", at=NOW
        )

    assert fresh(change).state == "scheduled"


def test_a_role_that_ended_since_the_page_was_asked_votes_no_more(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    grant(estate.cy, Role.TECHNICAL_REVIEWER, estate.tenant, expires_at=clock.now() - timedelta(seconds=1))

    with pytest.raises(Forbidden, match="which you do not hold here"):
        vote(change, estate.cy, REVIEW)


@pytest.mark.parametrize("how", ["system", "executor"])
def test_what_works_for_the_platform_never_votes(estate: SmallEstate, how: str) -> None:  # APR-1
    change = authorized_change(estate)
    robot = add_person("robot", is_system=how == "system", is_superuser=True)
    for role in (Role.TECHNICAL_REVIEWER, *([Role.EXECUTOR] if how == "executor" else [])):
        grant(robot, role, estate.tenant)

    with pytest.raises(Forbidden, match="carries out changes never votes"):
        vote(change, robot, REVIEW)


@pytest.mark.parametrize(
    "address", ["cy@retailer.example", "CY@Retailer.example", " cy@home.example ", "Cy@Home.Example"]
)
@pytest.mark.parametrize("contribution", [Contribution.AUTHORED, Contribution.COMMITTED])
def test_who_wrote_a_commit_stays_barred_whatever_becomes_of_their_addresses(
    estate: SmallEstate, address: str, contribution: Contribution
) -> None:  # APR-1, APR-2
    change = authorized_change(estate)
    User.objects.filter(pk=estate.cy.pk).update(email="Cy@retailer.example")
    EmailAddress.objects.create(user=estate.cy, email="cy@home.example")
    record_authors(change, emails=[(address, contribution)], at=NOW)
    User.objects.filter(pk=estate.cy.pk).update(email="new@retailer.example")
    EmailAddress.objects.filter(user=estate.cy).delete()
    estate.cy.refresh_from_db()

    with pytest.raises(Forbidden, match="wrote or committed"):
        vote(change, estate.cy, REVIEW)


def test_an_address_two_people_gave_bars_both(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    other = add_person("other")
    grant(other, Role.TECHNICAL_REVIEWER, estate.tenant)
    for person in (estate.cy, other):
        EmailAddress.objects.create(user=person, email="build@retailer.example")
    record_authors(change, emails=[("build@retailer.example", Contribution.COMMITTED)], at=NOW)
    EmailAddress.objects.all().delete()

    for person in (estate.cy, other):
        with pytest.raises(Forbidden, match="wrote or committed"):
            vote(change, person, REVIEW)


def test_an_author_nobody_knows_bars_whoever_turns_out_to_be_them(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    record_authors(change, emails=[("later@retailer.example", Contribution.AUTHORED)], at=NOW)
    vote(change, estate.cy, REVIEW, "abstain")

    EmailAddress.objects.create(user=estate.cy, email="later@retailer.example")

    with pytest.raises(Forbidden, match="wrote or committed"):
        vote(change, estate.cy, REVIEW)


@pytest.mark.parametrize("order", [(REVIEW, MANAGER), (MANAGER, REVIEW)])
def test_which_place_somebody_in_two_groups_fills_is_no_matter_of_order(order: tuple[str, str]) -> None:  # APR-3
    estate = small_estate()
    grant(estate.cy, Role.CHANGE_MANAGER, estate.tenant)
    grant(estate.ben, Role.TECHNICAL_REVIEWER, estate.tenant)
    change = authorized_change(estate)
    # Both may do both: whoever of them comes first and wherever, the second completes it.
    first, second = {REVIEW: (estate.cy, estate.ben), MANAGER: (estate.ben, estate.cy)}[order[0]]
    vote(change, first, REVIEW)
    vote(change, first, MANAGER)
    assert fresh(change).state == "authorize"

    vote(change, second, MANAGER)

    assert fresh(change).state == "scheduled"


@pytest.mark.parametrize("comment", UNSEEN)
def test_a_comment_that_nobody_can_see_rejects_nothing(estate: SmallEstate, comment: str) -> None:  # APR-5
    change = authorized_change(estate)

    with pytest.raises(Invalid) as refused:
        vote(change, estate.cy, REVIEW, "reject", comment=comment)

    assert list(refused.value.fields) == ["comment"]
    assert (fresh(change).state, Vote.objects.count()) == ("authorize", 0)


@pytest.mark.parametrize("comment", UNSEEN)
def test_a_comment_that_nobody_can_see_takes_nothing_back(estate: SmallEstate, comment: str) -> None:  # APR-5
    change = scheduled_change(estate)

    with pytest.raises(Invalid):
        approvals.withdraw_vote(
            actor=actor(estate.ben), requirement_id=requirement_named(change, MANAGER).pk, comment=comment, at=NOW
        )

    assert fresh(change).state == "scheduled"


def test_no_reason_of_a_change_may_be_invisible(estate: SmallEstate) -> None:
    change = authorized_change(estate)

    for act in (changes.hold_change, changes.cancel_change):
        with pytest.raises(Invalid) as refused:
            act(actor=actor(estate.ben), change_id=change.pk, reason="\u200b", at=NOW)
        assert list(refused.value.fields) == ["reason"]
    with pytest.raises(Invalid) as refused:
        changes.create_change(actor=actor(estate.ada), tenant_id=estate.tenant.pk, title="\u2060", at=NOW)
    assert list(refused.value.fields) == ["title"]


@pytest.mark.parametrize("state", ["implementing", "validating", "review", "closed"])
def test_nothing_is_taken_back_after_the_start(estate: SmallEstate, state: str) -> None:  # APR-6
    change = advance_to(estate, state)

    with pytest.raises(Conflict, match="Execution has started"):
        approvals.withdraw_vote(
            actor=actor(estate.ben), requirement_id=requirement_named(change, MANAGER).pk, comment="Late.", at=NOW
        )

    assert (fresh(change).state, Vote.objects.count()) == (state, 2)


def test_a_proof_from_the_future_is_none() -> None:  # APR-7
    estate = small_estate(tier=0)
    grant(add_person("second"), Role.CHANGE_MANAGER, estate.tenant)
    change = authorized_change(estate)

    for authenticated_at in (NOW + timedelta(seconds=1), None):
        with pytest.raises(Forbidden, match="tier 0"):
            vote(change, estate.cy, REVIEW, actor=replace(actor(estate.cy), authenticated_at=authenticated_at))


def test_votes_come_too_late_for_a_change_that_is_gone(estate: SmallEstate) -> None:  # APR-14
    change = authorized_change(estate)
    changes.cancel_change(actor=actor(estate.ada), change_id=change.pk, reason="Not needed.", at=NOW)

    with pytest.raises(Conflict):
        vote(change, estate.cy, REVIEW)
    with pytest.raises(IllegalTransition):
        changes.revise_change(
            actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "reason": "Again."}, at=NOW
        )

    assert (fresh(change).state, Vote.objects.count()) == ("canceled", 0)
