"""A change in any state, reached by the actions that lead there; only the workflows' part is played by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from changecontrol import access
from changecontrol.actions import approvals, changes
from changecontrol.actions.locking import locked_change, move, write
from changecontrol.lifecycles.change import MAIN_PATH, ChangeState
from changecontrol.models import ChangeRequest, Plan, Requirement, Run, User
from changecontrol.rules import plan as plans
from tests.factories.estate import NOW, SmallEstate, actor

CONTENT: dict[str, Any] = {
    "title": "Faster reorder proposals",
    "reason": "Buyers miss the 07:00 supplier cut-off.",
    "security_impact": "None.",
    "environments": ["production"],
    "revision_name": "main",
    "commit": "5fa0c33" + "0" * 33,
    "rollback_plan": "Apply the previous commit.",
    "test_evidence": "Rehearsed on staging on Sunday.",
    "risk_answers": {
        "rollback": "automatic",
        "tested": "staging_same_data",
        "experience": "often",
        "downtime": "no",
        "schema": "no",
        "security": "no",
    },
}
"""Answers that can be submitted as they are."""

PLAN_DOCUMENT: dict[str, Any] = {"commit": CONTENT["commit"], "format": 1, "images": [], "objects": []}


def draft_change(
    estate: SmallEstate, *, by: User | None = None, at: datetime = NOW, kind: str = "deploy", **answers: Any
) -> ChangeRequest:
    person = actor(by or estate.ada, at=at)
    change = changes.create_change(actor=person, tenant_id=estate.tenant.pk, title=CONTENT["title"], kind=kind, at=at)
    return changes.save_draft(
        actor=person, change_id=change.pk, content={**CONTENT, **answers}, seen_version=change.draft_version, at=at
    )


def submitted_change(
    estate: SmallEstate, *, by: User | None = None, at: datetime = NOW, **answers: Any
) -> ChangeRequest:
    change = draft_change(estate, by=by, at=at, **answers)
    return changes.submit_change(actor=actor(by or estate.ada, at=at), change_id=change.pk, at=at).change


def plan_for(change: ChangeRequest, *, at: datetime = NOW, **fields: Any) -> Plan:
    """Store a plan of the current revision as the resolver would; the same fields give the same digest."""
    document = {**PLAN_DOCUMENT, "change": change.number, **fields}
    return Plan.objects.get_or_create(
        revision=change.revision,
        digest=plans.digest_of(document),
        defaults={"document": plans.canonical(document).decode(), "created_at": at},
    )[0]


def assess(change: ChangeRequest, *, at: datetime = NOW, **fields: Any) -> ChangeRequest:
    """Play the assessment: resolve, find nothing wrong, ask the approvers."""
    with transaction.atomic():
        locked = ChangeRequest.objects.select_for_update().get(pk=change.pk)
        move(locked, "assess", at=at)
        plan = plan_for(locked, at=at, **fields)
        write(locked, at=at, plan=plan)
        approvals.open_round(locked, plan=plan, actor=access.system_actor("test"), at=at)
    return ChangeRequest.objects.get(pk=change.pk)


def authorized_change(
    estate: SmallEstate, *, by: User | None = None, at: datetime = NOW, **answers: Any
) -> ChangeRequest:
    """Return a change that waits for its approvers, with a resolved plan."""
    return assess(submitted_change(estate, by=by, at=at, **answers), at=at)


def requirement_named(change: ChangeRequest, role: str) -> Requirement:
    """Return the requirement for a role in the newest round."""
    return Requirement.objects.filter(round__change=change, role=role).order_by("-round__number").first()  # type: ignore[return-value]


def scheduled_change(estate: SmallEstate, *, at: datetime = NOW, **answers: Any) -> ChangeRequest:
    """Return a change that Cy and Ben have approved."""
    change = authorized_change(estate, at=at, **answers)
    for person, role in ((estate.cy, "technical_reviewer"), (estate.ben, "change_manager")):
        approvals.cast_vote(
            actor=actor(person, at=at),
            requirement_id=requirement_named(change, role).pk,
            verdict="approve",
            seen_digest=change.plan.digest,
            at=at,
        )
    return ChangeRequest.objects.get(pk=change.pk)


def advance_to(estate: SmallEstate, state: str, *, at: datetime = NOW, **answers: Any) -> ChangeRequest:
    """Return a change at any state of the lifecycle."""
    change = _toward(estate, ChangeState(state), at=at, **answers)
    assert change.state == state
    return change


def _toward(estate: SmallEstate, state: ChangeState, *, at: datetime, **answers: Any) -> ChangeRequest:
    if state is ChangeState.DRAFT:
        return draft_change(estate, at=at, **answers)
    if state is ChangeState.SUBMITTED:
        return submitted_change(estate, at=at, **answers)
    if state is ChangeState.ASSESS:
        return _by_hand(submitted_change(estate, at=at, **answers), "assess", at=at)
    if state in {ChangeState.ON_HOLD, ChangeState.CANCELED}:
        change = submitted_change(estate, at=at, **answers)
        words: dict[str, Any] = {"change_id": change.pk, "reason": "The supplier is late.", "at": at}
        verb = changes.hold_change if state is ChangeState.ON_HOLD else changes.cancel_change
        return verb(actor=actor(estate.ben, at=at), **words)
    if state is ChangeState.REJECTED:
        change = authorized_change(estate, at=at, **answers)
        return reject(estate, change, at=at)
    if state is ChangeState.AUTHORIZE:
        return authorized_change(estate, at=at, **answers)
    if state is ChangeState.EXPIRED:
        return _by_hand(authorized_change(estate, at=at, **answers), "expire", at=at)
    return _executed(estate, state, at=at, **answers)


def reject(estate: SmallEstate, change: ChangeRequest, *, at: datetime = NOW) -> ChangeRequest:
    approvals.cast_vote(
        actor=actor(estate.cy, at=at),
        requirement_id=requirement_named(change, "technical_reviewer").pk,
        verdict="reject",
        seen_digest=change.plan.digest,
        comment="Not before Christmas.",
        at=at,
    )
    return ChangeRequest.objects.get(pk=change.pk)


def _executed(estate: SmallEstate, state: ChangeState, *, at: datetime, **answers: Any) -> ChangeRequest:
    change = scheduled_change(estate, at=at, **answers)
    system = access.system_actor("test")
    reached = MAIN_PATH.index(state)
    with transaction.atomic():
        locked = locked_change(actor(estate.ada), change.pk)
        if reached >= MAIN_PATH.index(ChangeState.IMPLEMENTING):
            run = Run.objects.create(
                change=locked,
                revision=locked.revision,
                plan=locked.plan,
                kind="rollout",
                state="succeeded",
                created_at=at,
            )
            changes.start_change(locked, run=run, actor=system, at=at)
        if reached >= MAIN_PATH.index(ChangeState.VALIDATING):
            changes.finish_change(locked, actor=system, at=at + timedelta(minutes=5))
        if reached >= MAIN_PATH.index(ChangeState.REVIEW):
            changes.review_change(locked, actor=system, at=at + timedelta(minutes=10))
    if state is ChangeState.CLOSED:
        changes.close_change(actor=actor(estate.ben, at=at), change_id=change.pk, close_code="successful", at=at)
    return ChangeRequest.objects.get(pk=change.pk)


def _by_hand(change: ChangeRequest, verb: str, *, at: datetime) -> ChangeRequest:
    with transaction.atomic():
        locked = ChangeRequest.objects.select_for_update().get(pk=change.pk)
        move(locked, verb, at=at)
    return ChangeRequest.objects.get(pk=change.pk)
