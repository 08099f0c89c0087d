"""Windows that recur: a bounded subset of RFC 5545, in local time of a zone, told in UTC.

A start in the gap of a clock change moves forward, a doubled hour runs once (the first time), and a duration is
elapsed time. `rrule` never names a start: that and the zone are the window's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import DAILY, WEEKLY, rrule, rrulestr

from changecontrol.rules.intervals import Interval
from changecontrol.rules.years import YEARS, is_within_years

MAX_DURATION = timedelta(days=31)
MAX_RULE_LENGTH = 300
MAX_COUNT = 1000
MAX_INTERVAL = 366
MAX_DATES = 366
PREVIEW_HORIZON = timedelta(days=3660)
"""How far ahead openings are looked for: 29 February may be eight years away."""

_FREQUENCIES = {"DAILY", "WEEKLY", "MONTHLY", "YEARLY"}
_PARTS = {
    "FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY", "BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO",
    "BYSETPOS", "BYHOUR", "BYMINUTE",
}  # fmt: skip
_SLACK = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """When a window opens. Times are local, naive; `zone` None is each store's own; without `rrule` it opens once."""

    starts_at: datetime
    duration: timedelta
    zone: str | None
    rrule: str = ""
    exdates: tuple[datetime, ...] = ()
    rdates: tuple[datetime, ...] = ()


def check_recurrence(recurrence: Recurrence) -> tuple[str, ...]:
    """Say in sentences what is wrong with it; an empty tuple where nothing is."""
    sentences: list[str] = []
    if not timedelta(0) < recurrence.duration <= MAX_DURATION:
        sentences.append(f"A window lasts between a moment and {MAX_DURATION.days} days.")
    if recurrence.zone is not None and recurrence.zone not in _zones():
        sentences.append(f"There is no time zone called “{recurrence.zone}”.")
    local = (recurrence.starts_at, *recurrence.exdates, *recurrence.rdates)
    if any(one.tzinfo is not None for one in local):
        sentences.append("Starts and exceptions are written in local time, without an offset.")
        return tuple(sentences)
    if not all(is_within_years(one) for one in local):
        # A rule of long ago is walked from there, and one of the end of time has no time after it.
        sentences.append(f"A window opens between the years {YEARS.start} and {YEARS.stop - 1}.")
        return tuple(sentences)
    if len(recurrence.exdates) > MAX_DATES or len(recurrence.rdates) > MAX_DATES:
        sentences.append(f"A window has at most {MAX_DATES} exceptions and {MAX_DATES} extra dates.")
    if recurrence.rrule:
        sentences.extend(_check_rule(recurrence.rrule, starts_at=recurrence.starts_at))
    return tuple(sentences)


def openings(recurrence: Recurrence, *, zone: str, after: datetime, count: int) -> tuple[Interval, ...]:
    """List the next openings that end after the moment, the running one included. `zone` is the store's."""
    found: list[Interval] = []
    frame = timedelta(days=max(8, 2 * count))
    while True:
        found = occurrences(recurrence, zone=zone, frame=Interval(after, after + min(frame, PREVIEW_HORIZON)))
        if len(found) >= count or frame >= PREVIEW_HORIZON:
            return tuple(found[:count])
        frame *= 6


def occurrences(recurrence: Recurrence, *, zone: str, frame: Interval) -> list[Interval]:
    """List the openings that meet the frame, by start; two that begin at one instant are one."""
    place = ZoneInfo(recurrence.zone or zone)
    # A local clock may be changed between the edge of the frame and the opening: look a little further.
    low = _local(frame.start, place) - recurrence.duration - _SLACK
    high = _local(frame.end, place) + _SLACK
    starts = {_instant(one, place) for one in _local_starts(recurrence, low=low, high=high)}
    found = (Interval(start, start + recurrence.duration) for start in sorted(starts))
    return [one for one in found if one.meets(frame)]


def _local_starts(recurrence: Recurrence, *, low: datetime, high: datetime) -> set[datetime]:
    starts = {one for one in (*recurrence.rdates, recurrence.starts_at) if low <= one <= high}
    if recurrence.rrule:
        # RFC 5545 leaves open what a start outside its own rule means: only what the rule names counts.
        starts.discard(recurrence.starts_at)
        starts |= {one for one in recurrence.rdates if low <= one <= high}
        starts.update(_rule_starts(recurrence, low=low, high=high))
    return starts - set(recurrence.exdates)


def _rule_starts(recurrence: Recurrence, *, low: datetime, high: datetime) -> list[datetime]:
    rule = _advance(_rule(recurrence.rrule, recurrence.starts_at), low=low)
    found: list[datetime] = []
    for one in rule:
        if one > high:
            break
        if one >= low:
            found.append(one)
    return found


def _advance(rule: rrule, *, low: datetime) -> rrule:
    """Move the start of a daily or weekly rule near the frame: walking there from years ago costs milliseconds."""
    if _count_of(rule) is not None or rule._freq not in (DAILY, WEEKLY):  # type: ignore[attr-defined]
        return rule
    start: datetime = rule._dtstart  # type: ignore[attr-defined]
    period = timedelta(days=rule._interval * (7 if rule._freq == WEEKLY else 1))  # type: ignore[attr-defined]
    periods = (low - start) // period - 1
    return rule.replace(dtstart=start + periods * period) if periods > 0 else rule


@lru_cache(maxsize=4096)
def _rule(text: str, starts_at: datetime) -> rrule:
    rule = rrulestr(text.upper(), dtstart=starts_at)
    if not isinstance(rule, rrule):
        raise ValueError("A recurrence has one rule.")
    return rule


def _until_of(rule: rrule) -> datetime | None:
    until: datetime | None = rule._until  # type: ignore[attr-defined]
    return until


def _count_of(rule: rrule) -> int | None:
    count: int | None = rule._count  # type: ignore[attr-defined]
    return count


def _check_rule(text: str, *, starts_at: datetime) -> list[str]:
    if len(text) > MAX_RULE_LENGTH or "\n" in text or ":" in text:
        return [f"A recurrence rule is one line of at most {MAX_RULE_LENGTH} characters, such as FREQ=WEEKLY;BYDAY=TU."]
    parts: dict[str, str] = {}
    for part in text.upper().split(";"):
        name, _, value = part.partition("=")
        if name not in _PARTS or not value:
            return [f"“{part}” is not a part that a recurrence rule has here."]
        if name in parts:
            return [f"{name} is said twice."]
        parts[name] = value
    if parts.get("FREQ") not in _FREQUENCIES:
        return ["A rule recurs DAILY, WEEKLY, MONTHLY or YEARLY; BYHOUR names several times of a day."]
    if "COUNT" in parts and "UNTIL" in parts:
        return ["A recurrence rule ends by COUNT or by UNTIL, not by both."]
    if parts.get("UNTIL", "").endswith("Z"):
        return ["UNTIL is written in local time, without Z."]
    for name, most in (("COUNT", MAX_COUNT), ("INTERVAL", MAX_INTERVAL)):
        value = parts.get(name, "1")
        if not (value.isascii() and value.isdigit() and 1 <= int(value) <= most):
            return [f"{name} is a number from 1 to {most}."]
    if "COUNT" in parts:
        text = ";".join(part for part in text.upper().split(";") if not part.startswith("COUNT="))
    try:
        is_kept = _names_a_day(_rule(text, starts_at), starts_at=starts_at)
    except (ValueError, TypeError) as error:
        return [f"The recurrence rule cannot be read: {error}."]
    return [] if is_kept else ["The recurrence rule names no day within ten years."]


def _names_a_day(rule: rrule, *, starts_at: datetime) -> bool:
    """Tell whether the rule opens within the horizon.

    A rule of impossible days is searched up to the year 9999, which takes seconds. The calendar repeats every 400
    years, weekdays included, so the question is asked as late as leaves room for an answer.
    """
    years = 400 * ((9999 - 12 - starts_at.year) // 400)
    shifted = rule.replace(dtstart=starts_at.replace(year=starts_at.year + years), until=None)
    first = next(iter(shifted), None)
    if first is None:
        return False
    first = first.replace(year=first.year - years)
    until = _until_of(rule)
    return first <= starts_at + PREVIEW_HORIZON and (until is None or first <= until)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    # fold=0: in a gap the offset from before holds, which moves the start forward; of a doubled hour it is the first.
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _local(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
