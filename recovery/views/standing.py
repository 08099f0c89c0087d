"""Where an environment's recovery stands, as finished facts: its bar, its gaps, its state, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from changecontrol.models import Environment
from changecontrol.models.estate import Stage
from changecontrol.templatetags.times import short_moment
from changecontrol.views.wording import counted, duration, span
from recovery.queries.overview import Standing, Watched
from recovery.rules.alarms import TITLES, Alarm, AlarmKind
from recovery.rules.coverage import Coverage, Span
from recovery.rules.faults import FAULTS, Fault, FaultKind

SHOWN = timedelta(days=14)
"""How far back the bar reaches."""
ICONS = {
    AlarmKind.DRILL_OVERDUE: "lifebuoy",
    AlarmKind.DATABASE_FAILING: "database-off",
    AlarmKind.STORE_UNREACHABLE: "database-off",
    AlarmKind.OBJECTS_LOST: "database-off",
}
ORDER = list(TITLES)
FAULT_ORDER = list(FAULTS)
FAULT_LABELS = {
    FaultKind.POINT_BROKEN: "point broken",
    FaultKind.DRILL_FAILED: "drill failed",
    FaultKind.ACTION_OPEN: "action open",
}
"""What fits into the last column of the list."""


def wrong_rows(watched: Iterable[Watched]) -> list[dict[str, Any]]:
    """Return every alarm, worst first, those of production before others of their kind; then what checks found."""
    rows = list(watched)
    alarms = sorted(((one, alarm) for one in rows for alarm in one.alarms), key=_severity)
    faults = sorted(((one, fault) for one in rows for fault in one.faults), key=_gravity)
    return [
        *(_alarm(one.policy.environment, alarm) for one, alarm in alarms),
        *(_fault(one.policy.environment, fault) for one, fault in faults),
    ]


def _severity(found: tuple[Watched, Alarm]) -> tuple[int, bool, datetime]:
    one, alarm = found
    return (ORDER.index(alarm.kind), one.policy.environment.stage != Stage.PRODUCTION, alarm.since)


def _gravity(found: tuple[Watched, Fault]) -> tuple[bool, bool, int, datetime]:
    one, fault = found
    is_production = one.policy.environment.stage == Stage.PRODUCTION
    return (not fault.is_bad, not is_production, FAULT_ORDER.index(fault.kind), fault.since)


def _alarm(environment: Environment, alarm: Alarm) -> dict[str, Any]:
    return {
        "tone": "warn" if alarm.kind == AlarmKind.SIZE_ANOMALY else "bad",
        "icon": ICONS.get(alarm.kind, "alert-triangle"),
        "title": f"{environment}: {TITLES[alarm.kind]} since {short_moment(alarm.since)}",
        "text": alarm.sentence,
        "url": url_of(environment),
        "link": "Open",
    }


def _fault(environment: Environment, fault: Fault) -> dict[str, Any]:
    is_point = fault.kind == FaultKind.POINT_BROKEN
    return {
        "tone": "bad" if fault.is_bad else "warn",
        "icon": "alert-circle" if is_point else "lifebuoy",
        "title": f"{environment}: {FAULTS[fault.kind]} since {short_moment(fault.since)}",
        "text": fault.sentence,
        "url": reverse("point" if is_point else "drill", args=[fault.number]),
        "link": "Open",
    }


def url_of(environment: Environment) -> str:
    return reverse("recovery-environment", args=[environment.tenant.slug, environment.slug])


def row_of(one: Standing) -> dict[str, Any]:
    """Return what a line of the list, and the head of an environment's page, show."""
    gaps = gaps_of(one)
    state, label, is_bad = state_of(one)
    watched = one.watched
    return {
        "environment": one.environment,
        "url": url_of(one.environment),
        "bar": bar_of(one.coverage, gaps=gaps, at=one.at),
        "gaps": gaps,
        "rpo": duration(one.rpo_now) if one.rpo_now is not None else "",
        "rpo_note": _rpo_note(one),
        "is_rpo_missed": watched is not None and not one.is_rpo_met,
        "level": one.freshness.level,
        "verified_for": one.freshness.age,
        "checked_at": one.freshness.checked_at,
        "is_verified": one.freshness.is_verified,
        "last_success_at": watched.facts.last_success_at if watched else None,
        "drill_due_at": watched.drill_due_at if watched else None,
        "drill_every": counted(watched.policy.drill_days, "day") if watched else "",
        "is_drill_overdue": one.is_drill_overdue,
        "is_watched": watched is not None,
        "is_hot": is_bad,
        "state": state,
        "state_label": label,
    }


def state_of(one: Standing) -> tuple[str, str, bool]:
    """Return the word whose look fits, what is said, and whether it is bad."""
    if one.watched is None:
        return ("warning" if one.environment.stage == Stage.PRODUCTION else "inactive"), "no policy", False
    kinds = {alarm.kind for alarm in one.watched.alarms}
    if kinds - {AlarmKind.DRILL_OVERDUE, AlarmKind.SIZE_ANOMALY}:
        return "alarm", "alarm", True
    if not one.is_rpo_met:
        return "alarm", "RPO missed", True
    faults = one.watched.faults
    if any(fault.is_bad for fault in faults):
        return "alarm", FAULT_LABELS[faults[0].kind], True
    if one.is_drill_overdue:
        return "alarm", "drill overdue", True
    if faults:
        return "warning", FAULT_LABELS[faults[0].kind], False
    if kinds:
        return "warning", TITLES[AlarmKind.SIZE_ANOMALY], False
    return ("verified", "protected", False) if one.freshness.is_verified else ("copied", "only copied", False)


def gaps_of(one: Standing) -> list[dict[str, Any]]:
    """Return the holes of the time shown, oldest first; the last is open where WAL or backups are missing now.

    Without WAL a point stands alone, and the times between points are no holes: nothing promised them.
    """
    if one.watched is None or one.watched.policy.wal_seconds is None:
        return []
    start = one.at - SHOWN
    found = [
        {"start": max(first, start), "end": last, "length": span((last - first).total_seconds()), "is_open": False}
        for first, last in one.coverage.gaps
        if last > start
    ]
    is_failing = any(alarm.kind == AlarmKind.WAL_FAILING for alarm in one.watched.alarms)
    if one.safe_at and one.rpo_now and (is_failing or not one.is_rpo_met):
        found.append(
            {"start": max(one.safe_at, start), "end": one.at, "length": duration(one.rpo_now), "is_open": True}
        )
    return found


def bar_of(coverage: Coverage, *, gaps: Sequence[dict[str, Any]], at: datetime) -> dict[str, Any]:
    start = at - SHOWN
    spans = [one for one in coverage.spans if one.end >= start and one.start <= at]
    return {
        "axis": {"start": start, "end": at},
        "spans": [one for one in spans if one.end > one.start],
        "moments": [one for one in spans if one.end == one.start],
        "gaps": gaps,
        "summary": _summary(spans, gaps=gaps, start=start),
    }


def _summary(spans: Sequence[Span], *, gaps: Sequence[dict[str, Any]], start: datetime) -> str:
    """Say in words what the bar draws."""
    if not spans:
        return "Nothing can be restored"
    if all(one.start == one.end for one in spans):
        moments = counted(len(spans), "moment")
        return f"Restorable at {moments}, from {short_moment(spans[0].start)} to {short_moment(spans[-1].end)}"
    first, last = max(spans[0].start, start), spans[-1].end
    words = f"Restorable from {short_moment(first)} to {short_moment(last)}"
    if not gaps:
        return f"{words}, without a gap"
    return f"{words}, with {counted(len(gaps), 'gap')}: " + "; ".join(
        f"from {short_moment(one['start'])} to {'now' if one['is_open'] else short_moment(one['end'])}" for one in gaps
    )


def _rpo_note(one: Standing) -> str:
    target = f"target {duration(one.objectives.rpo)}"
    if one.rpo_now is None:
        return target
    return f"{target}, met" if one.is_rpo_met else f"{target}, missed"


def axis_words(at: datetime) -> tuple[str, str, str]:
    """Return what stands under the bar: its beginning, its middle and its end."""
    zone = timezone.get_current_timezone()
    first, middle = ((at - part).astimezone(zone) for part in (SHOWN, SHOWN / 2))
    return f"{first.day} {first:%b}", f"{middle.day} {middle:%b}", "now"
