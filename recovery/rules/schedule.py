"""When a backup or drill is due: a recurrence in a zone, as change windows have it, of which only the starts count."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from changecontrol.rules.intervals import Interval
from changecontrol.rules.recurrence import Recurrence, check_recurrence, occurrences, openings

STARTS_LIMIT = 24
"""How many backups may start within 24 hours."""
SAMPLE = timedelta(days=40)
"""How much of a schedule is counted out."""
HORIZON = timedelta(days=400)
_DAY = timedelta(days=1)
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """An RFC 5545 rule. `starts_local` is wall-clock time in `zone`, naive."""

    rrule: str
    starts_local: datetime
    zone: str

    @property
    def recurrence(self) -> Recurrence:
        return Recurrence(starts_at=self.starts_local, duration=_MOMENT, zone=self.zone, rrule=self.rrule)


def check_schedule(schedule: Schedule) -> tuple[str, ...]:
    """Say in sentences what is wrong with it; an empty tuple where nothing is."""
    if not schedule.rrule or not schedule.zone:
        return ("A schedule has a recurrence rule and a time zone.",)
    if sentences := check_recurrence(schedule.recurrence):
        return sentences
    first = next_due(schedule, after=schedule.starts_local.replace(tzinfo=UTC) - _DAY)
    starts = _starts(schedule, Interval(first, first + SAMPLE)) if first else []
    if any(bisect_left(starts, start + _DAY) - index > STARTS_LIMIT for index, start in enumerate(starts)):
        return (f"A schedule has at most {STARTS_LIMIT} starts a day.",)
    return ()


def next_due(schedule: Schedule, *, after: datetime) -> datetime | None:
    """Return the first start after the moment, or None where the schedule has ended."""
    found = openings(schedule.recurrence, zone=schedule.zone, after=after + _MOMENT, count=1)
    return found[0].start if found else None


def last_due(schedule: Schedule, *, at: datetime) -> datetime | None:
    """Return the newest start up to and including the moment, or None where none was within 400 days."""
    return max(_starts(schedule, Interval(at - HORIZON, at + _MOMENT)), default=None)


def longest_wait(schedule: Schedule, *, after: datetime) -> timedelta | None:
    """Return the longest time between two starts within 400 days; None where the schedule ends.

    Clock changes count: a daily backup waits 25 hours once a year.
    """
    starts = _starts(schedule, Interval(after, after + HORIZON))
    following = next_due(schedule, after=starts[-1] if starts else after + HORIZON)
    if following is None or not starts:
        return None
    return max(later - earlier for earlier, later in pairwise([*starts, following]))


def _starts(schedule: Schedule, frame: Interval) -> list[datetime]:
    return [one.start for one in occurrences(schedule.recurrence, zone=schedule.zone, frame=frame)]
