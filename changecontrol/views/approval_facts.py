"""Where the approvals of a change stand, in words: stages, who may fill a place, and what this person may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.urls import reverse

from changecontrol import access
from changecontrol.access import Actor, Scope
from changecontrol.lifecycles.approval import RoundState
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Vote
from changecontrol.models.approval import VoteVerdict
from changecontrol.queries import approvals as reading
from changecontrol.queries.approvals import Docket
from changecontrol.rules import approvals
from changecontrol.rules.approvals import RequirementStanding, StageStatus
from changecontrol.rules.roles import Ability
from changecontrol.views.wording import and_list, counted, initials

NAMED_PEOPLE = 4
VOTED = {"approve": "approved", "reject": "rejected", "abstain": "abstained on"}
WITHDRAWABLE = frozenset({ChangeState.AUTHORIZE, ChangeState.SCHEDULED, ChangeState.ON_HOLD})


@dataclass(frozen=True, slots=True)
class StageFacts:
    title: str
    state: str
    requirements: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """One round. `stages` are of the round that lives; an earlier one shows its votes alone."""

    number: int
    policy: str
    state: str
    stages: tuple[StageFacts, ...]
    votes: tuple[dict[str, Any], ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the person may do about this plan: `vote`, `confirm` (prove first who they are), `voted` or `refused`."""

    kind: str
    title: str = ""
    text: str = ""
    reasons: tuple[dict[str, str], ...] = ()
    requirement_id: int = 0
    url: str = ""
    confirm_url: str = ""
    withdraw_url: str = ""
    next: str = ""
    place: str = ""

    @property
    def may(self) -> bool:
        return self.kind == "vote"

    @property
    def why(self) -> dict[str, str]:
        return {"title": self.title, "text": self.text}


@dataclass(frozen=True, slots=True)
class Approvals:
    """Everything the section says. `docket` is None where no round was ever opened."""

    current: RoundFacts | None
    earlier: tuple[RoundFacts, ...]
    filled: int
    places: int
    docket: Docket | None = None

    @property
    def count(self) -> str:
        return f"{self.filled} of {self.places}" if self.places else ""


def approvals_of(change: ChangeRequest, *, viewer_id: int, at: datetime) -> Approvals:
    """Read every round of a change, the last one with its standing."""
    dockets = reading.dockets_of(change, at=at)
    if not dockets:
        return Approvals(None, (), 0, 0)
    docket = dockets[-1]
    standings = [one for stage in docket.standing.stages for one in stage.requirements]
    current = RoundFacts(
        number=docket.round.number,
        policy=f"“{docket.round.policy.name}”, version {docket.round.policy.version}",
        state=str(docket.round.state),
        stages=tuple(_stage(index, docket, viewer_id=viewer_id) for index in range(len(docket.standing.stages))),
        votes=(),
        summary="",
    )
    return Approvals(
        current=current,
        earlier=tuple(_earlier(one) for one in reversed(dockets[:-1])),
        filled=sum(one.filled_count for one in standings),
        places=sum(one.requirement.quorum for one in standings),
        docket=docket,
    )


def _stage(index: int, docket: Docket, *, viewer_id: int) -> StageFacts:
    stage = docket.standing.stages[index]
    is_open = stage.status is StageStatus.OPEN and docket.round.state == RoundState.OPEN
    state = str(stage.status) if docket.round.state in reading.LIVE else str(docket.round.state)
    return StageFacts(
        title=f"Stage {index + 1}, {stage.name[:1].lower()}{stage.name[1:]}",
        state=state,
        requirements=tuple(
            _requirement(one, docket, is_open=is_open, viewer_id=viewer_id) for one in stage.requirements
        ),
    )


def _requirement(one: RequirementStanding, docket: Docket, *, is_open: bool, viewer_id: int) -> dict[str, Any]:
    key = one.requirement.key
    return {
        "title": one.requirement.name,
        "note": _who(docket, key, viewer_id=viewer_id) if not one.is_complete else "",
        "filled": one.filled_count,
        "quorum": one.requirement.quorum,
        "is_met": one.is_complete,
        "is_open": is_open,
        "votes": [
            vote_facts(row, digest=docket.hearing.digest) for row in docket.votes if str(row.requirement_id) == key
        ],
    }


def _who(docket: Docket, key: str, *, viewer_id: int) -> str:
    """Say who may fill a place: names where they are few, and whether the reader is among them."""
    people = sorted(str(docket.people[pk]) for pk in docket.hearing.eligible.get(key, ()) if pk in docket.people)
    if not people:
        return "nobody can fill this place now; a tenant administrator can grant the role"
    names = and_list(people) if len(people) <= NAMED_PEOPLE else counted(len(people), "person", "people")
    is_mine = str(viewer_id) in docket.hearing.eligible.get(key, ())
    return f"{names} can fill this place" + ("; you are among them" if is_mine and len(people) > 1 else "")


def vote_facts(vote: Vote, *, digest: str) -> dict[str, Any]:
    """Return one vote with all it binds (APR-7)."""
    return {
        "person": str(vote.voter),
        "initials": initials(vote.voter),
        "acting_for": str(vote.acting_for or ""),
        "verdict": vote.verdict,
        "digest": vote.plan_digest,
        "at": vote.at,
        "how": vote.authentication,
        "comment": vote.comment,
        "is_stale": vote.plan_digest != digest,
    }


def _earlier(docket: Docket) -> RoundFacts:
    one, votes = docket.round, docket.votes
    against = next((vote for vote in votes if vote.verdict == VoteVerdict.REJECT), None)
    how = f"rejected by {against.voter}" if against else str(one.state)
    return RoundFacts(
        number=one.number,
        policy=f"“{one.policy.name}”, version {one.policy.version}",
        state=str(one.state),
        stages=(),
        votes=tuple(vote_facts(vote, digest=vote.plan_digest) for vote in votes),
        summary=f"Round {one.number}, revision {one.revision.number}: {how}, {counted(len(votes), 'vote')}",
    )


def decision_of(
    change: ChangeRequest, docket: Docket | None, *, actor: Actor, scope: Scope, at: datetime
) -> Decision | None:
    """Return what this person may do about the plan, and why not; None where it is no matter of theirs."""
    if docket is None or change.state not in WITHDRAWABLE:
        return None
    person = actor.person
    roles = access.roles_on(scope, change)
    voter = reading.voter_of(person, roles=roles, authenticated_at=actor.authenticated_at)
    barred = approvals.why_barred(voter, involvement=docket.hearing.involvement)
    if barred is None and Ability.CHANGE_VOTE not in scope.abilities(roles):
        return None
    if barred is not None:
        return Decision("refused", "You cannot approve this change.", barred.sentence) if _is_asked(change) else None
    if mine := _own_vote(docket, str(person.pk)):
        return _voted(change, docket, mine)
    if not _is_asked(change):
        return None
    return _of_open_places(change, docket, voter=voter, actor=actor, at=at)


def _is_asked(change: ChangeRequest) -> bool:
    return change.state == ChangeState.AUTHORIZE


def _own_vote(docket: Docket, person: str) -> Vote | None:
    """Return the person's vote that stands on the current plan."""
    mine = [row for row in docket.votes if str(row.voter_id) == person]
    latest = {row.requirement_id: row for row in mine}
    standing = [
        row
        for row in latest.values()
        if row.plan_digest == docket.hearing.digest and row.verdict != VoteVerdict.WITHDRAW
    ]
    return standing[-1] if standing else None


def _voted(change: ChangeRequest, docket: Docket, vote: Vote) -> Decision:
    back = " It goes back to authorisation then." if change.state == ChangeState.SCHEDULED else ""
    return Decision(
        "voted",
        f"You {VOTED[vote.verdict]} revision {docket.hearing.revision}.",
        f"You can take your vote back until execution starts.{back}",
        requirement_id=vote.requirement_id,
        withdraw_url=reverse("withdraw-vote", args=[vote.requirement_id]),
    )


def _of_open_places(
    change: ChangeRequest, docket: Docket, *, voter: approvals.Voter, actor: Actor, at: datetime
) -> Decision:
    refusals: list[str] = []
    for stage in docket.standing.stages:
        for one in stage.requirements:
            refusal = approvals.check_eligible(
                voter, requirement=one.requirement, involvement=docket.hearing.involvement
            )
            if refusal is not None:
                refusals.append(refusal.sentence)
            elif stage.status is StageStatus.OPEN and not one.is_complete:
                return _open_place(change, docket, one, actor=actor, at=at)
            elif stage.status is StageStatus.WAITING:
                text = "Your stage opens when the stages before it are complete."
                return Decision("refused", "An earlier stage is open.", text, place=one.requirement.name)
            else:
                refusals.append(f"“{one.requirement.name}” has the votes it needs already.")
    return Decision("refused", "No open place is yours to fill.", refusals[0] if refusals else "Nobody is asked.")


def _open_place(
    change: ChangeRequest, docket: Docket, one: RequirementStanding, *, actor: Actor, at: datetime
) -> Decision:
    pk = int(one.requirement.key)
    place = f"As {one.requirement.role.replace('_', ' ')}, {one.filled_count} of {one.requirement.quorum}."
    reasons = [
        {"tone": "good", "text": f"You hold the open place: {one.requirement.name}, {docket_stage(docket, one)}"},
        {"tone": "good", "text": "You did not ask for, edit or write any of it"},
    ]
    common = {"requirement_id": pk, "place": place, "url": reverse("vote", args=[pk]), "next": _next(docket, one)}
    if change.tier not in approvals.STRICT_TIERS:
        return Decision("vote", reasons=tuple(reasons), **common)  # type: ignore[arg-type]
    limit = timedelta(seconds=settings.ACCOUNT_REAUTHENTICATION_TIMEOUT)
    proved_at = actor.authenticated_at
    if proved_at is not None and at - proved_at < limit:
        left = int((limit - (at - proved_at)).total_seconds() // 60)
        words = f"Tier {change.tier}: you confirmed who you are; that holds for {left} min" if left else ""
        fresh = {
            "tone": "warn",
            "icon": "key",
            "text": words or f"Tier {change.tier}: your confirmation ends in a minute",
        }
        return Decision("vote", reasons=(*reasons, fresh), **common)  # type: ignore[arg-type]
    return Decision(
        "confirm",
        "Confirm it is you first.",
        f"Tier {change.tier} asks for your password or second factor right before you decide.",
        reasons=tuple(reasons),
        confirm_url=reverse("account_reauthenticate"),
        **common,  # type: ignore[arg-type]
    )


def docket_stage(docket: Docket, one: RequirementStanding) -> str:
    number = next(index for index, stage in enumerate(docket.standing.stages, start=1) if one in stage.requirements)
    return f"stage {number}"


def _next(docket: Docket, one: RequirementStanding) -> str:
    """Say what follows an approval."""
    left = [
        f"{row.requirement.name} ({counted(missing, 'place')})"
        for stage in docket.standing.stages
        for row in stage.requirements
        if (missing := row.missing_count - (1 if row == one else 0)) > 0
    ]
    if left:
        return f"After your approval these stay open: {and_list(left)}."
    return "Yours is the last approval: after it the change is scheduled."


def gate_reason(passing: int, total: int) -> dict[str, str]:
    """Return the line that says how many gates pass for this digest."""
    tone = "good" if passing == total else "warn"
    return {"tone": tone, "text": f"{passing} of {counted(total, 'gate')} pass for this digest"}


def with_reason(decision: Decision, reasons: Iterable[dict[str, str]]) -> Decision:
    return replace(decision, reasons=(*decision.reasons, *reasons))
