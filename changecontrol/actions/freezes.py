"""Freezes: opened for a time with a reason, and lifted early. What is held starts again by its own windows."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of, sight_of
from changecontrol.actions.places import PlaceIds, place_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Conflict, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import Freeze
from changecontrol.rules.roles import Ability
from changecontrol.rules.words import seen
from changecontrol.rules.years import OUTSIDE, is_within_years

MAX_LENGTH = timedelta(days=366)


@audited
@transaction.atomic
def open_freeze(
    *,
    actor: Actor,
    tenant_id: int | None,
    name: str,
    reason: str,
    starts_at: datetime,
    ends_at: datetime,
    place: PlaceIds | None = None,
    at: datetime,
) -> Freeze:
    """Let nothing in scope start or go on from `starts_at` up to `ends_at`. Safety actions stay free (WIN-8)."""
    found = place_of(actor, Ability.FREEZE_OPEN, tenant_id=tenant_id, ids=place or PlaceIds())
    problems = dict(found.problems)
    if not seen(name) or len(name.strip()) > 120:
        problems["name"] = ["Give the freeze a name of at most 120 characters."]
    if not seen(reason) or len(reason.strip()) > 500:
        problems["reason"] = ["Say why, in at most 500 characters."]
    times = {"starts_at": starts_at, "ends_at": ends_at}
    if outside := {name: [OUTSIDE] for name, one in times.items() if not is_within_years(one)}:
        problems |= outside
    elif not timedelta(0) < ends_at - starts_at <= MAX_LENGTH:
        problems["ends_at"] = [f"A freeze ends after it starts, and lasts at most {MAX_LENGTH.days} days."]
    elif ends_at <= at:
        problems["ends_at"] = ["This freeze would be over already."]
    if problems:
        raise Invalid("The freeze does not hold as it is written.", fields=problems)
    freeze = Freeze.objects.create(
        name=name.strip(),
        reason=reason.strip(),
        starts_at=starts_at,
        ends_at=ends_at,
        opened_by=actor.person,
        **found.columns,
    )
    data = {
        "name": freeze.name,
        "reason": freeze.reason,
        "starts_at": starts_at.isoformat(),
        "ends_at": ends_at.isoformat(),
        "scope": {key: getattr(value, "slug", value) for key, value in found.columns.items() if value},
    }
    audit.record(Tag.FREEZE_OPENED, subject=freeze, actor=actor, at=at, data=data, tenant=freeze.tenant_id)
    wiring.nudge("rollout")
    return freeze


@audited
@transaction.atomic
def lift_freeze(*, actor: Actor, freeze_id: int, reason: str, at: datetime) -> Freeze:
    """End a freeze now. A rule or person that holds a change otherwise goes on holding it."""
    rows = access.visible(sight_of(actor), Freeze.objects.select_related("tenant"))
    freeze = rows.select_for_update(of=("self",)).filter(pk=freeze_id).first()
    if freeze is None:
        raise NotFound("There is no such freeze.")
    access.require(actor, Ability.FREEZE_LIFT, freeze)
    words = reason_of(reason, field="reason", sentence="Say why the freeze ends early.")
    if freeze.lifted_at is not None:
        raise Conflict("This freeze is lifted already.")
    if freeze.ends_at <= at:
        raise Conflict("This freeze is over already.")
    freeze.lifted_at, freeze.lifted_by = at, actor.person
    freeze.save(update_fields=["lifted_at", "lifted_by"])
    data = {"name": freeze.name, "reason": words, "ends_at": freeze.ends_at.isoformat()}
    audit.record(Tag.FREEZE_LIFTED, subject=freeze, actor=actor, at=at, data=data, tenant=freeze.tenant_id)
    wiring.nudge("rollout")
    return freeze
