"""The operator's schedules: six fields, seconds first, or a word such as `@daily`. All times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

FIELDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
LOOKED_AHEAD = timedelta(days=5 * 366)
_WORDS = {
    "@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}  # fmt: skip


class Unreadable(ValueError):
    """A schedule that makes no sense."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The seconds, minutes, hours, days, months and weekdays (0 is Sunday) on which something happens."""

    sets: tuple[frozenset[int], ...]
    is_any_day: bool
    is_any_weekday: bool

    def next_after(self, at: datetime) -> datetime | None:
        """Return the first time after this one, or None within five years."""
        least = at.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        day = least.replace(hour=0, minute=0, second=0)
        until = day + LOOKED_AHEAD
        while day < until:
            found = self._first_on(day, least) if self._is_on(day) else None
            if found is not None:
                return found
            day += timedelta(days=1)
        return None

    def _first_on(self, day: datetime, least: datetime) -> datetime | None:
        seconds, minutes, hours = (sorted(one) for one in self.sets[:3])
        for hour in hours:
            if day + timedelta(hours=hour + 1) <= least:
                continue
            for minute in minutes:
                if day + timedelta(hours=hour, minutes=minute + 1) <= least:
                    continue
                for second in seconds:
                    found = day + timedelta(hours=hour, minutes=minute, seconds=second)
                    if found >= least:
                        return found
        return None

    def _is_on(self, day: datetime) -> bool:
        _, _, _, days, months, weekdays = self.sets
        is_day, is_weekday = day.day in days, (day.weekday() + 1) % 7 in weekdays
        if day.month not in months:
            return False
        # Where both are named either will do, as cron has always had it.
        return (is_day and is_weekday) if self.is_any_day or self.is_any_weekday else (is_day or is_weekday)


def parse_schedule(text: str) -> Schedule:
    """Read a schedule. Raises `Unreadable`."""
    parts = _WORDS.get(text.strip(), text).split()
    if len(parts) != len(FIELDS):
        raise Unreadable(f"expected exactly {len(FIELDS)} fields, found {len(parts)}: {text}")
    sets = tuple(_set(part, low, high) for part, (low, high) in zip(parts, FIELDS, strict=True))
    return Schedule(sets, is_any_day=parts[3] in "*?", is_any_weekday=parts[5] in "*?")


def _set(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            start = low if span in ("*", "?") else int(first)
            end = high if span in ("*", "?") or (step and not dash) else int(last if dash else first)
            every = int(step) if step else 1
        except ValueError as problem:
            raise Unreadable(f"failed to parse int from {part}") from problem
        if not low <= start <= end <= high or every < 1:
            raise Unreadable(f"{part} is not between {low} and {high}")
        found |= set(range(start, end + 1, every))
    return frozenset(found)
