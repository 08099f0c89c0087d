"""What of an environment's recovery points may go, and why each other one stays.

Never goes what a later part depends on, what a legal hold names, what an object lock keeps, what is being read, or the
last verified point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from changecontrol.rules.years import on_clock
from recovery.rules.coverage import Segment
from recovery.rules.times import moment

PCI_MONTHS = 12
"""How long PCI DSS wants history kept (10.5.1)."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much a policy keeps. Days, weeks and months are calendar ones, in `zone`, and those without a point are free.

    `last` is at least 1; continuous WAL reaches back to the oldest of these. `is_pci` keeps one point of each of the
    last twelve months.
    """

    last: int
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    is_pci: bool = False
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class KeptPoint:
    """A point in the store. `needs` names what it cannot be restored without; `hold` the legal hold that names it.

    `is_in_use` while a restore or a drill reads it; `is_broken` where a check disproved it.
    """

    key: str
    taken_at: datetime
    needs: frozenset[str] = frozenset()
    is_verified: bool = False
    hold: str = ""
    is_in_use: bool = False
    is_broken: bool = False
    locked_until: datetime | None = None
    timeline: int = 1
    start_lsn: int = 0
    stop_lsn: int = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """`goes` in the order it may be deleted, dependants first; `stays` with every reason."""

    goes: tuple[str, ...]
    stays: Mapping[str, tuple[str, ...]]


def plan_retention(points: Iterable[KeptPoint], *, keep: Keep, at: datetime) -> Retention:
    """Say what would go and why each other point stays. Planned again on what stays, nothing more goes."""
    newest_first = sorted(points, key=lambda one: (one.taken_at, one.key), reverse=True)
    reasons: dict[str, list[str]] = {}
    for one, reason in [*_counted(newest_first, keep, at=at), *_protected(newest_first, at=at)]:
        reasons.setdefault(one.key, []).append(reason)
    _follow_needs(newest_first, reasons)
    return Retention(
        goes=tuple(one.key for one in newest_first if one.key not in reasons),
        stays={one.key: tuple(reasons[one.key]) for one in newest_first if one.key in reasons},
    )


def plan_wal(
    segments: Iterable[Segment], *, points: Sequence[KeptPoint], keep: Keep, holds_everything: bool
) -> tuple[Segment, ...]:
    """Return the segments that may go, given the points that stay.

    Continuous WAL stays from the oldest of the last points on; an older point keeps what makes it consistent alone.
    While a legal hold names the environment, or where no point stays, none goes.
    """
    if holds_everything or not points:
        return ()
    last = sorted(points, key=lambda one: one.taken_at, reverse=True)[: keep.last]
    oldest = min(last, key=lambda one: (one.timeline, one.start_lsn))
    return tuple(
        one
        for one in segments
        if (one.timeline, one.end_lsn) <= (oldest.timeline, oldest.start_lsn)
        and not any(
            one.timeline == point.timeline and one.start_lsn <= point.stop_lsn and one.end_lsn > point.start_lsn
            for point in points
        )
    )


def _counted(newest_first: Sequence[KeptPoint], keep: Keep, *, at: datetime) -> list[tuple[KeptPoint, str]]:
    zone = ZoneInfo(keep.zone)
    # What is broken keeps nothing, and takes no place of what is whole.
    newest_first = [one for one in newest_first if not one.is_broken]
    among = "It is the last one." if keep.last == 1 else f"It is among the last {keep.last}."
    found = [(one, among) for one in newest_first[: keep.last]]
    for name, count in (("day", keep.daily), ("week", keep.weekly), ("month", keep.monthly)):
        kept = f"{count} {name}{'' if count == 1 else 's'}"
        newest = _newest_of_each(newest_first, name, zone)[:count]
        found += [(one, f"It is the newest of its {name}, and {kept} are kept.") for one in newest]
    if keep.is_pci:
        this_month = _months(at.astimezone(zone))
        found += [
            (one, f"It is the newest of its month, and PCI DSS wants {PCI_MONTHS} months.")
            for one in _newest_of_each(newest_first, "month", zone)
            if this_month - _months(on_clock(one.taken_at, zone)) <= PCI_MONTHS
        ]
    return found


def _protected(newest_first: Sequence[KeptPoint], *, at: datetime) -> list[tuple[KeptPoint, str]]:
    found = [(one, f"Legal hold “{one.hold}” names it.") for one in newest_first if one.hold]
    found += [
        (one, f"It counts as locked until {moment(one.locked_until)}.")
        for one in newest_first
        if one.locked_until is not None and one.locked_until > at
    ]
    found += [(one, "A restore or a drill reads it.") for one in newest_first if one.is_in_use]
    verified = next((one for one in newest_first if one.is_verified), None)
    return found if verified is None else [*found, (verified, "It is the last verified point.")]


def _follow_needs(newest_first: Sequence[KeptPoint], reasons: dict[str, list[str]]) -> None:
    """Let what stays keep all it needs, however long the chain."""
    known = {one.key: one for one in newest_first}
    waiting = [known[key] for key in reasons]
    seen: set[tuple[str, str]] = set()
    while waiting:
        one = waiting.pop()
        for key in sorted(one.needs & known.keys()):
            if (one.key, key) not in seen:
                seen.add((one.key, key))
                reasons.setdefault(key, []).append(f"{one.key}, which stays, cannot be restored without it.")
                waiting.append(known[key])


def _newest_of_each(newest_first: Sequence[KeptPoint], period: str, zone: ZoneInfo) -> list[KeptPoint]:
    """Return the newest point of each day, week or month of the zone that has one, newest first."""
    found: dict[object, KeptPoint] = {}
    for one in newest_first:
        local = on_clock(one.taken_at, zone)
        key = {"day": local.date(), "week": local.isocalendar()[:2], "month": _months(local)}[period]
        found.setdefault(key, one)
    return list(found.values())


def _months(local: datetime) -> int:
    return local.year * 12 + local.month
