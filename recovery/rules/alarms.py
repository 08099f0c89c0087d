"""A dead man's switch (BCK-1): silence is what alarms. Each alarm is a fact now, not an event then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from changecontrol.lifecycles.machine import Word
from recovery.rules.times import length, moment

SIZE_FACTOR = 2.0
"""A point is odd that is this many times greater or smaller than the usual one."""
SIZES_LEAST = 3
"""How many earlier points tell what is usual."""


class AlarmKind(Word):
    NO_SUCCESS = "no_success"
    WAL_FAILING = "wal_failing"
    SIZE_ANOMALY = "size_anomaly"
    STORE_UNREACHABLE = "store_unreachable"
    DRILL_OVERDUE = "drill_overdue"


@dataclass(frozen=True, slots=True)
class Alarm:
    """`since` is when it became wrong, not when somebody looked."""

    kind: AlarmKind
    sentence: str
    since: datetime


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What is known of an environment's backups. `due_at` is the newest scheduled start; sizes are bytes, oldest first.

    `wal_within` None: no WAL is archived. `watched_since` is when the policy began: before it, nothing could succeed.
    """

    watched_since: datetime
    due_at: datetime | None
    grace: timedelta
    last_success_at: datetime | None
    wal_within: timedelta | None = None
    last_wal_at: datetime | None = None
    sizes: tuple[int, ...] = ()
    measured_at: datetime | None = None
    unreachable_stores: tuple[tuple[str, datetime], ...] = ()
    drill_every: timedelta | None = None
    last_drill_at: datetime | None = None


def alarms(facts: BackupFacts, *, at: datetime) -> tuple[Alarm, ...]:
    """List what is wrong now, worst first."""
    found = (*_no_success(facts, at), *_wal(facts, at), *_stores(facts), *_size(facts), *_drill(facts, at))
    return tuple(found)


def drill_due_at(*, watched_since: datetime, last_drill_at: datetime | None, every: timedelta) -> datetime:
    """Return when the next drill must have passed: counted from the last that did, or from the policy's beginning."""
    return (last_drill_at or watched_since) + every


def _no_success(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    due = facts.due_at
    if due is None or due < facts.watched_since:
        return
    late_at = due + facts.grace
    if at > late_at and (facts.last_success_at is None or facts.last_success_at < due):
        last = f"The last success was at {moment(facts.last_success_at)}" if facts.last_success_at else "None ever did"
        sentence = f"No backup has succeeded since it was due at {moment(due)}. {last}."
        yield Alarm(AlarmKind.NO_SUCCESS, sentence, late_at)


def _wal(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    # Not before there is a base backup: without one, WAL leads nowhere, and that is the alarm above.
    if facts.wal_within is None or facts.last_success_at is None:
        return
    newest = max(facts.last_wal_at or facts.last_success_at, facts.last_success_at)
    late_at = newest + facts.wal_within
    if at > late_at:
        sentence = (
            f"No WAL has been archived for {length(at - newest)}: the base backup is good, and what was written since "
            f"{moment(newest)} would be lost."
        )
        yield Alarm(AlarmKind.WAL_FAILING, sentence, late_at)


def _stores(facts: BackupFacts) -> Iterator[Alarm]:
    for url, since in facts.unreachable_stores:
        yield Alarm(AlarmKind.STORE_UNREACHABLE, f"{url} has not answered since {moment(since)}.", since)


def _size(facts: BackupFacts) -> Iterator[Alarm]:
    *earlier, newest = facts.sizes or (0,)
    if len(earlier) < SIZES_LEAST or facts.measured_at is None:
        return
    usual = median(earlier)
    if usual / SIZE_FACTOR <= newest <= usual * SIZE_FACTOR:
        return
    sentence = f"The newest point has {newest:,} bytes, and {usual:,.0f} are usual."
    yield Alarm(AlarmKind.SIZE_ANOMALY, sentence, facts.measured_at)


def _drill(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    if facts.drill_every is None:
        return
    due = drill_due_at(watched_since=facts.watched_since, last_drill_at=facts.last_drill_at, every=facts.drill_every)
    if at > due:
        last = f"the last passed at {moment(facts.last_drill_at)}" if facts.last_drill_at else "none ever passed"
        yield Alarm(AlarmKind.DRILL_OVERDUE, f"A drill was due at {moment(due)}; {last}.", due)
