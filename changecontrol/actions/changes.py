"""What people do with a change: write it, submit it, hold, schedule, hand over, cancel and close it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.actions import approvals
from changecontrol.actions.execution import fail_change, finish_change, review_change, start_change
from changecontrol.actions.locking import locked_change, move, reason_of, sight_of, write
from changecontrol.actions.refusals import audited
from changecontrol.actions.rounds import move_round
from changecontrol.actions.submissions import Submission, add_contributor, revise_change, submit_change
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.lifecycles.approval import RoundState
from changecontrol.lifecycles.change import CHANGE, ENDED, EXECUTING, ChangeKind, ChangeState, ChangeType, CloseCode
from changecontrol.lifecycles.run import TargetState
from changecontrol.models import ChangeRequest, RunTarget, Tenant, User
from changecontrol.models.change import Contribution
from changecontrol.queries import estate, windows
from changecontrol.queries.approvals import live_round
from changecontrol.rules.content import OFFERED_KINDS, OFFERED_TYPES, Content
from changecontrol.rules.roles import Ability
from changecontrol.rules.words import seen
from changecontrol.rules.years import YEARS, is_within_years

__all__ = [
    "Submission",
    "cancel_change",
    "close_change",
    "create_change",
    "fail_change",
    "finish_change",
    "hand_over_change",
    "hold_change",
    "release_change",
    "review_change",
    "revise_change",
    "save_draft",
    "schedule_change",
    "start_change",
    "submit_change",
]

DRAFTABLE = frozenset({ChangeState.DRAFT, ChangeState.REJECTED, ChangeState.EXPIRED})
"""Where the answers are written in place; elsewhere a new revision replaces them."""
STARTED = EXECUTING | {ChangeState.REVIEW}
"""Where an approval has done its work: who leaves or joins now takes nothing back."""


@audited
@transaction.atomic
def create_change(
    *,
    actor: Actor,
    tenant_id: int,
    title: str,
    kind: str = ChangeKind.DEPLOY,
    type: str = ChangeType.NORMAL,  # noqa: A002
    at: datetime,
) -> ChangeRequest:
    """File a draft. Its number is given now and never used again."""
    scope = sight_of(actor)
    tenant = access.visible(scope, Tenant.objects.filter(pk=tenant_id)).first()
    if tenant is None:
        raise NotFound("There is no such tenant.")
    _require_create(actor, tenant)
    fields = {}
    if not seen(title) or len(title.strip()) > 200:
        fields["title"] = ["Give the change a title of at most 200 characters."]
    if kind not in OFFERED_KINDS:
        fields["kind"] = [f"This kind of work is not carried out here yet; choose {_or(OFFERED_KINDS)}."]
    if type not in OFFERED_TYPES:
        fields["type"] = [f"Choose {_or(OFFERED_TYPES)}."]
    if fields:
        raise Invalid("The change could not be filed.", fields=fields)
    change = ChangeRequest.objects.create(
        tenant=tenant,
        title=title.strip(),
        kind=kind,
        type=type,
        requester=actor.person,
        draft=Content(title=title.strip()).to_json(),
        draft_version=1,
        created_at=at,
        updated_at=at,
    )
    add_contributor(change, Contribution.REQUESTED, user_id=actor.person.pk, at=at)
    data = {"number": change.number, "title": change.title, "kind": str(kind), "type": str(type)}
    audit.record(Tag.CHANGE_CREATED, subject=change, actor=actor, at=at, data=data)
    return change


@audited
@transaction.atomic
def save_draft(
    *, actor: Actor, change_id: int, content: Mapping[str, Any], seen_version: int, at: datetime
) -> ChangeRequest:
    """Keep the answers as far as they are. Raises `Conflict` where somebody saved another version meanwhile."""
    change = locked_change(actor, change_id)
    access.require(actor, Ability.CHANGE_EDIT, change)
    if change.state not in DRAFTABLE:
        raise IllegalTransition("This change is submitted; write a new revision instead.")
    if seen_version != change.draft_version:
        raise Conflict(
            f"This draft was saved elsewhere meanwhile: it is at version {change.draft_version}, and you were "
            f"writing on version {seen_version}. Compare before you save."
        )
    asked = Content.from_json(content)
    old, new = Content.from_json(change.draft).to_json(), asked.to_json()
    if old == new:
        return change
    title = asked.title.strip()
    if len(title) > 200:
        raise Invalid("The title is too long.", fields={"title": ["Say it in at most 200 characters."]})
    change.environments.set(
        estate.environments_named(sight_of(actor), tenant_id=change.tenant_id, slugs=asked.environments).values()
    )
    add_contributor(change, Contribution.EDITED, user_id=actor.person.pk, at=at)
    write(change, at=at, draft=new, draft_version=change.draft_version + 1, title=title or change.title)
    changed = sorted(key for key in old.keys() | new.keys() if new.get(key) != old.get(key))
    data = {"version": change.draft_version, "fields": changed}
    audit.record(Tag.CHANGE_DRAFT_SAVED, subject=change, actor=actor, at=at, data=data)
    return change


@audited
@transaction.atomic
def hold_change(*, actor: Actor, change_id: int, reason: str, at: datetime) -> ChangeRequest:
    """Set a change aside before its execution. Nothing is asked or started until it is released."""
    change = locked_change(actor, change_id)
    CHANGE.target("hold", change.state)
    access.require(actor, Ability.CHANGE_HOLD, change)
    words = reason_of(reason, field="reason", sentence="Say why the change is held.")
    before = move(change, "hold", at=at, hold_reason=words[:500])
    data = {"from": before, "reason": words}
    audit.record(Tag.CHANGE_HELD, subject=change, actor=actor, at=at, data=data)
    _tell_owners(change, actor, tag=Tag.CHANGE_HELD, what="is on hold", text=f"{actor.person}: {words}", at=at)
    return change


@audited
@transaction.atomic
def release_change(*, actor: Actor, change_id: int, at: datetime) -> ChangeRequest:
    """End a hold: the change is resolved and judged again, and votes on an unchanged plan still count."""
    change = locked_change(actor, change_id)
    CHANGE.target("release", change.state)
    access.require(actor, Ability.CHANGE_HOLD, change)
    move(change, "release", at=at, hold_reason="", plan=None)
    audit.record(Tag.CHANGE_RELEASED, subject=change, actor=actor, at=at)
    _tell_owners(change, actor, tag=Tag.CHANGE_RELEASED, what="goes on", text="It is judged again now.", at=at)
    wiring.nudge("assessment")
    return change


@audited
@transaction.atomic
def cancel_change(*, actor: Actor, change_id: int, reason: str = "", at: datetime) -> ChangeRequest:
    """End a change that was never executed. Anything beyond a draft needs a reason."""
    change = locked_change(actor, change_id)
    CHANGE.target("cancel", change.state)
    access.require(actor, Ability.CHANGE_CANCEL, change)
    words = reason.strip()
    if change.state != ChangeState.DRAFT:
        words = reason_of(reason, field="reason", sentence="Say why the change is canceled.")
    round_ = live_round(change)
    if round_ is not None:
        move_round(change, round_, "supersede", actor=actor, at=at)
    before = move(change, "cancel", at=at, close_note=words, closed_at=at, close_code=CloseCode.NOT_EXECUTED)
    data = {"from": before, "reason": words}
    audit.record(Tag.CHANGE_CANCELED, subject=change, actor=actor, at=at, data=data)
    _tell_owners(change, actor, tag=Tag.CHANGE_CANCELED, what="is canceled", text=words, at=at)
    return change


@audited
@transaction.atomic
def schedule_change(*, actor: Actor, change_id: int, planned_start_at: datetime | None, at: datetime) -> ChangeRequest:
    """Choose when an approved change starts; None is “as soon as the window allows”.

    Also the way on for a change that was approved after its planned start (APR-17). Raises `Conflict` where the time is
    past, outlives the approval, or lies where no target of the first wave may start (WIN-5).
    """
    change = locked_change(actor, change_id)
    CHANGE.target("schedule", change.state)
    access.require(actor, Ability.CHANGE_SCHEDULE, change)
    round_ = live_round(change)
    if round_ is None or round_.state != RoundState.GRANTED:
        raise IllegalTransition("This change is not approved yet, so it cannot be scheduled.")
    if planned_start_at is not None:
        _check_start(change, planned_start_at, at=at)
        # It comes in the asker's own zone, and is told to others as UTC.
        planned_start_at = planned_start_at.astimezone(UTC)
    tag = Tag.CHANGE_SCHEDULED if change.state == ChangeState.AUTHORIZE else Tag.CHANGE_RESCHEDULED
    earlier = change.planned_start_at
    end = approvals.planned_end_of(change, planned_start_at)
    move(change, "schedule", at=at, planned_start_at=planned_start_at, planned_end_at=end)
    data = {"planned_start_at": _iso(planned_start_at), "before": _iso(earlier)}
    audit.record(tag, subject=change, actor=actor, at=at, data=data)
    when = f"{planned_start_at:%d %b %Y %H:%M} UTC" if planned_start_at else "as soon as the window allows"
    _tell_owners(change, actor, tag=tag, what="is scheduled", text=f"It starts {when}.", at=at)
    wiring.nudge("rollout")
    return change


@audited
@transaction.atomic
def close_change(*, actor: Actor, change_id: int, close_code: str, note: str = "", at: datetime) -> ChangeRequest:
    """End the review. Raises `Conflict` while a target is deferred: nobody may lose sight of it (RUN-4)."""
    change = locked_change(actor, change_id)
    CHANGE.target("close", change.state)
    access.require(actor, Ability.CHANGE_CLOSE, change)
    if close_code not in set(CloseCode):
        sentence = f"Choose how it ended: {_or(CloseCode)}."
        raise Invalid(sentence, fields={"close_code": [sentence]})
    code = CloseCode(close_code)
    if code is not CloseCode.SUCCESSFUL:
        note = reason_of(note, field="note", sentence="Say what happened.")
    deferred = RunTarget.objects.filter(run__change=change, state=TargetState.DEFERRED).count()
    if deferred:
        raise Conflict(f"{deferred} deferred targets still wait; retry or skip each before closing.")
    proposed = change.close_code
    move(change, "close", at=at, close_code=code, close_note=note.strip() or change.close_note, closed_at=at)
    data = {"close_code": str(code), "proposed": str(proposed), "note": note.strip()}
    audit.record(Tag.CHANGE_CLOSED, subject=change, actor=actor, at=at, data=data)
    _tell_owners(change, actor, tag=Tag.CHANGE_CLOSED, what=f"is closed: {code.label.lower()}", text=note, at=at)
    return change


@audited
@transaction.atomic
def hand_over_change(*, actor: Actor, change_id: int, assignee_id: int, at: datetime) -> ChangeRequest:
    """Give a change to another owner. Whoever ever owned it can never approve it (APR-2)."""
    change = locked_change(actor, change_id)
    access.require(actor, Ability.CHANGE_EDIT, change)
    if change.state in ENDED:
        raise IllegalTransition("This change has ended, so it needs no owner.")
    person = User.objects.filter(pk=assignee_id, is_system=False).first()
    if person is None or not access.can(Actor(user=person, via=actor.via), Ability.CHANGE_EDIT, change):
        # Whether such a person exists elsewhere is none of the asker's business.
        sentence = "Nobody with this name may own this change."
        raise Invalid(sentence, fields={"assignee": [sentence]})
    if change.assignee_id == person.pk:
        return change
    before = change.assignee.username if change.assignee else ""
    add_contributor(change, Contribution.OWNED, user_id=person.pk, at=at)
    write(change, at=at, assignee=person)
    data = {"from": before, "to": person.username}
    audit.record(Tag.CHANGE_HANDED_OVER, subject=change, actor=actor, at=at, data=data)
    _tell_owners(change, actor, tag=Tag.CHANGE_HANDED_OVER, what=f"belongs to {person} now", text="", at=at)
    if change.state not in STARTED:
        # The new owner may have voted: that vote no longer counts (APR-11).
        approvals.recheck_approval(change, actor=actor, at=at)
    return change


def _require_create(actor: Actor, tenant: Tenant) -> None:
    """Require the right on the tenant, or on any one of its environments."""
    scope = access.scope_of(actor)
    roles = scope.roles_on_tenant(tenant.pk).union(
        *(roles for pk, roles in scope.environments.items() if scope.environment_tenants[pk] == tenant.pk)
    )
    if Ability.CHANGE_CREATE not in scope.abilities(roles):
        raise Forbidden(access.why_not(scope, Ability.CHANGE_CREATE))


def _check_start(change: ChangeRequest, planned_start_at: datetime, *, at: datetime) -> None:
    if planned_start_at <= at:
        raise Conflict("This start has passed; choose a later one.")
    if not is_within_years(planned_start_at):
        raise Conflict(f"Choose a start before the year {YEARS.stop}.")
    if change.approval_expires_at is not None and planned_start_at >= change.approval_expires_at:
        raise Conflict(f"The approval ends {change.approval_expires_at:%d %b %Y %H:%M} UTC; choose an earlier start.")
    verdicts = windows.judge_change(change, at=planned_start_at)
    if not windows.is_start_allowed(verdicts):
        why = next((one.sentence for one in verdicts if not one.judgement.is_open), "Nothing may start then.")
        raise Conflict(why)


def _tell_owners(change: ChangeRequest, actor: Actor, *, tag: Tag, what: str, text: str, at: datetime) -> None:
    """Tell the requester and the owner, but not the one who did it."""
    people = [one for one in (change.requester, change.assignee) if one is not None and one != actor.user]
    outbox.post(to=people, tag=tag, subject=f"{change.number} {what}", text=text or change.title, at=at, change=change)


def _iso(at: datetime | None) -> str:
    return at.isoformat() if at else ""


def _or(words: Any) -> str:
    names = sorted(str(word) for word in words)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
