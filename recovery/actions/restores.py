"""Asking for a restore: always beside what runs, at a time inside what is covered. A workflow carries it out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.changes import create_change, save_draft
from changecontrol.actions.jobs import ask_stop
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict, Invalid
from changecontrol.events import Tag
from changecontrol.lifecycles.change import ChangeKind
from changecontrol.models import ChangeRequest, Environment, User
from changecontrol.rules.content import DEFAULT_KEEP_HOURS
from changecontrol.rules.roles import Ability
from changecontrol.rules.years import OUTSIDE, is_within_years
from recovery.actions.locking import locked_environment, locked_root, policy_of
from recovery.actions.owners import tell_owners
from recovery.actions.refusals import audited
from recovery.lifecycles.restore import ACTIVE, ENDED, RESTORE, RestoreState
from recovery.models import Restore
from recovery.models.policy import Engine
from recovery.models.restore import RestorePurpose
from recovery.queries.cut_overs import filestore_for, restore_plan_of
from recovery.queries.points import expected_restore, size_to_restore
from recovery.queries.restores import point_at
from recovery.rules.restores import check_target
from recovery.rules.times import moment

ABILITY_FOR = {
    RestorePurpose.COPY: Ability.RECOVERY_RESTORE,
    RestorePurpose.INCIDENT: Ability.RECOVERY_RESTORE_INCIDENT,
    RestorePurpose.PRODUCTION: Ability.CHANGE_CREATE,
}
REACHED_AT = {"restore": "provisioned_at", "validate": "restored_at", "succeed": "validated_at"}
"""Which part of the time to recover ends with which verb (BCK-6)."""


@audited
@transaction.atomic
def ask_restore(
    *, actor: Actor, environment_id: int, target_at: datetime, target_database: str, reason: str, at: datetime
) -> Restore:
    """Ask for a neutralised copy of an environment as it was at a time, in a new database.

    Raises `Conflict` with the last safe time where that time is not covered, and `Invalid` for a name in use.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_RESTORE, environment)
    return _ask(
        environment,
        RestorePurpose.COPY,
        target_at=target_at,
        target_database=target_database,
        reason=reason,
        declared_at=at,
        actor=actor,
        at=at,
    )


@audited
@transaction.atomic
def ask_incident_restore(
    *,
    actor: Actor,
    environment_id: int,
    target_at: datetime,
    target_database: str,
    reason: str,
    declared_at: datetime,
    at: datetime,
) -> Restore:
    """Ask for a restore during an incident: a safety action, which needs the role and a reason, and no window (WIN-8).

    The clock of the time to recover started at `declared_at` (BCK-6).
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_RESTORE_INCIDENT, environment)
    if declared_at.tzinfo is None or declared_at > at:
        sentence = "Say when the incident was declared, with its zone: before now."
        raise Invalid(sentence, fields={"declared_at": [sentence]})
    if not is_within_years(declared_at):
        raise Invalid(OUTSIDE, fields={"declared_at": [OUTSIDE]})
    restore = _ask(
        environment,
        RestorePurpose.INCIDENT,
        target_at=target_at,
        target_database=target_database,
        reason=reason,
        declared_at=declared_at,
        actor=actor,
        at=at,
    )
    data = {"verb": "restore", "reason": restore.reason}
    audit.record(Tag.SAFETY_ACTION, subject=restore, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    tell_owners(environment, tag=Tag.SAFETY_ACTION, subject="Incident restore", text=restore.reason, at=at)
    return restore


@audited
@transaction.atomic
def file_restore_change(
    *, actor: Actor, environment_id: int, target_at: datetime, target_database: str, reason: str, at: datetime
) -> ChangeRequest:
    """File the draft of a change that puts a restored database in the place of an environment's (BCK-4).

    Raises `Conflict` with the last safe time where that time is not covered, and with what the policy lacks; `Invalid`
    for a name in use. Its commit, waves and way back are still to be answered.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.CHANGE_CREATE, environment)
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the record.")
    _check_name(environment, target_database)
    restore_plan_of(environment, to=target_at, database=target_database, keep_hours=DEFAULT_KEEP_HOURS)
    change = create_change(
        actor=actor,
        tenant_id=environment.tenant_id,
        title=f"Restore {environment.name} to {moment(target_at.astimezone(UTC))}"[:200],
        kind=str(ChangeKind.RESTORE),
        at=at,
    )
    content = change.draft | {
        "reason": words,
        "environments": [environment.slug],
        "restore_to": target_at.isoformat(),
        "restore_database": target_database,
    }
    return save_draft(actor=actor, change_id=change.pk, content=content, seen_version=change.draft_version, at=at)


def ask_production_restore(
    environment: Environment,
    *,
    target_at: datetime,
    target_database: str,
    change: ChangeRequest,
    declared_at: datetime,
    actor: Actor,
    at: datetime,
) -> Restore:
    """Ask, for an approved change, for the database that it puts in place of the locked environment's: as it was."""
    return _ask(
        environment,
        RestorePurpose.PRODUCTION,
        target_at=target_at,
        target_database=target_database,
        reason=f"{change.number}: {change.title}",
        declared_at=declared_at,
        asked_by=change.requester,
        actor=actor,
        at=at,
    )


@audited
@transaction.atomic
def cancel_restore(*, actor: Actor, restore_id: int, reason: str, at: datetime) -> Restore:
    """End a restore before it is done: its job is asked to stop, and clears away what it began.

    Raises `IllegalTransition` where it has ended. Whoever may ask for such a restore may cancel it.
    """
    found = Restore.objects.filter(pk=restore_id).values_list("environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing="There is no such restore.")
    restore = Restore.objects.select_for_update(of=("self",)).get(pk=restore_id)
    access.require(actor, ABILITY_FOR[RestorePurpose(restore.purpose)], environment)
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the record.")
    move_restore(restore, "cancel", sentence=f"{actor.person} canceled it: {words[:500]}", actor=actor, at=at)
    ask_stop(key=f"restore/{restore.pk}", at=at)
    return restore


def move_restore(restore: Restore, verb: str, *, sentence: str, actor: Actor, at: datetime) -> None:
    """Move a locked restore by a verb of its lifecycle, and note when a part of the time to recover ended."""
    before = str(restore.state)
    restore.state = RESTORE.target(verb, restore.state)
    restore.sentence = sentence
    fields = ["state", "sentence"]
    if verb in REACHED_AT:
        setattr(restore, REACHED_AT[verb], at)
        fields.append(REACHED_AT[verb])
    if restore.state in ENDED:
        restore.finished_at, restore.next_due_at = at, None
        fields += ["finished_at", "next_due_at"]
    restore.save(update_fields=fields)
    data = {"verb": verb, "from": before, "to": str(restore.state), "sentence": sentence}
    audit.record(Tag.RESTORE_MOVED, subject=restore, actor=actor, at=at, data=data, tenant=restore.tenant_id)
    if restore.state == RestoreState.FAILED:
        tell_owners(restore.environment, tag=Tag.RESTORE_MOVED, subject="A restore failed", text=sentence, at=at)


def _ask(
    environment: Environment,
    purpose: RestorePurpose,
    *,
    target_at: datetime,
    target_database: str,
    reason: str,
    declared_at: datetime,
    asked_by: User | None = None,
    actor: Actor,
    at: datetime,
) -> Restore:
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the record.")
    _check_name(environment, target_database)
    if Restore.objects.filter(
        environment=environment, target_database=target_database, state__in=sorted(ACTIVE)
    ).exists():
        raise Conflict(f"A restore to “{target_database}” is under way already.")
    policy = policy_of(environment)
    if not policy.restore_target:
        raise Conflict("The backup policy names no server for restored databases: name one there first.")
    point = point_at(environment, target_at)
    size = size_to_restore(point)
    expected = expected_restore(environment, size=size)
    restore = Restore.objects.create(
        environment=environment,
        point=point,
        purpose=purpose,
        target_at=target_at,
        target_database=target_database,
        # No attachments come with what another tool made.
        target_filestore=""
        if point.policy.engine == Engine.EXTERNAL
        else filestore_for(policy, database=target_database),
        is_neutralised=purpose == RestorePurpose.COPY,
        reason=words[:500],
        asked_by=asked_by or actor.person,
        size=size,
        expected_seconds=expected.takes.total_seconds() if expected else None,
        expected_error_seconds=expected.error.total_seconds() if expected and expected.error is not None else None,
        declared_at=declared_at,
        decided_at=at,
        next_due_at=at,
    )
    data: dict[str, Any] = {
        "environment": environment.slug,
        "purpose": str(purpose),
        "point": point.key,
        "target_at": target_at.isoformat(),
        "target_database": target_database,
        "reason": words,
        "declared_at": declared_at.isoformat(),
    }
    audit.record(Tag.RESTORE_ASKED, subject=restore, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    wiring.nudge("restore")
    return restore


def _check_name(environment: Environment, name: str) -> None:
    in_use = Environment.objects.filter(tenant=environment.tenant_id).values_list("database", flat=True)
    if sentence := check_target(name, in_use=in_use):
        raise Invalid(sentence, fields={"target_database": [sentence]})
