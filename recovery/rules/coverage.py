"""To which times can we go back? Computed from the base backups and WAL segments that are really there (BCK-3).

A backup alone reaches the moment at which it is consistent; with the WAL after it, every moment up to the first hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from recovery.rules.times import moment


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Every moment from `start` to `end`, both included; they are one where a backup stands without WAL."""

    start: datetime
    end: datetime

    def holds(self, at: datetime) -> bool:
        return self.start <= at <= self.end


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup in the store, consistent at `consistent_at`, which brings the WAL from `start_lsn` to `stop_lsn` itself.

    `needs` names the backup an incremental one builds on, or is empty.
    """

    key: str
    consistent_at: datetime
    timeline: int
    start_lsn: int
    stop_lsn: int
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of WAL in the store, from `start_lsn` up to, not including, `end_lsn`; complete up to `ends_at`."""

    timeline: int
    start_lsn: int
    end_lsn: int
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Coverage:
    """The covered spans, in order and apart from each other, and for each backup that counts how far it reaches."""

    spans: tuple[Span, ...]
    reaches: Mapping[str, Span]

    @property
    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """The times between spans, ends not included."""
        return tuple((earlier.end, later.start) for earlier, later in pairwise(self.spans))

    def holds(self, at: datetime) -> bool:
        return any(span.holds(at) for span in self.spans)

    def last_safe_before(self, at: datetime) -> datetime | None:
        """Return the newest covered moment up to and including this one."""
        return max((min(at, span.end) for span in self.spans if span.start <= at), default=None)

    def backup_for(self, at: datetime) -> str | None:
        """Return the key of the newest backup from which this moment is reached."""
        fit = [(span.start, key) for key, span in self.reaches.items() if span.holds(at)]
        return max(fit)[1] if fit else None

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
            first = self.spans[0].start.astimezone(at.tzinfo)
            return f"{moment(at)} is before the first time that can be restored, {moment(first)}."
        where = "after the last time that can be restored" if at > self.spans[-1].end else "in a gap"
        return f"{moment(at)} is {where}. The last safe time before it is {moment(safe.astimezone(at.tzinfo))}."


def cover(backups: Iterable[Backup], *, segments: Iterable[Segment]) -> Coverage:
    """Compute what can be restored. An incremental backup counts only with everything it builds on."""
    known = {one.key: one for one in backups}
    by_place = sorted(segments, key=lambda one: (one.timeline, one.start_lsn, one.end_lsn))
    reaches = {one.key: _reach(one, by_place) for one in known.values() if _is_whole(one, known)}
    return Coverage(_merged(reaches.values()), reaches)


def _is_whole(one: Backup, known: Mapping[str, Backup]) -> bool:
    passed = set()
    while one.needs:
        if one.needs not in known or one.key in passed:
            return False
        passed.add(one.key)
        one = known[one.needs]
    return True


def _reach(backup: Backup, by_place: Sequence[Segment]) -> Span:
    """Follow the WAL from where the backup is consistent to the first hole; a newer timeline goes on from there."""
    timeline, reached, until = backup.timeline, backup.stop_lsn, backup.consistent_at
    for one in by_place:
        if one.timeline < timeline or (one.timeline == timeline and one.end_lsn <= reached):
            continue
        if one.start_lsn > reached:
            if one.timeline == timeline:
                continue  # a hole: what follows it cannot be reached, unless a newer timeline begins before it
            break
        timeline, reached, until = one.timeline, one.end_lsn, max(until, one.ends_at)
    return Span(backup.consistent_at, until)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for one in sorted(spans):
        if merged and one.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, one.end))
        else:
            merged.append(one)
    return tuple(merged)
