"""Writing windows: who may, what holds, and what every edit changed (AUD-1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of, sight_of
from changecontrol.actions.places import Place, PlaceIds, place_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Conflict, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import Window
from changecontrol.models.window import Effect
from changecontrol.rules.recurrence import Recurrence, check_recurrence
from changecontrol.rules.roles import Ability

MAX_DURATION = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class WindowContent:
    """What somebody says of a window. Local times are naive; an empty `zone` is each store's own (WIN-2)."""

    name: str
    starts_local: datetime
    duration_seconds: int
    effect: str = Effect.ALLOW
    rrule: str = ""
    zone: str = ""
    excluded_local: tuple[datetime, ...] = ()
    added_local: tuple[datetime, ...] = ()
    is_active: bool = True
    place: PlaceIds = field(default_factory=PlaceIds)


@audited
@transaction.atomic
def create_window(
    *, actor: Actor, tenant_id: int | None, content: WindowContent, reason: str = "", at: datetime
) -> Window:
    """Add a window to a tenant, or with no tenant to the platform. Raises `Invalid` with everything that is wrong."""
    place = place_of(actor, Ability.WINDOW_EDIT, tenant_id=tenant_id, ids=content.place)
    columns = _columns(content, place)
    window = Window.objects.create(**columns, reason=reason.strip()[:500], created_at=at)
    data = {"version": 1, "reason": window.reason, "content": _told(columns)}
    audit.record(Tag.WINDOW_CREATED, subject=window, actor=actor, at=at, data=data, tenant=window.tenant_id)
    return window


@audited
@transaction.atomic
def edit_window(
    *, actor: Actor, window_id: int, content: WindowContent, seen_version: int, reason: str, at: datetime
) -> Window:
    """Change a window from now on; runs that are past stay judged as they were.

    The event tells the reason and every field that differs, old and new. A window keeps its tenant.
    """
    rows = access.visible(sight_of(actor), Window.objects.all())
    window = rows.select_for_update(of=("self",)).filter(pk=window_id).first()
    if window is None:
        raise NotFound("There is no such window.")
    place = place_of(actor, Ability.WINDOW_EDIT, tenant_id=window.tenant_id, ids=content.place)
    words = reason_of(reason, field="reason", sentence="Say why the window changes.")
    if seen_version != window.version:
        raise Conflict(f"Somebody else edited this window meanwhile: it is at version {window.version}.")
    columns = _columns(content, place)
    old = {name: getattr(window, name) for name in columns}
    differences = differences_of(_told(old), _told(columns))
    if not differences:
        return window
    for name, value in columns.items():
        setattr(window, name, value)
    window.version += 1
    window.reason = words[:500]
    window.save(update_fields=[*columns, "version", "reason"])
    data = {"version": window.version, "reason": words, "differences": differences}
    audit.record(Tag.WINDOW_CHANGED, subject=window, actor=actor, at=at, data=data, tenant=window.tenant_id)
    return window


def differences_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what differs by field, as [old, new]."""
    return {key: [old.get(key), new[key]] for key in sorted(new) if old.get(key) != new[key]}


def _columns(content: WindowContent, place: Place) -> dict[str, Any]:
    problems = dict(place.problems)
    name = content.name.strip()
    if not name or len(name) > 120:
        problems["name"] = ["Give the window a name of at most 120 characters."]
    if content.effect not in set(Effect):
        problems["effect"] = ["A window allows or denies."]
    if not 0 < content.duration_seconds <= MAX_DURATION.total_seconds():
        problems["duration_seconds"] = [f"A window lasts up to {MAX_DURATION.days} days."]
    else:
        recurrence = Recurrence(
            starts_at=content.starts_local,
            duration=timedelta(seconds=content.duration_seconds),
            zone=content.zone or None,
            rrule=content.rrule.strip(),
            exdates=content.excluded_local,
            rdates=content.added_local,
        )
        if sentences := check_recurrence(recurrence):
            problems["rrule"] = list(sentences)
    if problems:
        raise Invalid("The window does not hold as it is written.", fields=problems)
    return {
        "name": name,
        "effect": str(content.effect),
        "rrule": content.rrule.strip(),
        "starts_local": content.starts_local.replace(tzinfo=UTC),
        "zone": content.zone,
        "duration_seconds": content.duration_seconds,
        "excluded_local": [one.isoformat() for one in content.excluded_local],
        "added_local": [one.isoformat() for one in content.added_local],
        "is_active": content.is_active,
        **place.columns,
    }


def _told(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values; places by their names for machines."""
    told: dict[str, Any] = {}
    for key, value in columns.items():
        if isinstance(value, datetime):
            told[key] = value.replace(tzinfo=None).isoformat()
        elif hasattr(value, "slug"):
            told[key] = value.slug
        else:
            told[key] = value
    return told
