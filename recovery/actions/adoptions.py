"""Whole points that a store holds and the catalogue does not name: asked for, taken in, or refused with the reason."""

from __future__ import annotations

from datetime import datetime

from django.db import DataError, IntegrityError, transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict
from changecontrol.events import Tag
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.copies import NewFilestoreCopy, record_filestore_copy
from recovery.actions.locking import locked_difference
from recovery.actions.owners import tell_owners
from recovery.actions.points import NewPoint, problems_of, record_found
from recovery.actions.refusals import audited
from recovery.actions.upkeep import ensure_upkeep
from recovery.models import BackupPolicy, Disagreement, RecoveryPoint
from recovery.models.point import UpkeepKind
from recovery.queries.comparison import place_of_adoption
from recovery.rules.comparison import DifferenceKind


@audited
@transaction.atomic
def ask_adoption(*, actor: Actor, disagreement_id: int, reason: str, at: datetime) -> Disagreement:
    """Have a whole point that the catalogue does not name read, and taken in where it belongs.

    Raises `Conflict` for what is none, what somebody has decided about, what lies among copies alone, and while another
    tool backs the environment up.
    """
    row = locked_difference(actor, disagreement_id)
    environment = row.environment
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    words = reason_of(reason, field="reason", sentence="Say why it belongs to the catalogue.")
    if row.kind != DifferenceKind.UNKNOWN_SET:
        raise Conflict("Only a whole point that the catalogue does not name is taken in.")
    if row.asked_at is not None:
        raise Conflict("Somebody has let it go already.")
    if row.adoption_asked_at is not None:
        raise Conflict("Somebody has asked for it already: it is being read.")
    place_of_adoption(environment.pk, store=row.store)
    row.adoption_asked_at, row.adoption_asked_by, row.refusal = at, actor.person, ""
    row.save(update_fields=["adoption_asked_at", "adoption_asked_by", "refusal"])
    data = {"name": row.name, "store": row.store, "reason": words}
    audit.record(Tag.ADOPTION_ASKED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    ensure_upkeep(environment, kind=UpkeepKind.ADOPTION, at=at)
    wiring.nudge("upkeep")
    return row


def record_adoption(
    environment: Environment,
    *,
    policy: BackupPolicy,
    point: NewPoint,
    filestore: NewFilestoreCopy | None,
    actor: Actor,
    at: datetime,
) -> RecoveryPoint | None:
    """Take in a point of a locked environment that was read in a policy's store; None where it does not fit.

    Nothing comes of it where nobody waits for it any more. Whoever calls this is a workflow.
    """
    row = _asked(environment, store=policy.store, name=point.key)
    if row is None:
        return None
    if problem := _problem(environment, point):
        _refuse(row, sentence=problem, actor=actor, at=at)
        return None
    try:
        # What is in force may have become another while it was read.
        place_of_adoption(environment.pk, store=policy.store)
        with transaction.atomic():
            found = record_found(environment, policy, point=point, actor=actor, at=at)
            if filestore is not None:
                record_filestore_copy(policy, copy=filestore, point=found, actor=actor, at=at)
    except Conflict as refusal:
        _refuse(row, sentence=refusal.sentence, actor=actor, at=at)
        return None
    except (DataError, IntegrityError):
        # Whoever may write to a store may have written anything.
        _refuse(row, sentence="What the store tells of it is more than a recovery point can be.", actor=actor, at=at)
        return None
    data = {"key": found.key, "store": row.store, "asked_by": str(row.adoption_asked_by or "")}
    audit.record(Tag.POINT_ADOPTED, subject=found, actor=actor, at=at, data=data, tenant=found.tenant_id)
    row.delete()
    # With the next one goes what is known of its copies elsewhere, and the WAL beside it is looked at again.
    ensure_upkeep(environment, kind=UpkeepKind.COMPARISON, at=at)
    return found


def refuse_adoption(
    environment: Environment, *, store: str, name: str, sentence: str, actor: Actor, at: datetime
) -> None:
    """Note why a point of a locked environment is not taken in, and tell its owners: it stays until they decide."""
    if (row := _asked(environment, store=store, name=name)) is not None:
        _refuse(row, sentence=sentence, actor=actor, at=at)


def _asked(environment: Environment, *, store: str, name: str) -> Disagreement | None:
    rows = Disagreement.objects.select_for_update(of=("self",)).select_related("adoption_asked_by", "environment")
    return rows.filter(
        environment=environment,
        store=store,
        name=name,
        kind=DifferenceKind.UNKNOWN_SET,
        adoption_asked_at__isnull=False,
    ).first()


def _problem(environment: Environment, point: NewPoint) -> str:
    if RecoveryPoint.objects.filter(environment=environment, key=point.key).exists():
        return f"There is a point called {point.key} already."
    return " ".join(sentence for sentences in problems_of(point).values() for sentence in sentences)


def _refuse(row: Disagreement, *, sentence: str, actor: Actor, at: datetime) -> None:
    environment = row.environment
    row.adoption_asked_at, row.adoption_asked_by, row.refusal = None, None, sentence
    row.save(update_fields=["adoption_asked_at", "adoption_asked_by", "refusal"])
    data = {"name": row.name, "store": row.store, "sentence": sentence}
    audit.record(Tag.ADOPTION_REFUSED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    subject = f"The point {row.name} was not taken in"
    tell_owners(environment, tag=Tag.ADOPTION_REFUSED, subject=subject, text=sentence, at=at)
