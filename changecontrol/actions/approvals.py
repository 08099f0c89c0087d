"""Votes: one check for pages, API and background work alike. What they come to is `actions.rounds`' work."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import NoReturn

from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.locking import locked_change, sight_of
from changecontrol.actions.refusals import audited
from changecontrol.actions.rounds import open_requirements, open_round, planned_end_of, recheck_approval, settle_round
from changecontrol.errors import Conflict, Forbidden, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ApprovalRound, ChangeRequest, Requirement, User, Vote
from changecontrol.queries import approvals as reading
from changecontrol.queries.approvals import Docket
from changecontrol.rules import approvals
from changecontrol.rules.approvals import Ballot, RefusalKind, Verdict
from changecontrol.rules.roles import Ability

__all__ = ["cast_vote", "open_round", "planned_end_of", "recheck_approval", "withdraw_vote"]

_ERRORS = {RefusalKind.FORBIDDEN: Forbidden, RefusalKind.CONFLICT: Conflict, RefusalKind.INVALID: Invalid}


@audited
def cast_vote(
    *,
    actor: Actor,
    requirement_id: int,
    verdict: str,
    seen_digest: str,
    comment: str = "",
    acting_for_id: int | None = None,
    at: datetime,
) -> Vote:
    """Record a vote, and what it brings about.

    The requirement's policy was copied at submission, so later policy edits do not affect it. The same vote again is
    the first one (APR-14). Raises `Conflict` when `seen_digest` is not the current plan's.
    """
    if verdict not in set(Verdict):
        raise Invalid("A vote is approve, reject, abstain or withdraw.", fields={"verdict": ["Choose a verdict."]})
    return _cast(
        actor,
        requirement_id,
        verdict=Verdict(verdict),
        seen_digest=seen_digest,
        comment=comment,
        acting_for_id=acting_for_id,
        at=at,
    )


@audited
def withdraw_vote(*, actor: Actor, requirement_id: int, comment: str, at: datetime) -> Vote:
    """Take back one's vote, until execution starts. A scheduled change that loses its quorum is asked for again."""
    return _cast(
        actor, requirement_id, verdict=Verdict.WITHDRAW, seen_digest=None, comment=comment, acting_for_id=None, at=at
    )


@transaction.atomic
def _cast(
    actor: Actor,
    requirement_id: int,
    *,
    verdict: Verdict,
    seen_digest: str | None,
    comment: str,
    acting_for_id: int | None,
    at: datetime,
) -> Vote:
    found = access.visible(sight_of(actor), Requirement.objects.filter(pk=requirement_id)).values("round__change")
    if (row := found.first()) is None:
        raise NotFound("There is no such approval requirement.")
    # Lock the change before its requirements: every writer takes them in this order.
    change = locked_change(actor, row["round__change"])
    requirement = Requirement.objects.select_for_update().get(pk=requirement_id)
    # Read again: whoever was deactivated since the request began, or while it waited, says nothing any more (APR-11).
    person = User.objects.get(pk=actor.person.pk)
    actor = replace(actor, user=person)
    round_ = ApprovalRound.objects.select_related("policy").get(pk=requirement.round_id)
    docket = reading.docket_of(change, round_=round_, at=at)
    mine = [one for one in docket.votes if one.requirement_id == requirement.pk and one.voter_id == person.pk]
    digest = docket.hearing.digest if seen_digest is None else seen_digest
    if mine and _is_same(mine[-1], verdict=verdict, digest=digest, comment=comment, acting_for_id=acting_for_id):
        return mine[-1]
    ballot = Ballot(requirement=str(requirement.pk), verdict=verdict, seen_digest=digest, comment=comment, at=at)
    _check(ballot, actor=actor, docket=docket, change=change, acting_for_id=acting_for_id)
    vote = Vote.objects.create(
        requirement=requirement,
        voter=person,
        turn=len(mine) + 1,
        verdict=verdict,
        plan_digest=digest,
        comment=comment.strip(),
        at=at,
        zone=person.zone,
        authentication=actor.authentication,
        authenticated_at=actor.authenticated_at,
        source_address=actor.source_address,
    )
    audit.record(
        Tag.VOTE_WITHDRAWN if verdict is Verdict.WITHDRAW else Tag.VOTE_CAST,
        subject=change,
        actor=actor,
        at=at,
        data={
            "round": round_.number,
            "requirement": requirement.name,
            "verdict": str(verdict),
            "plan_digest": digest,
            "comment": vote.comment,
            "authentication": actor.authentication,
        },
    )
    before = open_requirements(docket)
    settle_round(change, _with_vote(docket, vote), asked=before, actor=actor, at=at)
    return vote


def _check(ballot: Ballot, *, actor: Actor, docket: Docket, change: ChangeRequest, acting_for_id: int | None) -> None:
    scope = access.scope_of(actor)
    roles = access.roles_on(scope, change)
    voter = reading.voter_of(actor.person, roles=roles, authenticated_at=actor.authenticated_at)
    # The person comes first: whoever may not vote learns why, and nothing about the state of the round.
    requirement = next(one for one in docket.hearing.policy.requirements if one.key == ballot.requirement)
    refusal = approvals.check_eligible(voter, requirement=requirement, involvement=docket.hearing.involvement)
    if refusal is not None:
        _refuse(refusal.kind, refusal.sentence, field=refusal.code)
    if Ability.CHANGE_VOTE not in scope.abilities(roles):
        raise Forbidden(access.why_not(scope, Ability.CHANGE_VOTE))
    if acting_for_id is not None:
        raise Forbidden("You hold no delegation from this person.")
    refusal = approvals.check_vote(ballot, voter=voter, hearing=docket.hearing)
    if refusal is not None:
        _refuse(refusal.kind, refusal.sentence, field=refusal.code)
    if not docket.hearing.is_execution_started and not _is_asked(change, ballot.verdict):
        raise Conflict("This change is being judged again; vote when it asks for your decision.")


def _is_asked(change: ChangeRequest, verdict: Verdict) -> bool:
    if verdict is Verdict.WITHDRAW:
        return change.state in {ChangeState.AUTHORIZE, ChangeState.SCHEDULED, ChangeState.ON_HOLD}
    return change.state == ChangeState.AUTHORIZE


def _refuse(kind: RefusalKind, sentence: str, *, field: str) -> NoReturn:
    if kind is RefusalKind.INVALID:
        raise Invalid(sentence, fields={field: [sentence]})
    raise _ERRORS[kind](sentence)


def _is_same(last: Vote, *, verdict: Verdict, digest: str, comment: str, acting_for_id: int | None) -> bool:
    said = (last.verdict, last.plan_digest, last.comment, last.acting_for_id)
    return said == (str(verdict), digest, comment.strip(), acting_for_id)


def _with_vote(docket: Docket, vote: Vote) -> Docket:
    row = approvals.Vote(
        person=str(vote.voter_id),
        requirement=str(vote.requirement_id),
        verdict=Verdict(vote.verdict),
        digest=vote.plan_digest,
        sequence=vote.pk,
    )
    hearing = replace(docket.hearing, votes=(*docket.hearing.votes, row))
    return replace(docket, votes=(*docket.votes, vote), hearing=hearing)
