"""Asking for a restore: always beside what runs, at a time inside what is covered. A workflow carries it out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict, Invalid
from changecontrol.events import Tag
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.locking import locked_environment
from recovery.actions.points import tell_owners
from recovery.actions.refusals import audited
from recovery.lifecycles.restore import ACTIVE, ENDED, RESTORE, RestoreState
from recovery.models import RecoveryPoint, Restore
from recovery.models.restore import RestorePurpose
from recovery.queries.points import coverage_of, expected_restore
from recovery.rules.restores import check_target

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
    actor: Actor,
    at: datetime,
) -> Restore:
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the record.")
    in_use = Environment.objects.filter(tenant=environment.tenant_id).values_list("database", flat=True)
    if sentence := check_target(target_database, in_use=in_use):
        raise Invalid(sentence, fields={"target_database": [sentence]})
    if Restore.objects.filter(
        environment=environment, target_database=target_database, state__in=sorted(ACTIVE)
    ).exists():
        raise Conflict(f"A restore to “{target_database}” is under way already.")
    point = point_at(environment, target_at)
    expected = expected_restore(environment, size=point.size)
    restore = Restore.objects.create(
        environment=environment,
        point=point,
        purpose=purpose,
        target_at=target_at,
        target_database=target_database,
        is_neutralised=purpose == RestorePurpose.COPY,
        reason=words[:500],
        asked_by=actor.person,
        size=point.size,
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


def point_at(environment: Environment, target_at: datetime) -> RecoveryPoint:
    """Return the point from which a time is reached. Raises `Conflict` with the last safe time before it."""
    coverage = coverage_of(environment)
    if refusal := coverage.refusal(target_at):
        raise Conflict(refusal)
    return RecoveryPoint.objects.get(environment=environment, key=coverage.backup_for(target_at))
