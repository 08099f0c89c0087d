"""Legal holds: placed on a point or on everything of an environment, and lifted with a reason."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.rules.roles import Ability
from changecontrol.rules.words import seen
from recovery.actions.locking import locked_environment
from recovery.actions.points import chain_of, keep_point
from recovery.actions.refusals import audited
from recovery.models import LegalHold, RecoveryPoint


@audited
@transaction.atomic
def place_hold(
    *, actor: Actor, environment_id: int, name: str, reason: str, point_id: int | None = None, at: datetime
) -> LegalHold:
    """Keep one point, or without one all of an environment, until the hold is lifted. Undoes a removal asked for."""
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_HOLD, environment)
    if not seen(name) or len(name.strip()) > 120:
        raise Invalid("Name the case.", fields={"name": ["Name the case, in at most 120 characters."]})
    words = reason_of(reason, field="reason", sentence="Say why it must be kept.")
    points = RecoveryPoint.objects.kept().filter(environment=environment)
    if point_id is not None:
        points = points.filter(pk=point_id)
        point = points.first()
        if point is None:
            raise NotFound("There is no such recovery point.")
        if point.removing_at is not None:
            raise Conflict("Its parts are being removed from the store already: it can be kept no more.")
        # What it cannot be restored without stays with it.
        points = RecoveryPoint.objects.filter(pk__in=[one.pk for one in chain_of(point)])
    asked = points.filter(removal_asked_at__isnull=False, removing_at__isnull=True).order_by("pk")
    for one in asked.select_for_update(of=("self",)):
        keep_point(one, sentence=f"Legal hold “{name.strip()}” names it.", actor=actor, at=at)
    hold = LegalHold.objects.create(
        environment=environment,
        point_id=point_id,
        name=name.strip(),
        reason=words[:500],
        placed_at=at,
        placed_by=actor.person,
    )
    data = {"name": hold.name, "reason": words, "environment": environment.slug, "point": point_id}
    audit.record(Tag.HOLD_PLACED, subject=hold, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return hold


@audited
@transaction.atomic
def lift_hold(*, actor: Actor, hold_id: int, reason: str, at: datetime) -> LegalHold:
    """End a legal hold. What it kept goes by the policy from now on."""
    environment_id = LegalHold.objects.filter(pk=hold_id).values_list("environment_id", flat=True).first()
    if environment_id is None:
        raise NotFound("There is no such legal hold.")
    environment = locked_environment(actor, environment_id)
    hold = LegalHold.objects.select_for_update(of=("self",)).get(pk=hold_id)
    access.require(actor, Ability.RECOVERY_HOLD, environment)
    words = reason_of(reason, field="reason", sentence="Say why the hold ends.")
    if hold.lifted_at is not None:
        raise Conflict("This legal hold is lifted already.")
    hold.lifted_at, hold.lifted_by = at, actor.person
    hold.save(update_fields=["lifted_at", "lifted_by"])
    data = {"name": hold.name, "reason": words}
    audit.record(Tag.HOLD_LIFTED, subject=hold, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return hold
