"""The calendar: two weeks by tenant and region, one night in the zones, what clashes, and all of it as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import Freeze
from changecontrol.queries.calendar import (
    Calendar,
    Lane,
    Opening,
    WaitingChange,
    calendar_of,
    freeze_end,
    held,
    is_blackout,
    scope_words,
)
from changecontrol.rules.intervals import Interval
from changecontrol.rules.roles import Ability
from changecontrol.templatetags.times import clock_time, short_moment
from changecontrol.views.edge import scope_for
from changecontrol.views.pages import page
from changecontrol.views.wording import counted

DAYS = 14
NIGHT_HOURS = 8
OTHER_ZONES = 2
FAR = 3660


@page
@require_GET
def calendar(request: HttpRequest) -> HttpResponse:
    scope, at = scope_for(request), clock.now()
    zone = timezone.get_current_timezone()
    today = at.astimezone(zone).date()
    first = _date(request.GET.get("from", ""), today=today) or today
    start, end = _midnight(first, zone), _midnight(first + timedelta(days=DAYS), zone)
    found = calendar_of(scope, start=start, end=end, at=at)
    held_abilities = scope.abilities(scope.roles)
    context = {
        "lede": _lede(found, first),
        "actions": _actions(held_abilities),
        "clashes": found.clashes,
        "axis": _axis(first, zone, at=at),
        "lanes": [_lane(one, found) for one in found.lanes],
        "earlier_url": f"?from={(first - timedelta(days=DAYS)).isoformat()}",
        "later_url": f"?from={(first + timedelta(days=DAYS)).isoformat()}",
        "is_now": first == today,
        "zone_note": f"axis in {zone} ({at.astimezone(zone):%Z}); each row keeps its own local windows",
        "night": _night(found, zone, at=at),
        "entries": _entries(found, zone),
        "waiting": [_waiting(one) for one in found.waiting],
        "zones": [_city(name) for name in _others(found.zones, str(zone))],
        "own_zone": _city(str(zone)),
        "freezes": _freezes(scope, found.freezes, at=at),
        "frame": f"{first.day} {first:%B} to {_last(first)}",
    }
    return render(request, "changecontrol/calendar.html", context)


def _actions(held_abilities: frozenset[Ability]) -> list[dict[str, Any]]:
    actions: list[dict[str, Any]] = []
    may_window = Ability.WINDOW_EDIT in held_abilities
    if Ability.FREEZE_OPEN in held_abilities:
        actions.append(
            {
                "label": "Plan a freeze",
                "url": reverse("freeze-new"),
                "icon": "snowflake",
                "is_primary": not may_window,
            }
        )
    if may_window:
        actions.append({"label": "New window", "url": reverse("window-new"), "icon": "plus", "is_primary": True})
    return actions


def _lede(found: Calendar, first: date) -> str:
    parts = [f"{first.day} {first:%B} to {_last(first)}."]
    if found.clashes:
        need = "needs" if len(found.clashes) == 1 else "need"
        parts.append(f"{counted(len(found.clashes), 'conflict')} {need} a decision.")
    else:
        parts.append("Nothing clashes.")
    return " ".join(parts)


def _last(first: date) -> str:
    last = first + timedelta(days=DAYS - 1)
    return f"{last.day} {last:%B %Y}"


def _axis(first: date, zone: Any, *, at: datetime) -> dict[str, Any]:
    days = [first + timedelta(days=count) for count in range(DAYS)]
    today = at.astimezone(zone).date()
    start, end = _midnight(first, zone), _midnight(first + timedelta(days=DAYS), zone)
    return {
        "start": start,
        "end": end,
        "now": at if start <= at < end else None,
        "days": [
            {
                "start": _midnight(one, zone),
                "label": f"{one:%a} {one.day}" + (f" {one:%b}" if one.day == 1 else ""),
                "note": "today" if one == today else "",
                "is_today": one == today,
            }
            for one in days
        ],
    }


def _lane(lane: Lane, found: Calendar) -> dict[str, Any]:
    freezes = [one for one in found.freezes if lane.covers(one)]
    openings = [one for one in found.openings if lane.covers(one.window) and _is_of(lane, one)]
    ids = {environment.pk for environment in lane.environments}
    return {
        "title": lane.tenant.name,
        "note": _lane_note(lane, found.start),
        "windows": [
            {"start": one.interval.start, "end": one.interval.end, "is_held": held(one.interval, freezes)}
            for one in openings
            if not is_blackout(one.window)
        ],
        "blocks": [
            *({"start": one.starts_at, "end": freeze_end(one), "kind": "freeze"} for one in freezes),
            *(
                {"start": one.interval.start, "end": one.interval.end, "kind": "blackout"}
                for one in openings
                if is_blackout(one.window)
            ),
        ],
        "changes": [
            {
                "label": one.change.number,
                "url": one.change.get_absolute_url(),
                "state": one.change.state,
                "start": one.interval.start,
                "end": one.interval.end,
                "title": one.change.title,
            }
            for one in found.changes
            if ids & one.environment_ids
        ],
    }


def _is_of(lane: Lane, opening: Opening) -> bool:
    """Tell whether an opening is on the lane's own clocks, or on clocks that its window names."""
    return bool(opening.window.zone) or opening.zone in lane.zones


def _lane_note(lane: Lane, at: datetime) -> str:
    if lane.region is None:
        return "no stores"
    names = ", ".join(dict.fromkeys(f"{at.astimezone(ZoneInfo(zone)):%Z}" for zone in lane.zones))
    return f"{lane.region.name}, {names} · {counted(lane.store_count, 'store')}"


def _night(found: Calendar, zone: Any, *, at: datetime) -> dict[str, Any] | None:
    """Return the next night in which something opens or starts, hour by hour in every zone."""
    later = [one.interval.start for one in found.changes if one.interval.end > at]
    later += [one.interval.start for one in found.openings if one.interval.end > at and not is_blackout(one.window)]
    begin = min((one for one in later if one >= found.start), default=None)
    if begin is None:
        return None
    start = begin.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    end = start + timedelta(hours=NIGHT_HOURS)
    frame = Interval(start, end)
    zones = [str(zone), *_others(found.zones, str(zone))]
    rows: list[dict[str, Any]] = [
        {
            "label": f"{one.window.name}, {_city(one.zone)}",
            "start": one.interval.start,
            "end": one.interval.end,
            "kind": "window",
            "words": f"{clock_time(one.interval.start, one.zone)} to {clock_time(one.interval.end, one.zone)}",
        }
        for one in found.openings
        if one.interval.meets(frame) and not is_blackout(one.window)
    ][:12]
    rows += [
        {
            "label": one.change.number,
            "start": one.interval.start,
            "end": one.interval.end,
            "kind": "change",
            "words": f"{clock_time(one.interval.start)} to {clock_time(one.interval.end)}",
        }
        for one in found.changes
        if one.interval.meets(frame)
    ][:12]
    top = 16 * len(zones) + 12
    for number, row in enumerate(rows):
        row["y"] = top + number * 26
        row["text_y"] = row["y"] + 13
        row["is_late"] = row["end"] > start + (end - start) * 0.8
        row["begins_late"] = row["start"] > start + (end - start) * 0.7
    hours = [start + timedelta(hours=count) for count in range(NIGHT_HOURS)]
    return {
        "title": f"From {short_moment(start)}",
        "axis": {"start": start, "end": end},
        "rows": rows,
        "height": top + len(rows) * 26 + 4,
        "ticks": [
            {
                "at": hour,
                "lines": [
                    {
                        "y": 13 + 16 * number,
                        "text": clock_time(hour, name) if count == 0 else f"{hour.astimezone(ZoneInfo(name)):%H:%M}",
                    }
                    for number, name in enumerate(zones)
                ],
            }
            for count, hour in enumerate(hours)
        ],
        "summary": "; ".join(f"{row['label']} {row['words']}" for row in rows),
    }


def _entries(found: Calendar, zone: Any) -> list[dict[str, Any]]:
    """Return every bar of the chart as a row of the table: changes and freezes each, windows once with their next."""
    others = _others(found.zones, str(zone))
    clashing = {one.change.pk for one in found.clashes}
    rows = [
        {
            "name": one.change.number,
            "note": one.change.title,
            "url": one.change.get_absolute_url(),
            "where": ", ".join(place.slug for place in one.change.environments.all()) or one.change.tenant.name,
            "start": one.interval.start,
            "when": short_moment(one.interval.start),
            "others": [clock_time(one.interval.start, name) for name in others],
            "state": "conflict" if one.change.pk in clashing else one.change.state,
        }
        for one in found.changes
    ]
    rows += [
        {
            "name": one.name,
            "note": "freeze",
            "url": "",
            "where": scope_words(one),
            "start": one.starts_at,
            "when": f"{short_moment(one.starts_at)} to {short_moment(freeze_end(one))}",
            "others": [clock_time(one.starts_at, name) for name in others],
            "state": "freeze",
        }
        for one in found.freezes
        if one.starts_at < found.end and freeze_end(one) > found.start
    ]
    for window in found.windows:
        openings = sorted(one.interval for one in found.openings if one.window is window)
        first = openings[0].start if openings else None
        rows.append(
            {
                "name": window.name,
                "note": "blackout" if is_blackout(window) else "window",
                "url": reverse("window", args=[window.pk]),
                "where": scope_words(window),
                "start": first or found.end,
                "when": f"{counted(len(openings), 'opening')}, first {short_moment(first)}" if first else "none now",
                "others": [clock_time(first, name) for name in others] if first else [""] * len(others),
                "state": "blackout" if is_blackout(window) else "window",
            }
        )
    return sorted(rows, key=lambda row: (row["start"], row["name"]))


def _waiting(one: WaitingChange) -> dict[str, Any]:
    change, judgement = one.change, one.judgement
    facts = {
        "change": change,
        "where": ", ".join(place.slug for place in change.environments.all()) or change.tenant.name,
        "opens_at": None,
        "when": "not while it is on hold",
        "why": "",
    }
    if judgement is None:
        return facts
    then = "once it is approved" if change.state == ChangeState.AUTHORIZE else ""
    if judgement.is_open:
        return facts | {"when": then or "now", "why": judgement.reason}
    if judgement.next_opening is None:
        return facts | {"when": "no opening is in sight", "why": judgement.reason}
    return facts | {"opens_at": judgement.next_opening, "when": then, "why": judgement.reason}


def _freezes(scope: Scope, freezes: Iterable[Freeze], *, at: datetime) -> list[dict[str, Any]]:
    """Return the freezes that hold or will, with leave to lift them; and why not, where there is none."""
    rows = []
    for one in freezes:
        if freeze_end(one) <= at:
            continue
        may = Ability.FREEZE_LIFT in access.abilities_for(scope, one)
        rows.append(
            {
                "freeze": one,
                "where": scope_words(one),
                "is_running": one.starts_at <= at,
                "may_lift": may,
                "dialog": f"lift-{one.pk}",
                "url": reverse("freeze-lift", args=[one.pk]),
                "days": counted(max((one.ends_at - one.starts_at).days, 1), "day"),
            }
        )
    return rows


def _others(zones: Sequence[str], own: str) -> list[str]:
    return [name for name in zones if name != own][:OTHER_ZONES]


def _city(zone: str) -> str:
    return zone.rpartition("/")[2].replace("_", " ")


def _midnight(one: date, zone: Any) -> datetime:
    return datetime.combine(one, time(), tzinfo=zone).astimezone(UTC)


def _date(text: str, *, today: date) -> date | None:
    """Read a day of the address; what cannot be read, or is very far away, is today."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if abs((found - today).days) <= FAR else None
