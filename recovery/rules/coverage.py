"""To which times can we go back? Computed from the base backups and WAL segments that are really there (BCK-3).

With the WAL that makes it consistent a backup reaches its own moment; with more, every one up to the first hole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from recovery.rules.times import exact_moment, moment

SHORTEST = timedelta(microseconds=1)
"""Between two moments next to each other, as PostgreSQL counts them."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Every moment from `start` to `end`, both included; they are one where a backup stands without WAL."""

    start: datetime
    end: datetime

    def holds(self, at: datetime) -> bool:
        return self.start <= at <= self.end

    @property
    def words(self) -> str:
        """Say it as gaps are said."""
        if self.start == self.end:
            return exact_moment(self.start)
        return f"{moment(self.start)} to {moment(self.end)}"


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup in the store, consistent at `consistent_at` with the WAL from `start_lsn` to `stop_lsn`.

    It needs that WAL, unless it brings it itself. `needs` names the backup an incremental one builds on, or is empty.
    """

    key: str
    consistent_at: datetime
    timeline: int
    start_lsn: int
    stop_lsn: int
    needs: str = ""
    brings_wal: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of WAL in the store, from `start_lsn` up to, not including, `end_lsn`; complete up to `ends_at`.

    A timeline that somebody was promoted to left its `parent` at `forked_lsn`; without a parent it began by itself.
    """

    timeline: int
    start_lsn: int
    end_lsn: int
    ends_at: datetime
    parent: int = 0
    forked_lsn: int = 0

    def meets(self, other: Segment) -> bool:
        """Tell whether some position is in both."""
        is_same = self.timeline == other.timeline
        return is_same and self.start_lsn < other.end_lsn and other.start_lsn < self.end_lsn


@dataclass(frozen=True, slots=True)
class Coverage:
    """The covered spans, in order and apart from each other, and for each backup that counts how far it reaches.

    `blanks` are the times between which a backup leads to a database and its attachments were not copied.
    """

    spans: tuple[Span, ...]
    reaches: Mapping[str, Span]
    blanks: Mapping[str, tuple[tuple[datetime, datetime], ...]] = field(default_factory=dict)

    @property
    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """The times between spans, ends not included."""
        return tuple((earlier.end, later.start) for earlier, later in pairwise(self.spans))

    def holds(self, at: datetime) -> bool:
        return any(span.holds(at) for span in self.spans)

    def until(self, at: datetime) -> Coverage:
        """Return what is covered up to a time."""

        def cut(span: Span) -> Span:
            return Span(span.start, min(span.end, at))

        return Coverage(
            tuple(cut(one) for one in self.spans if one.start <= at),
            {key: cut(one) for key, one in self.reaches.items() if one.start <= at},
            self.blanks,
        )

    def without(self, since: datetime, until: datetime) -> Coverage:
        """Return what is covered but for the times between two, which themselves stay."""
        blanks = {key: (*self.blanks.get(key, ()), (since, until)) for key in self.reaches}
        return Coverage(_covered(self.reaches, blanks), self.reaches, blanks)

    def times_not_in(self, other: Coverage) -> tuple[Span, ...]:
        """Return the times that are covered and by another coverage are not; an end that it holds is not meant."""
        found = []
        for span in self.spans:
            start, is_free = span.start, True
            for one in other.spans:
                if one.end < start or one.start > span.end:
                    continue
                if one.start > start:
                    found.append(Span(start, one.start))
                start, is_free = one.end, False
            if start < span.end or is_free:
                found.append(Span(start, span.end))
        return tuple(found)

    def last_safe_before(self, at: datetime) -> datetime | None:
        """Return the newest covered moment up to and including this one."""
        return max((min(at, span.end) for span in self.spans if span.start <= at), default=None)

    def backup_for(self, at: datetime) -> str | None:
        """Return the key of the newest backup from which this moment is reached."""
        fit = [
            (span.start, key) for key, span in self.reaches.items() if span.holds(at) and not self._is_blank(key, at)
        ]
        return max(fit)[1] if fit else None

    def last_safe_without(self, keys: Collection[str], *, before: datetime) -> datetime | None:
        """Return the newest covered moment up to this one that is reached from a backup other than these."""
        # Of the backups that reach a moment the newest is taken: without these, it is one before they were taken.
        edges = [self.reaches[key].start - SHORTEST for key in keys if key in self.reaches]
        ends = [span.end for span in self.reaches.values()]
        blanks = [since for rows in self.blanks.values() for since, _ in rows]
        asked = [at for at in (before, *edges, *ends, *blanks) if at <= before]
        return max((at for at in asked if self.backup_for(at) not in {None, *keys}), default=None)

    def has_way_back(self, key: str) -> bool:
        """Tell whether any moment at all is reached from a backup."""
        return key in self.reaches and bool(_covered({key: self.reaches[key]}, self.blanks))

    def _is_blank(self, key: str, at: datetime) -> bool:
        return any(since < at < until for since, until in self.blanks.get(key, ()))

    def refusal(self, at: datetime) -> str:
        """Say why there is no way back to this time, and the last safe one before it; empty where there is a way.

        The words are in the zone in which the time is given.
        """
        if at.tzinfo is None:
            return "Give the time with its zone."
        if self.holds(at):
            return ""
        if not self.spans:
            return "There is no recovery point to go back to."
        safe = self.last_safe_before(at)
        if safe is None:
            return f"{moment(at)} is before the first time that can be restored, {_first(self.spans[0], at)}."
        where = "after the last time that can be restored" if at > self.spans[-1].end else "in a gap"
        # Without WAL after it a backup stands alone: a second beside its moment is refused.
        say = exact_moment if Span(safe, safe) in self.spans else moment
        return f"{moment(at)} is {where}. The last safe time before it is {say(safe.astimezone(at.tzinfo))}."


def _first(span: Span, at: datetime) -> str:
    """Say the first time of a span in the zone of another one, so that it can be given back."""
    first = span.start.astimezone(at.tzinfo)
    # Whole seconds are what people give: the one that it lies in begins before it.
    whole = first.replace(microsecond=0) + timedelta(seconds=1) if first.microsecond else first
    return moment(whole) if whole <= span.end else exact_moment(first)


def cover(backups: Iterable[Backup], *, segments: Iterable[Segment]) -> Coverage:
    """Compute what can be restored. An incremental backup counts only with everything it builds on."""
    known = {one.key: one for one in backups}
    by_place = sorted(segments, key=lambda one: (one.timeline, one.start_lsn, one.end_lsn))
    found = {one.key: _reach(one, by_place) for one in known.values() if _is_whole(one, known)}
    reaches = {key: reach for key, reach in found.items() if reach is not None}
    return Coverage(_merged(reaches.values()), reaches)


def cover_as_told(key: str, *, consistent_at: datetime, told: Span) -> Coverage:
    """Compute to which times a backup leads that an operator keeps, which tells what it can restore.

    A backup that was consistent before the first time that it tells is no longer there.
    """
    if consistent_at < told.start:
        return Coverage((), {})
    reach = Span(consistent_at, max(consistent_at, told.end))
    return Coverage((reach,), {key: reach})


def together(coverages: Iterable[Coverage]) -> Coverage:
    """Return what several servers' backups cover. Each is computed alone: the WAL of one leads no other on."""
    rows = list(coverages)
    reaches = {key: span for one in rows for key, span in one.reaches.items()}
    blanks = {key: times for one in rows for key, times in one.blanks.items()}
    return Coverage(_covered(reaches, blanks), reaches, blanks)


def _covered(
    reaches: Mapping[str, Span], blanks: Mapping[str, tuple[tuple[datetime, datetime], ...]]
) -> tuple[Span, ...]:
    spans = []
    for key, reach in reaches.items():
        parts = [reach]
        for since, until in blanks.get(key, ()):
            parts = [piece for part in parts for piece in _without(part, since, until)]
        spans += parts
    return _merged(spans)


def _without(span: Span, since: datetime, until: datetime) -> list[Span]:
    if span.end <= since or span.start >= until:
        return [span]
    before = [Span(span.start, since)] if span.start <= since else []
    return [*before, Span(until, span.end)] if span.end >= until else before


def _is_whole(one: Backup, known: Mapping[str, Backup]) -> bool:
    passed = set()
    while one.needs:
        if one.needs not in known or one.key in passed:
            return False
        passed.add(one.key)
        one = known[one.needs]
    return True


def _reach(backup: Backup, by_place: Sequence[Segment]) -> Span | None:
    """Follow the WAL from where the backup begins to the first hole, as recovery follows timelines.

    None where what makes it consistent is not there: then it leads nowhere, not even to its own moment.
    """
    reached, until = backup.stop_lsn if backup.brings_wal else backup.start_lsn, backup.consistent_at
    for timeline, ends_lsn in _path(backup, by_place):
        for one in by_place:
            if one.timeline != timeline or one.end_lsn < reached:
                continue
            if one.start_lsn > reached:
                break  # a hole: what follows it cannot be reached, unless the next timeline begins before it
            if ends_lsn is not None and one.end_lsn > ends_lsn:
                # Written after the fork, by a server that was given up: when it was at the fork is not known.
                reached = max(reached, ends_lsn)
                break
            reached, until = one.end_lsn, max(until, one.ends_at)
    return Span(backup.consistent_at, until) if reached >= backup.stop_lsn else None


def _path(backup: Backup, segments: Sequence[Segment]) -> list[tuple[int, int | None]]:
    """Return the timelines from a backup's own to its newest descendant, each with where the next one leaves it.

    A timeline that was left before the backup was consistent leads nowhere from it.
    """
    forks = {one.timeline: one for one in segments if one.parent}
    for newest in sorted(forks, reverse=True):
        path: list[tuple[int, int | None]] = []
        timeline, leaves_at = newest, None
        while timeline in forks and timeline != backup.timeline and len(path) <= len(forks):
            path.append((timeline, leaves_at))
            timeline, leaves_at = forks[timeline].parent, forks[timeline].forked_lsn
        if timeline == backup.timeline and leaves_at is not None and leaves_at >= backup.stop_lsn:
            return [(timeline, leaves_at), *reversed(path)]
    return [(backup.timeline, None)]


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for one in sorted(spans):
        if merged and one.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, one.end))
        else:
            merged.append(one)
    return tuple(merged)
