"""The round that approvers are asked in: opened, settled by their votes, taken back. The caller locked the change."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Max

from changecontrol import audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import move, write
from changecontrol.errors import Invalid
from changecontrol.events import Tag
from changecontrol.lifecycles.approval import ROUND, RoundState
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ApprovalPolicy, ApprovalRound, ChangeRequest, Plan, Requirement, User, Vote
from changecontrol.queries import approvals as reading
from changecontrol.queries import windows
from changecontrol.queries.approvals import Docket
from changecontrol.rules import policies
from changecontrol.rules.approvals import Outcome, StageStatus
from changecontrol.rules.content import Content


def open_round(change: ChangeRequest, *, plan: Plan, actor: Actor, at: datetime) -> ApprovalRound:
    """Ask the approvers about a plan: `assess → authorize`, and on to `scheduled` where nothing is (or is left) to ask.

    The caller has locked the change and made `plan` its current one. A round still alive goes on when its policy is the
    same: its votes count where the digest is the same and are stale where it is not (APR-8). Otherwise the next round
    opens with its own copy of the policy (APR-4, APR-5). Raises `Invalid` where the policy can no longer be fulfilled,
    for instance because the only approver wrote one of the commits (APR-12).
    """
    policy = reading.policy_for(change)
    if policy is None:
        raise Invalid("No approval policy fits this change. A tenant administrator can publish one.")
    _check_feasible(change, policy=reading.rule_of(policy), at=at)
    if change.state == ChangeState.ASSESS:
        move(change, "authorize", at=at)
        data = {"plan_digest": plan.digest}
        audit.record(Tag.CHANGE_AUTHORIZING, subject=change, actor=actor, at=at, data=data)
    round_ = reading.live_round(change)
    if round_ is not None and round_.policy_id != policy.pk:
        move_round(change, round_, "supersede", actor=actor, at=at)
        round_ = None
    if round_ is None:
        round_ = _new_round(change, policy_id=policy.pk, actor=actor, at=at)
    else:
        _resume_round(change, round_, plan=plan, actor=actor, at=at)
    docket = reading.docket_of(change, round_=round_, at=at)
    settle_round(change, docket, asked=frozenset(), actor=actor, at=at)
    return round_


def recheck_approval(change: ChangeRequest, *, actor: Actor, at: datetime) -> bool:
    """Tell whether a locked change is still approved; where it is not, send it back to authorisation and say why.

    An approval ends by itself after its tier's time (APR-10): the round expires and the next one asks everybody anew.
    An approver who left, or has a hand in the change by now, no longer counts (APR-11): the round opens again.
    """
    round_ = reading.live_round(change)
    if round_ is None or round_.state != RoundState.GRANTED:
        return False
    if change.approval_expires_at is not None and change.approval_expires_at <= at:
        move_round(change, round_, "expire", actor=actor, at=at)
        _send_back(change, "The approval is older than its tier allows.", actor=actor, at=at)
        fresh = _new_round(change, policy_id=round_.policy_id, actor=actor, at=at)
        _tell_stage(change, reading.docket_of(change, round_=fresh, at=at), asked=frozenset(), at=at)
        return False
    docket = reading.docket_of(change, round_=round_, at=at)
    if docket.standing.outcome is Outcome.GRANTED:
        return True
    move_round(change, round_, "reopen", actor=actor, at=at)
    _send_back(change, "An approver no longer counts, so the quorum is short.", actor=actor, at=at)
    _tell_stage(change, reading.docket_of(change, round_=round_, at=at), asked=frozenset(), at=at)
    return False


def move_round(change: ChangeRequest, round_: ApprovalRound, verb: str, *, actor: Actor, at: datetime) -> None:
    """Move a round of a locked change, with its event; it has ended unless it is open again."""
    round_.state = ROUND.target(verb, round_.state)
    is_open = round_.state == RoundState.OPEN
    round_.ended_at = None if is_open else at
    round_.save(update_fields=["state", "ended_at"])
    data = {"round": round_.number, "state": str(round_.state)}
    audit.record(Tag.ROUND_REOPENED if is_open else Tag.ROUND_ENDED, subject=change, actor=actor, at=at, data=data)


def planned_end_of(change: ChangeRequest, planned_start_at: datetime | None) -> datetime | None:
    """Return when a run that starts then is done at the latest, if nothing fails."""
    if planned_start_at is None:
        return None
    content = Content.from_json(change.revision.content)
    return planned_start_at + timedelta(seconds=content.estimated_seconds)


def settle_round(change: ChangeRequest, docket: Docket, *, asked: frozenset[str], actor: Actor, at: datetime) -> None:
    """Draw the consequence of the votes: reject, grant, go back, or ask whoever is asked next.

    A change that waits aside gets nothing and asks nobody: its votes are counted when it is judged again.
    """
    standing, round_ = docket.standing, docket.round
    if standing.outcome is Outcome.REFUSED:
        _reject(change, docket, actor=actor, at=at)
    elif standing.outcome is Outcome.GRANTED:
        if round_.state == RoundState.OPEN and change.state == ChangeState.AUTHORIZE:
            _grant(change, docket, actor=actor, at=at)
    else:
        if round_.state == RoundState.GRANTED:
            move_round(change, round_, "reopen", actor=actor, at=at)
            _send_back(change, f"{actor.person} withdrew a vote.", actor=actor, at=at)
        _tell_stage(change, docket, asked=asked, at=at)


def _reject(change: ChangeRequest, docket: Docket, *, actor: Actor, at: datetime) -> None:
    vote = docket.votes[-1]
    move_round(change, docket.round, "refuse", actor=actor, at=at)
    move(change, "reject", at=at)
    data = {"round": docket.round.number, "comment": vote.comment}
    audit.record(Tag.CHANGE_REJECTED, subject=change, actor=actor, at=at, data=data)
    text = f"{actor.person} rejected revision {docket.hearing.revision}: {vote.comment}"
    outbox.post(
        to=_owners(change),
        tag=Tag.CHANGE_REJECTED,
        subject=f"{change.number} is rejected",
        text=text,
        at=at,
        change=change,
    )


def _grant(change: ChangeRequest, docket: Docket, *, actor: Actor, at: datetime) -> None:
    """End the round, and schedule the change where its planned start can be kept.

    An approval that comes after the planned start, or a start at which nothing may run, leaves the change approved but
    unscheduled: somebody chooses a new start by `schedule_change` (APR-17, WIN-5).
    """
    move_round(change, docket.round, "grant", actor=actor, at=at)
    has_places = bool(docket.hearing.policy.stages)
    expires = policies.approval_expires_at(at, tier=change.tier) if has_places else None
    planned = change.planned_start_at
    problem = _start_problem(change, planned, granted_at=at)
    if problem:
        write(change, at=at, authorized_at=at, approval_expires_at=expires, planned_start_at=None, planned_end_at=None)
        text = f"{problem} Choose a new start."
        subject = f"{change.number} is approved and needs a new start"
        outbox.post(to=_owners(change), tag=Tag.ROUND_ENDED, subject=subject, text=text, at=at, change=change)
        return
    end = planned_end_of(change, planned)
    move(change, "schedule", at=at, authorized_at=at, approval_expires_at=expires, planned_end_at=end)
    data = {"planned_start_at": planned.isoformat() if planned else "", "plan_digest": docket.hearing.digest}
    audit.record(Tag.CHANGE_SCHEDULED, subject=change, actor=actor, at=at, data=data)
    when = f"{planned:%d %b %Y %H:%M} UTC" if planned else "as soon as the window allows"
    subject = f"{change.number} is approved and scheduled"
    text = f"It starts {when}."
    outbox.post(to=_owners(change), tag=Tag.CHANGE_SCHEDULED, subject=subject, text=text, at=at, change=change)
    wiring.nudge("rollout")


def _start_problem(change: ChangeRequest, planned: datetime | None, *, granted_at: datetime) -> str:
    if planned is None:
        return ""
    if policies.needs_new_schedule(granted_at=granted_at, planned_start=planned):
        return f"The approval came after the planned start, {planned:%d %b %Y %H:%M} UTC."
    verdicts = windows.judge_change(change, at=planned)
    if windows.is_start_allowed(verdicts):
        return ""
    return next((one.sentence for one in verdicts if not one.judgement.is_open), "Nothing may start then.")


def _send_back(change: ChangeRequest, why: str, *, actor: Actor, at: datetime) -> None:
    """Take the approval back from a change: it is asked for again, unless it waits aside anyway."""
    gone = {"authorized_at": None, "approval_expires_at": None}
    if change.state != ChangeState.SCHEDULED:
        write(change, at=at, **gone)
        return
    move(change, "unschedule", at=at, **gone)
    audit.record(Tag.CHANGE_UNSCHEDULED, subject=change, actor=actor, at=at, data={"why": why})
    subject = f"{change.number} waits for approval again"
    outbox.post(to=_owners(change), tag=Tag.CHANGE_UNSCHEDULED, subject=subject, text=why, at=at, change=change)


def _new_round(change: ChangeRequest, *, policy_id: int, actor: Actor, at: datetime) -> ApprovalRound:
    policy = ApprovalPolicy.objects.get(pk=policy_id)
    last = change.rounds.aggregate(last=Max("number"))["last"] or 0
    round_ = ApprovalRound.objects.create(
        change=change,
        number=last + 1,
        revision=change.revision,
        policy=policy,
        policy_content=policy.content,
        opened_at=at,
    )
    Requirement.objects.bulk_create(
        Requirement(
            round=round_,
            stage=stage_number,
            stage_name=stage.name,
            position=position,
            role=one.role,
            name=one.name,
            quorum=one.quorum,
        )
        for stage_number, stage in enumerate(reading.rule_of(policy).stages, start=1)
        for position, one in enumerate(stage.requirements, start=1)
    )
    data = {"round": round_.number, "policy": {"slug": policy.slug, "version": policy.version}}
    audit.record(Tag.ROUND_OPENED, subject=change, actor=actor, at=at, data=data)
    return round_


def _resume_round(change: ChangeRequest, round_: ApprovalRound, *, plan: Plan, actor: Actor, at: datetime) -> None:
    if round_.state == RoundState.GRANTED:
        move_round(change, round_, "reopen", actor=actor, at=at)
    stale = Vote.objects.filter(requirement__round=round_).exclude(plan_digest=plan.digest).select_related("voter")
    voters = sorted({one.voter.username for one in stale})
    if voters:
        data = {"round": round_.number, "voters": voters, "plan_digest": plan.digest}
        audit.record(Tag.VOTES_STALE, subject=change, actor=actor, at=at, data=data)


def _check_feasible(change: ChangeRequest, *, policy: policies.Policy, at: datetime) -> None:
    environments = list(change.environments.all())
    sentences = reading.infeasible(policy, change=change, environments=environments, barred=(), at=at)
    if sentences:
        raise Invalid(" ".join(sentences), fields={"approval": list(sentences)})


def open_requirements(docket: Docket) -> frozenset[str]:
    return frozenset(
        one.requirement.key
        for stage in docket.standing.stages
        if stage.status is StageStatus.OPEN
        for one in stage.requirements
    )


def _tell_stage(change: ChangeRequest, docket: Docket, *, asked: frozenset[str], at: datetime) -> None:
    """Tell those who may fill what is open now, except where it was open before. They all hold a role here."""
    if change.state != ChangeState.AUTHORIZE:
        return
    opened = open_requirements(docket) - asked
    voted = {one.person for one in docket.hearing.votes if one.digest == docket.hearing.digest}
    keys = {person for key in opened for person in docket.hearing.eligible[key]} - voted
    people: list[User] = [docket.people[key] for key in sorted(keys)]
    subject = f"{change.number} needs your decision"
    outbox.post(to=people, tag=Tag.ROUND_OPENED, subject=subject, text=change.title, at=at, change=change)


def _owners(change: ChangeRequest) -> list[User]:
    return [one for one in (change.requester, change.assignee) if one is not None]
