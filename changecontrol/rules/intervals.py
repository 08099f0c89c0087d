"""Algebra of half-open intervals of time, in UTC. A list of them is sorted and disjoint, and touching ones are one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """From `start` up to, and not including, `end`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError("An interval ends after it starts.")

    def holds(self, at: datetime) -> bool:
        return self.start <= at < self.end

    def meets(self, other: Interval) -> bool:
        return self.start < other.end and other.start < self.end

    @property
    def length(self) -> timedelta:
        return self.end - self.start


def union(intervals: Iterable[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for one in sorted(intervals):
        if merged and one.start <= merged[-1].end:
            if one.end > merged[-1].end:
                merged[-1] = Interval(merged[-1].start, one.end)
        else:
            merged.append(one)
    return merged


def subtract(intervals: Sequence[Interval], holes: Sequence[Interval]) -> list[Interval]:
    """Cut the holes out. Both lists must be sorted and disjoint, as `union` leaves them."""
    left: list[Interval] = []
    first = 0
    for one in intervals:
        start = one.start
        while first < len(holes) and holes[first].end <= start:
            first += 1
        at = first
        while at < len(holes) and holes[at].start < one.end:
            if holes[at].start > start:
                left.append(Interval(start, holes[at].start))
            start = max(start, holes[at].end)
            at += 1
        if start < one.end:
            left.append(Interval(start, one.end))
    return left


def clip(intervals: Iterable[Interval], frame: Interval) -> list[Interval]:
    """Keep what lies inside the frame."""
    return [Interval(max(one.start, frame.start), min(one.end, frame.end)) for one in intervals if one.meets(frame)]
