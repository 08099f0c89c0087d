"""Votes and rounds, against the real database. Ada asks, Cy reviews, Ben approves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.db import DatabaseError, transaction

from changecontrol import access
from changecontrol.actions import approvals, changes, policies
from changecontrol.actions.locking import locked_change, write
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import (
    ApprovalPolicy,
    ApprovalRound,
    AuditEvent,
    ChangeRequest,
    Contributor,
    Message,
    User,
    Vote,
)
from changecontrol.rules.roles import Role
from tests.changecontrol.actions.events import events
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_person,
    advance_to,
    assess,
    authorized_change,
    grant,
    requirement_named,
    scheduled_change,
    small_estate,
    stranger_estate,
    submitted_change,
)
from tests.factories.changes import CONTENT

pytestmark = pytest.mark.django_db

REVIEW, MANAGER = "technical_reviewer", "change_manager"


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def vote(
    change: ChangeRequest, person: User, role: str, verdict: str = "approve", *, comment: str = "", **words: object
) -> Vote:
    sent = {"seen_digest": change.plan.digest, "at": NOW, "actor": actor(person), **words}
    return approvals.cast_vote(
        requirement_id=requirement_named(change, role).pk,
        verdict=verdict,
        comment=comment,
        **sent,
    )


def fresh(change: ChangeRequest) -> ChangeRequest:
    return ChangeRequest.objects.get(pk=change.pk)


def rounds(change: ChangeRequest) -> list[tuple[int, str]]:
    return list(ApprovalRound.objects.filter(change=change).values_list("number", "state"))


def told(person: User) -> list[str]:
    return list(Message.objects.filter(recipient=person).order_by("pk").values_list("subject", flat=True))


@pytest.mark.parametrize("state", list(ChangeState))
def test_every_state_is_reached_by_actions(estate: SmallEstate, state: ChangeState) -> None:
    assert advance_to(estate, state).state == state


def test_a_vote_stores_who_what_when_and_how(estate: SmallEstate) -> None:  # APR-7
    change = authorized_change(estate)

    with events() as tags:
        one = vote(change, estate.cy, REVIEW, comment=" Looks right. ")

    assert tags == ["change:approval:cast"]
    assert (one.voter, one.verdict, one.plan_digest, one.comment) == (
        estate.cy, "approve", change.plan.digest, "Looks right.",
    )  # fmt: skip
    assert (one.at, one.zone, one.authentication, one.authenticated_at) == (NOW, "UTC", "password", NOW)
    assert (one.source_address, one.turn, one.acting_for) == ("192.0.2.7", 1, None)
    assert fresh(change).state == "authorize"


def test_the_last_vote_schedules_the_change_and_tells_ada(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    vote(change, estate.cy, REVIEW)

    with events() as tags:
        vote(change, estate.ben, MANAGER)

    assert tags == ["change:approval:cast", "change:approval:round_ended", "change:scheduled"]
    assert fresh(change).state == "scheduled"
    assert rounds(change) == [(1, "granted")]
    assert fresh(change).approval_expires_at == NOW + timedelta(days=7)
    assert told(estate.ada) == [f"{change.number} is approved and scheduled"]


def test_approvers_are_told_when_their_stage_opens_and_nobody_else(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    needs = f"{change.number} needs your decision"
    assert (told(estate.cy), told(estate.ben), told(estate.dee), told(estate.ada)) == ([needs], [], [], [])

    vote(change, estate.cy, REVIEW)

    assert (told(estate.cy), told(estate.ben), told(estate.dee)) == ([needs], [needs], [])


def test_the_same_vote_again_is_one_vote(estate: SmallEstate) -> None:  # APR-14
    change = authorized_change(estate)
    first = vote(change, estate.cy, REVIEW)

    with events() as tags:
        again = vote(change, estate.cy, REVIEW)

    assert (again, tags, Vote.objects.count()) == (first, [], 1)


def test_the_last_vote_again_is_one_vote_after_the_round_has_ended(estate: SmallEstate) -> None:  # APR-14
    change = scheduled_change(estate)

    again = vote(change, estate.ben, MANAGER)

    assert again == Vote.objects.latest("pk")
    assert Vote.objects.count() == 2


def test_the_requester_cannot_approve_whatever_roles_they_hold(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    for role in (Role.TECHNICAL_REVIEWER, Role.CHANGE_MANAGER):
        grant(estate.ada, role, estate.tenant)
    estate.ada.is_superuser = True
    estate.ada.save()

    with events() as tags, pytest.raises(Forbidden, match="You asked for this change"):
        vote(change, estate.ada, REVIEW)

    assert tags == ["refused"]
    assert not Vote.objects.exists()


def test_a_superuser_has_no_vote_by_that_power(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    root = add_person("root", is_superuser=True)

    with pytest.raises(Forbidden, match="which you do not hold here"):
        vote(change, root, REVIEW)


@pytest.mark.parametrize("contribution", ["edited", "owned", "authored", "committed", "executes"])
def test_whoever_had_a_hand_in_it_cannot_approve(estate: SmallEstate, contribution: str) -> None:  # APR-1, APR-2
    change = authorized_change(estate)
    Contributor.objects.create(change=change, user=estate.cy, contribution=contribution, at=NOW)

    with pytest.raises(Forbidden):
        vote(change, estate.cy, REVIEW)


def test_a_commit_author_is_known_by_any_of_their_addresses(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    EmailAddress.objects.create(user=estate.cy, email="cy@home.example")
    Contributor.objects.create(change=change, email="CY@home.example", contribution="authored", at=NOW)

    with pytest.raises(Forbidden, match="wrote or committed"):
        vote(change, estate.cy, REVIEW)


def test_handing_over_does_not_reset_the_rule(estate: SmallEstate) -> None:  # APR-2
    change = authorized_change(estate)
    grant(estate.cy, Role.ENGINEER, estate.tenant)
    other = add_person("other")
    grant(other, Role.ENGINEER, estate.tenant)
    changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=estate.cy.pk, at=NOW)
    changes.hand_over_change(actor=actor(estate.ada), change_id=change.pk, assignee_id=other.pk, at=NOW)

    with pytest.raises(Forbidden, match="edited or owned"):
        vote(change, estate.cy, REVIEW)


def test_one_person_in_two_groups_fills_one_place(estate: SmallEstate) -> None:  # APR-3
    grant(estate.cy, Role.CHANGE_MANAGER, estate.tenant)
    change = authorized_change(estate)
    vote(change, estate.cy, REVIEW)

    vote(change, estate.cy, MANAGER)

    assert fresh(change).state == "authorize"
    vote(change, estate.ben, MANAGER)
    assert fresh(change).state == "scheduled"


def test_a_tenants_own_policy_cannot_ask_for_less_than_the_platforms(estate: SmallEstate) -> None:
    admin = add_person("admin")
    grant(admin, Role.TENANT_ADMINISTRATOR, estate.tenant)
    one = {"quorum": 1, "role": "technical_reviewer"}
    requirements = [{**one, "key": f"review_{number}", "name": f"Review {number}"} for number in range(4)]
    content = {
        "match": {"environment_stages": ["production"]},
        "one_person_one_place": False,
        "stages": [{"name": "Review", "requirements": requirements}],
    }
    policies.publish_policy(
        actor=actor(admin), tenant_id=estate.tenant.pk, slug="ours", name="Ours", content=content, seen_version=0,
        at=NOW,
    )  # fmt: skip

    change = authorized_change(estate)

    assert change.rounds.get().policy.tenant is None
    vote(change, estate.cy, REVIEW)
    assert fresh(change).state == "authorize"


def test_later_policy_edits_touch_only_later_submissions(estate: SmallEstate) -> None:  # APR-4
    admin = add_person("root", is_superuser=True)
    change = submitted_change(estate)
    stages = ApprovalPolicy.objects.get(slug="production").content["stages"]
    content = {"match": {"environment_stages": ["production"]}, "stages": stages[:1]}
    policies.publish_policy(
        actor=actor(admin), tenant_id=None, slug="production", name="Production", content=content, seen_version=1,
        at=NOW + timedelta(minutes=1),
    )  # fmt: skip
    later = NOW + timedelta(minutes=2)

    before = assess(change, at=later)
    after = assess(submitted_change(estate, at=later), at=later)

    assert before.rounds.get().policy.version == 1
    assert before.rounds.get().requirements.count() == 2
    assert after.rounds.get().policy.version == 2
    assert after.rounds.get().requirements.count() == 1


@pytest.mark.parametrize("comment", ["", "  \n"])
def test_reject_needs_a_comment(estate: SmallEstate, comment: str) -> None:  # APR-5
    change = authorized_change(estate)

    with pytest.raises(Invalid) as refused:
        vote(change, estate.cy, REVIEW, "reject", comment=comment)

    assert list(refused.value.fields) == ["comment"]
    assert fresh(change).state == "authorize"


def test_withdraw_needs_a_comment(estate: SmallEstate) -> None:  # APR-5
    change = scheduled_change(estate)

    with pytest.raises(Invalid):
        approvals.withdraw_vote(
            actor=actor(estate.ben), requirement_id=requirement_named(change, MANAGER).pk, comment=" ", at=NOW
        )

    assert fresh(change).state == "scheduled"


def test_one_reject_ends_the_round_and_tells_ada(estate: SmallEstate) -> None:  # APR-5
    change = authorized_change(estate)

    with events() as tags:
        vote(change, estate.cy, REVIEW, "reject", comment="Not before Christmas.")

    assert tags == ["change:approval:cast", "change:approval:round_ended", "change:rejected"]
    assert fresh(change).state == "rejected"
    assert rounds(change) == [(1, "refused")]
    assert told(estate.ada) == [f"{change.number} is rejected"]


def test_resubmitting_opens_the_next_round_and_the_earlier_stays(estate: SmallEstate) -> None:  # APR-5
    change = advance_to(estate, "rejected")

    with events() as tags:
        changes.submit_change(actor=actor(estate.ada), change_id=change.pk, at=NOW)
    again = assess(change)

    assert tags == ["change:submitted"]
    assert rounds(change) == [(1, "refused"), (2, "open")]
    assert again.state == "authorize"
    assert Vote.objects.filter(requirement__round__number=1).count() == 1


def test_votes_are_append_only(estate: SmallEstate) -> None:  # APR-6
    change = authorized_change(estate)
    one = vote(change, estate.cy, REVIEW)

    for write_over in (lambda: Vote.objects.filter(pk=one.pk).update(verdict="reject"), one.delete):
        with pytest.raises(DatabaseError), transaction.atomic():
            write_over()

    assert Vote.objects.get().verdict == "approve"


def test_a_changed_mind_is_a_new_row(estate: SmallEstate) -> None:  # APR-6
    change = authorized_change(estate)
    vote(change, estate.cy, REVIEW, "abstain")
    vote(change, estate.cy, REVIEW, "approve")

    assert list(Vote.objects.values_list("turn", "verdict")) == [(1, "abstain"), (2, "approve")]


def test_withdrawing_takes_a_scheduled_change_back(estate: SmallEstate) -> None:  # APR-6
    change = scheduled_change(estate)

    with events() as tags:
        approvals.withdraw_vote(
            actor=actor(estate.ben),
            requirement_id=requirement_named(change, MANAGER).pk,
            comment="The warehouse counts stock that night.",
            at=NOW,
        )

    assert tags == ["change:approval:withdrawn", "change:approval:round_reopened", "change:unscheduled"]
    assert (fresh(change).state, fresh(change).approval_expires_at) == ("authorize", None)
    assert rounds(change) == [(1, "open")]
    vote(change, estate.ben, MANAGER)
    assert fresh(change).state == "scheduled"


def test_votes_cannot_be_withdrawn_once_execution_has_started(estate: SmallEstate) -> None:  # APR-6
    change = advance_to(estate, "implementing")

    with events() as tags, pytest.raises(Conflict, match="Execution has started"):
        approvals.withdraw_vote(
            actor=actor(estate.ben), requirement_id=requirement_named(change, MANAGER).pk, comment="Late.", at=NOW
        )

    assert tags == ["refused"]


@pytest.mark.parametrize("minutes", [None, 5, 60])
def test_tier_0_and_1_need_a_fresh_proof(minutes: int | None) -> None:  # APR-7
    estate = small_estate(tier=1)
    second = add_person("second")
    grant(second, Role.CHANGE_MANAGER, estate.tenant)
    change = authorized_change(estate)
    proved_at = None if minutes is None else NOW - timedelta(minutes=minutes)
    stale = access.Actor(user=estate.cy, via="api", authentication="password", authenticated_at=proved_at)

    with pytest.raises(Forbidden, match="tier 1"):
        vote(change, estate.cy, REVIEW, actor=stale)

    assert vote(change, estate.cy, REVIEW).verdict == "approve"


def test_two_change_managers_decide_on_tier_1() -> None:
    estate = small_estate(tier=1)
    second = add_person("second")
    grant(second, Role.CHANGE_MANAGER, estate.tenant)
    change = authorized_change(estate)

    vote(change, estate.cy, REVIEW)
    vote(change, estate.ben, MANAGER)
    assert fresh(change).state == "authorize"
    vote(change, second, MANAGER)

    assert fresh(change).state == "scheduled"


def test_a_vote_on_a_superseded_plan_is_refused_and_says_which_revision(estate: SmallEstate) -> None:  # APR-8
    change = authorized_change(estate)
    seen = change.plan.digest
    changes.revise_change(
        actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "reason": "Buyers wait."}, at=NOW
    )
    assess(change, images=[{"digest": "sha256:2"}])

    with events() as tags, pytest.raises(Conflict, match="Revision 2 replaced what you were reading"):
        vote(fresh(change), estate.cy, REVIEW, seen_digest=seen)

    assert tags == ["refused"]


def test_an_edit_that_alters_the_digest_makes_votes_stale(estate: SmallEstate) -> None:  # APR-8
    change = scheduled_change(estate)
    changes.revise_change(
        actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "max_unavailable": 2}, at=NOW
    )

    with events() as tags:
        again = assess(change, waves=["another"])

    assert again.state == "authorize"
    assert tags == ["change:authorizing", "change:approval:round_reopened", "change:approval:stale"]
    assert rounds(change) == [(1, "open")]


def test_an_edit_that_leaves_the_digest_alone_leaves_the_votes(estate: SmallEstate) -> None:  # APR-8
    change = scheduled_change(estate)
    changes.revise_change(
        actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "title": "Faster reorders"}, at=NOW
    )

    again = assess(change)

    assert (again.state, again.title, again.revision.number) == ("scheduled", "Faster reorders", 2)
    assert Vote.objects.count() == 2


def test_votes_on_an_unchanged_plan_survive_a_hold(estate: SmallEstate) -> None:
    change = scheduled_change(estate)
    changes.hold_change(actor=actor(estate.ben), change_id=change.pk, reason="The supplier is late.", at=NOW)
    changes.release_change(actor=actor(estate.ben), change_id=change.pk, at=NOW)

    assert assess(change).state == "scheduled"


def test_nobody_votes_while_a_change_is_judged_again(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    digest = change.plan.digest
    changes.revise_change(
        actor=actor(estate.ada), change_id=change.pk, content={**CONTENT, "reason": "Buyers wait."}, at=NOW
    )

    for seen in (digest, ""):
        with pytest.raises(Conflict):
            vote(change, estate.cy, REVIEW, seen_digest=seen)


def test_an_approval_ends_by_itself_and_never_approves(estate: SmallEstate) -> None:  # APR-10
    change = scheduled_change(estate)
    late = NOW + timedelta(days=7)

    with events() as tags, transaction.atomic():
        locked = locked_change(actor(estate.ada), change.pk)
        still = [
            approvals.recheck_approval(locked, actor=access.system_actor("t"), at=at)
            for at in (late - timedelta(seconds=1), late)
        ]

    assert still == [True, False]
    assert tags == ["change:approval:round_ended", "change:unscheduled", "change:approval:round_opened"]
    assert fresh(change).state == "authorize"
    assert rounds(change) == [(1, "expired"), (2, "open")]


@pytest.mark.parametrize("how", ["deactivated", "role revoked", "grant expired", "became owner"])
def test_an_approver_who_no_longer_counts_takes_the_change_back(estate: SmallEstate, how: str) -> None:  # APR-11
    change = scheduled_change(estate)
    if how == "deactivated":
        estate.ben.is_active = False
        estate.ben.save()
    elif how == "role revoked":
        access.revoke_role(estate.ben, Role.CHANGE_MANAGER, estate.tenant)
    elif how == "grant expired":
        grant(estate.ben, Role.CHANGE_MANAGER, estate.tenant, expires_at=NOW)
    else:
        Contributor.objects.create(change=change, user=estate.ben, contribution="owned", at=NOW)

    with events() as tags, transaction.atomic():
        locked = locked_change(actor(estate.ada), change.pk)
        assert not approvals.recheck_approval(locked, actor=access.system_actor("t"), at=NOW)

    assert tags == ["change:approval:round_reopened", "change:unscheduled"]
    assert fresh(change).state == "authorize"


def test_a_round_is_not_opened_that_nobody_could_fill(estate: SmallEstate) -> None:  # APR-12
    change = submitted_change(estate)
    Contributor.objects.create(change=change, user=estate.ben, contribution="authored", at=NOW)

    with pytest.raises(Invalid, match="“Change manager” needs 1"):
        assess(change)

    assert rounds(change) == []


def test_approval_after_the_planned_start_forces_a_new_schedule(estate: SmallEstate) -> None:  # APR-17
    start = NOW + timedelta(hours=1)
    change = authorized_change(estate, planned_start_at=start.isoformat())
    late = start + timedelta(minutes=1)
    for person, role in ((estate.cy, REVIEW), (estate.ben, MANAGER)):
        vote(change, person, role, at=late, actor=actor(person, at=late))

    waiting = fresh(change)
    assert (waiting.state, waiting.planned_start_at, waiting.authorized_at) == ("authorize", None, late)
    assert told(estate.ada) == [f"{change.number} is approved and needs a new start"]

    with events() as tags:
        changes.schedule_change(
            actor=actor(estate.ada), change_id=change.pk, planned_start_at=late + timedelta(hours=2), at=late
        )
    assert tags == ["change:scheduled"]
    assert fresh(change).state == "scheduled"


def test_approval_in_time_keeps_the_planned_start(estate: SmallEstate) -> None:  # APR-17
    start = NOW + timedelta(hours=1)

    change = scheduled_change(estate, planned_start_at=start.isoformat())

    assert (change.state, change.planned_start_at) == ("scheduled", start)
    assert change.planned_end_at == start + timedelta(seconds=2 * (600 + 600))


def test_development_needs_nobody(estate: SmallEstate) -> None:
    change = submitted_change(estate, environments=["development"])

    with events() as tags:
        done = assess(change)

    assert done.state == "scheduled"
    assert tags == [
        "change:authorizing", "change:approval:round_opened", "change:approval:round_ended", "change:scheduled",
    ]  # fmt: skip
    assert done.approval_expires_at is None


def test_nobody_votes_for_another_without_a_delegation(estate: SmallEstate) -> None:
    change = authorized_change(estate)

    with pytest.raises(Forbidden, match="no delegation"):
        vote(change, estate.cy, REVIEW, acting_for_id=estate.ben.pk)


def test_a_token_votes_only_where_it_is_scoped_to(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    limited = actor(estate.cy, scopes=frozenset({"change.view"}))

    with pytest.raises(Forbidden, match="not scoped"):
        vote(change, estate.cy, REVIEW, actor=limited)


def test_a_stranger_learns_nothing_from_a_vote(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    _, eve = stranger_estate()
    hidden = requirement_named(change, REVIEW).pk
    sentences = []

    with events() as tags:
        for requirement_id in (hidden, hidden + 1000):
            with pytest.raises(NotFound) as missing:
                approvals.cast_vote(
                    actor=actor(eve), requirement_id=requirement_id, verdict="approve", seen_digest="", at=NOW
                )
            sentences.append(missing.value.sentence)

    assert len(set(sentences)) == 1
    assert tags == []


def test_a_vote_rolled_back_leaves_neither_row_nor_event_nor_message(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    vote(change, estate.cy, REVIEW)
    before = (Vote.objects.count(), AuditEvent.objects.count(), Message.objects.count())

    with pytest.raises(RuntimeError), transaction.atomic():
        vote(change, estate.ben, MANAGER)
        raise RuntimeError("the machine stops here")

    assert (Vote.objects.count(), AuditEvent.objects.count(), Message.objects.count()) == before
    assert fresh(change).state == "authorize"


def test_the_plan_of_a_change_on_hold_keeps_its_votes_withdrawable(estate: SmallEstate) -> None:
    change = scheduled_change(estate)
    changes.hold_change(actor=actor(estate.ben), change_id=change.pk, reason="The supplier is late.", at=NOW)
    before = told(estate.ben)

    with events() as tags:
        approvals.withdraw_vote(
            actor=actor(estate.ben), requirement_id=requirement_named(change, MANAGER).pk, comment="Never mind.", at=NOW
        )

    assert tags == ["change:approval:withdrawn", "change:approval:round_reopened"]
    assert (fresh(change).state, rounds(change)) == ("on_hold", [(1, "open")])
    assert told(estate.ben) == before  # nobody is asked for a decision while the change waits aside


def test_a_vote_withdrawn_on_hold_grants_nothing_by_itself(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    cora = add_person("cora")
    grant(cora, Role.TECHNICAL_REVIEWER, estate.tenant)
    vote(change, cora, REVIEW, "abstain")
    vote(change, estate.cy, REVIEW)
    vote(change, estate.ben, MANAGER)
    access.revoke_role(estate.cy, Role.TECHNICAL_REVIEWER, estate.tenant)
    with transaction.atomic():
        locked = locked_change(actor(estate.ada), change.pk)
        approvals.recheck_approval(locked, actor=access.system_actor("t"), at=NOW)
    # Cy counts again, so the votes would suffice; nobody has counted them yet.
    grant(estate.cy, Role.TECHNICAL_REVIEWER, estate.tenant)
    changes.hold_change(actor=actor(estate.ben), change_id=change.pk, reason="The supplier is late.", at=NOW)

    with events() as tags:
        approvals.withdraw_vote(
            actor=actor(cora), requirement_id=requirement_named(change, REVIEW).pk, comment="No view.", at=NOW
        )

    assert tags == ["change:approval:withdrawn"]
    assert (fresh(change).state, rounds(change)) == ("on_hold", [(1, "open")])
    released = changes.release_change(actor=actor(estate.ben), change_id=change.pk, at=NOW)
    assert assess(released).state == "scheduled"


def test_canceling_ends_the_round_in_the_trail_too(estate: SmallEstate) -> None:  # AUD-1
    change = authorized_change(estate)

    with events() as tags:
        changes.cancel_change(actor=actor(estate.ada), change_id=change.pk, reason="Not needed.", at=NOW)

    assert tags == ["change:approval:round_ended", "change:canceled"]
    assert rounds(change) == [(1, "superseded")]


def test_a_granted_round_that_is_asked_again_says_so(estate: SmallEstate) -> None:  # AUD-1
    change = scheduled_change(estate)
    changes.hold_change(actor=actor(estate.ben), change_id=change.pk, reason="The supplier is late.", at=NOW)
    released = changes.release_change(actor=actor(estate.ben), change_id=change.pk, at=NOW)

    with events() as tags:
        assess(released)

    assert tags == [
        "change:authorizing", "change:approval:round_reopened", "change:approval:round_ended", "change:scheduled",
    ]  # fmt: skip
    assert rounds(change) == [(1, "granted")]


def test_writing_a_locked_change_notes_when(estate: SmallEstate) -> None:
    change = submitted_change(estate)

    with transaction.atomic():
        write(locked_change(actor(estate.ada), change.pk), at=NOW + timedelta(hours=1), problem="A gate failed.")

    assert (fresh(change).problem, fresh(change).updated_at) == ("A gate failed.", NOW + timedelta(hours=1))
