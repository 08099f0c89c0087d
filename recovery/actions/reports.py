"""Taking reports of drills away: one as PDF or as JSON, or all of a period. Who took what is recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.template.loader import render_to_string

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.errors import Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.rules.roles import Ability
from recovery.actions.refusals import audited
from recovery.lifecycles.drill import ENDED
from recovery.models import Drill
from recovery.queries.drills import drills_of
from recovery.queries.reports import drill_report, report_json, report_line, with_report

REPORTS_FILE = "drill-reports.ndjson"
AT_ONCE = 100
"""How many drills are fetched together: a statement for each would be slow, all of them would not fit."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report as a file."""

    name: str
    data: bytes
    media_type: str


@audited
def export_drill_report(*, actor: Actor, drill_id: int, at: datetime) -> Report:
    """Return the report as JSON, for programs. Raises `IllegalTransition` while the drill goes on."""
    drill = _ended(actor, drill_id)
    return _taken(drill, Report(f"drill-{drill.pk}.json", report_json(drill), "application/json"), actor=actor, at=at)


@audited
def print_drill_report(*, actor: Actor, drill_id: int, at: datetime) -> Report:
    """Return the report as PDF, for people. Raises `IllegalTransition` while the drill goes on."""
    drill = _ended(actor, drill_id)
    html = render_to_string("recovery/drill_report.html", {"report": drill_report(drill)})
    data = wiring.adapter("pdf")(html)
    return _taken(drill, Report(f"drill-{drill.pk}.pdf", data, "application/pdf"), actor=actor, at=at)


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of a period as lines of JSON, oldest first, each fetched when it is its turn."""

    name: str
    count: int
    lines: Iterator[bytes]


@audited
def export_drill_reports(*, actor: Actor, since: datetime | None, until: datetime | None, at: datetime) -> Reports:
    """Return the report of every drill that was declared in a period and is over, failed and canceled ones too (AUD-5).

    `until` is not in the period. The same period gives the same bytes. Raises `Forbidden` for who may export nothing,
    and `Invalid` for a period that ends before it begins: no lines would look like no drills.
    """
    scope = access.scope_of(actor)
    if Ability.EVIDENCE_EXPORT not in scope.abilities(scope.roles):
        raise Forbidden(access.why_not(scope, Ability.EVIDENCE_EXPORT))
    if since and until and until <= since:
        raise Invalid("The period ends before it begins.", fields={"until": ["It is before the period begins."]})
    rows = drills_of(scope).filter(environment__in=access.environments_with(scope, Ability.EVIDENCE_EXPORT))
    rows = rows.filter(state__in=sorted(ENDED))
    rows = rows.filter(declared_at__gte=since) if since else rows
    rows = rows.filter(declared_at__lt=until) if until else rows
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    period = {"since": since.isoformat() if since else None, "until": until.isoformat() if until else None}
    with transaction.atomic():
        data = {"file": REPORTS_FILE, **period, "count": len(keys)}
        audit.record(Tag.EVIDENCE_EXPORTED, subject=actor.person, actor=actor, at=at, data=data)
    return Reports(REPORTS_FILE, len(keys), _lines(keys))


def _lines(keys: list[int]) -> Iterator[bytes]:
    for start in range(0, len(keys), AT_ONCE):
        found = with_report(Drill.objects.filter(pk__in=keys[start : start + AT_ONCE]))
        for drill in found.order_by("pk"):
            yield report_line(drill)


def _ended(actor: Actor, drill_id: int) -> Drill:
    drill = with_report(drills_of(access.scope_of(actor))).filter(pk=drill_id).first()
    if drill is None:
        raise NotFound("There is no such drill.")
    access.require(actor, Ability.RECOVERY_VIEW, drill.environment)
    if drill.state not in ENDED:
        raise IllegalTransition("A drill has a report once it is over.")
    return drill


def _taken(drill: Drill, report: Report, *, actor: Actor, at: datetime) -> Report:
    """Record who took which bytes, on the chain of the person, as evidence packs do."""
    with transaction.atomic():
        audit.record(
            Tag.EVIDENCE_EXPORTED,
            subject=actor.person,
            actor=actor,
            at=at,
            tenant=drill.tenant_id,
            data={
                "drill": drill.pk,
                "file": report.name,
                "sha256": hashlib.sha256(report.data).hexdigest(),
                "size": len(report.data),
            },
        )
    return report
