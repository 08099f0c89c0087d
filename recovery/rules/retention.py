"""What of an environment's recovery points may go, and why each other one stays.

Never goes what a later part depends on, what a legal hold names, what an object lock keeps, what is being read, or the
last verified point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from changecontrol.rules.years import on_clock
from recovery.rules.coverage import Segment, Span
from recovery.rules.times import moment

PCI_MONTHS = 12
"""How long PCI DSS wants history kept (10.5.1)."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Keep:
    """How much a policy keeps. Days, weeks and months are calendar ones, in `zone`, and those without a point are free.

    `last` is at least 1; continuous WAL reaches back to the oldest of these and of the days. `is_pci` keeps one point
    of each of the last twelve months.
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

    `is_in_use` while a restore or a drill reads it; `is_broken` where a check disproved it. `is_alone` where it keeps
    the WAL that makes it consistent, and leads on to no later time.
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
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """`goes` in the order it may be deleted, dependants first; `stays` with every reason.

    `lost` are the times to which there is no way back once that is gone, where it was asked for.
    """

    goes: tuple[str, ...]
    stays: Mapping[str, tuple[str, ...]]
    lost: tuple[Span, ...] = ()


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


def lead_on(points: Iterable[KeptPoint], *, keep: Keep, at: datetime) -> frozenset[str]:
    """Return the keys of the points after which WAL stays: the last ones, the newest of each day, what is locked."""
    whole = sorted((one for one in points if not one.is_broken), key=lambda one: (one.taken_at, one.key), reverse=True)
    days = _newest_of_each(whole, "day", ZoneInfo(keep.zone))[: keep.daily]
    locked = [one for one in whole if one.locked_until is not None and one.locked_until > at]
    return frozenset(one.key for one in (*whole[: keep.last], *days, *locked))


def plan_wal(segments: Iterable[Segment], *, points: Sequence[KeptPoint], segment_bytes: int) -> tuple[Segment, ...]:
    """Return the segments of one server that may go, given the points of it that stay.

    From the oldest point on that leads on all WAL stays. Before it a point keeps what makes it consistent, with the
    segment after it; the last one of a timeline keeps besides what leads to where that was left. WAL that leads nowhere
    goes. Where no point stays, none goes.
    """
    rows = sorted(segments, key=lambda one: (one.timeline, one.start_lsn, one.end_lsn))
    needed = [_needed_until(one, rows) for one in points]
    holes = list(_holes(_joined(rows), points, size=segment_bytes))

    def is_needed(one: Segment) -> bool:
        return any(
            one.timeline == point.timeline
            and (one.end_lsn > point.start_lsn or one.start_lsn == point.start_lsn)
            and (until is None or one.start_lsn <= until)
            for point, until in zip(points, needed, strict=True)
        )

    return tuple(one for one in rows if any(hole.holds(one) for hole in holes) and not is_needed(one))


def cut_wal(
    recorded: Iterable[Segment], *, points: Sequence[KeptPoint], segment_bytes: int
) -> Mapping[Segment, tuple[Segment, ...]]:
    """Return what is left to be counted on of each piece of recorded WAL once `plan_wal` was carried out.

    How far in time a piece leads that was cut is not known: to the points that it makes consistent, at least.
    """
    rows = sorted(recorded, key=lambda one: (one.timeline, one.start_lsn, one.end_lsn))
    holes = list(_holes(_joined(rows), points, size=segment_bytes))
    return {one: tuple(_cut(one, [hole for hole in holes if hole.timeline == one.timeline], points)) for one in rows}


@dataclass(frozen=True, slots=True)
class _Hole:
    """WAL of a timeline that may go, from `start` up to, not including, `end`; None: to the end of the timeline."""

    timeline: int
    start: int
    end: int | None

    def holds(self, one: Segment) -> bool:
        is_before_end = self.end is None or one.end_lsn <= self.end
        return (
            one.timeline == self.timeline and self.start <= one.start_lsn and one.end_lsn > self.start and is_before_end
        )


def _holes(stretches: Sequence[Segment], points: Sequence[KeptPoint], *, size: int) -> Iterator[_Hole]:
    """Yield the WAL, in whole segments, that no point leads through or only one that leads on to no later time."""
    if not points:
        return
    leading = [one for one in points if not one.is_alone] or [max(points, key=lambda one: (one.taken_at, one.key))]
    floor = min(leading, key=_place)
    for timeline in sorted({one.timeline for one in stretches if one.timeline <= floor.timeline}):
        rows = [one for one in stretches if one.timeline == timeline]
        # What leads over from the timeline before it, which a restore to the time just before needs.
        reached = max((one.forked_lsn for one in rows if _is_led_to(one, points)), default=0)
        stays = _up(reached, size)
        for one in sorted(points, key=_place):
            if one.timeline != timeline or _place(one) > _place(floor):
                continue
            begin = _led_to(reached, rows, stays=stays, before=one.start_lsn)
            end = one.start_lsn - one.start_lsn % size
            if begin < end:
                yield _Hole(timeline, begin, end)
            reached = max(reached, one.stop_lsn)
            stays = max(stays, _up(one.stop_lsn, size) + size)
        if timeline < floor.timeline:
            # The tail of a timeline that was left stays, as far as a point of it leads.
            has_points = any(one.timeline == timeline for one in points)
            yield _Hole(timeline, _led_to(reached, rows, stays=stays) if has_points else stays, None)


def _up(position: int, size: int) -> int:
    return -(-position // size) * size


def _place(point: KeptPoint) -> tuple[int, int]:
    return point.timeline, point.start_lsn


def _is_led_to(one: Segment, points: Sequence[KeptPoint]) -> bool:
    """Tell whether a point that stays leads to where this timeline begins."""
    return any(one.parent == point.timeline and point.stop_lsn <= one.forked_lsn for point in points)


def _led_to(position: int, rows: Sequence[Segment], *, stays: int, before: int | None = None) -> int:
    """Return from where on WAL goes that leads on from a position: where it leads to a point from `stays` on, else not.

    What ends in a hole stays: it is little, and what was cut once is so never cut again.
    """
    end = max((one.end_lsn for one in rows if one.start_lsn <= position <= one.end_lsn), default=0)
    return stays if before is not None and end >= before else max(end, stays)


def _needed_until(point: KeptPoint, rows: Sequence[Segment]) -> int | None:
    """Return up to where WAL makes a point consistent: every commit before its moment has to be inside.

    None where no WAL says that it is; then nobody can tell.
    """
    following = (one for one in rows if one.timeline == point.timeline and one.end_lsn >= point.stop_lsn)
    return next((max(point.stop_lsn, one.start_lsn) for one in following if one.ends_at >= point.taken_at), None)


def _joined(rows: Sequence[Segment]) -> list[Segment]:
    """Return pieces, in their order, as stretches without a hole."""
    found: list[Segment] = []
    for one in rows:
        last = found[-1] if found else None
        if last is not None and last.timeline == one.timeline and one.start_lsn <= last.end_lsn:
            found[-1] = replace(last, end_lsn=max(last.end_lsn, one.end_lsn))
        else:
            found.append(one)
    return found


def _cut(one: Segment, holes: Iterable[_Hole], points: Sequence[KeptPoint]) -> Iterator[Segment]:
    start = one.start_lsn
    for hole in holes:
        end = min(hole.start, one.end_lsn)
        if end > start:
            yield _piece(one, start, end, points)
        start = max(start, hole.end if hole.end is not None else one.end_lsn)
    if one.end_lsn > start:
        yield replace(one, start_lsn=start)


def _piece(one: Segment, start: int, end: int, points: Sequence[KeptPoint]) -> Segment:
    if end == one.end_lsn:
        return replace(one, start_lsn=start)
    inside = (
        point.taken_at for point in points if point.timeline in {one.timeline, one.parent} and point.stop_lsn <= end
    )
    known = min(one.ends_at, max(inside, default=EPOCH))
    return replace(one, start_lsn=start, end_lsn=end, ends_at=known)


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
