"""Reads of the audit trail, page by page, newest first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from changecontrol import access, audit
from changecontrol.access import Scope
from changecontrol.events import Tag
from changecontrol.models import AuditEvent, User

PAGE_SIZE = 100
PAGE_LIMIT = 500
SAME_READING = timedelta(minutes=10)
"""For so long a program, or a page's script, that asks for the same thing again is at the same reading (AUD-8)."""
READINGS_SEEN = 100
"""How many of a reader's newest events tell whether they are still at the same reading."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """`tag` is a tag or the beginning of one, such as `change:approval`; times are half-open."""

    tag: str = ""
    subject: str = ""
    actor: str = ""
    change_id: int | None = None
    tenant: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An event and the data it carries."""

    event: AuditEvent
    data: dict[str, Any]
    via: str
    source_address: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    rows: tuple[AuditRow, ...]
    newer: int | None
    older: int | None


def audit_page(
    scope: Scope,
    *,
    wanted: AuditFilter = AuditFilter(),
    before: int | None = None,
    after: int | None = None,
    size: int = PAGE_SIZE,
) -> AuditPage:
    """Return one page by key, in one statement. Events of no tenant are shown to platform administrators alone."""
    size = max(1, min(size, PAGE_LIMIT))
    events = _narrow(wanted, AuditEvent.objects.select_related("actor", "tenant", "change"), scope)
    if before is not None:
        events = events.filter(pk__lt=before)
    if after is not None:
        events = events.filter(pk__gt=after)
    found = list(events.order_by("pk" if after is not None else "-pk")[: size + 1])
    has_more, found = len(found) > size, found[:size]
    if after is not None:
        found.reverse()
    if not found:
        return AuditPage(rows=(), newer=None, older=None)
    has_newer = has_more if after is not None else before is not None
    has_older = has_more if after is None else True
    return AuditPage(
        rows=tuple(row_of(event) for event in found),
        newer=found[0].pk if has_newer else None,
        older=found[-1].pk if has_older else None,
    )


def row_of(event: AuditEvent) -> AuditRow:
    body = json.loads(event.body)
    return AuditRow(event=event, data=body["data"], via=body["via"], source_address=body["source_address"])


def has_just_read(person: User, *, path: str, since: datetime) -> bool:
    """Tell whether somebody's own trail already says that they read this since then."""
    newest = AuditEvent.objects.filter(subject=audit.subject_of(person)).order_by("-sequence")[:READINGS_SEEN]
    return any(
        one.at >= since and one.tag == Tag.EVIDENCE_READ and row_of(one).data.get("asked") == {"path": path}
        for one in newest
    )


def _narrow(wanted: AuditFilter, events: Any, scope: Scope) -> Any:
    events = access.visible(scope, events)
    if wanted.tag:
        events = events.filter(Q(tag=wanted.tag) | Q(tag__startswith=f"{wanted.tag}:"))
    exact = {"actor__username": wanted.actor, "tenant__slug": wanted.tenant, "change": wanted.change_id}
    exact["subject"] = wanted.subject
    events = events.filter(**{key: value for key, value in exact.items() if value})
    if wanted.since is not None:
        events = events.filter(at__gte=wanted.since)
    if wanted.until is not None:
        events = events.filter(at__lt=wanted.until)
    return events
