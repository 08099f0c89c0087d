"""A dead man's switch (BCK-1): silence is what alarms. Each alarm is a fact now, not an event then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from changecontrol.lifecycles.machine import Word
from recovery.rules.locks import PromisedLock, lock_problem
from recovery.rules.schedule import Schedule, next_due
from recovery.rules.times import length, moment

SIZE_FACTOR = 2.0
"""A point is odd that is this many times greater or smaller than the usual one."""
SIZES_LEAST = 3
"""How many earlier points tell what is usual."""
DATABASE_GRACE = timedelta(minutes=2)
"""How long a database may be away before it alarms: a server that is started anew is asked twice without an answer."""


class AlarmKind(Word):
    DATABASE_FAILING = "database_failing"
    NO_SUCCESS = "no_success"
    WAL_FAILING = "wal_failing"
    WAL_RETAINED = "wal_retained"
    SLOT_LEFT = "slot_left"
    ATTACHMENTS_FAILING = "attachments_failing"
    SIZE_ANOMALY = "size_anomaly"
    STORE_UNREACHABLE = "store_unreachable"
    OBJECTS_LOST = "objects_lost"
    NOT_LOCKED = "not_locked"
    DRILL_OVERDUE = "drill_overdue"


TITLES: Mapping[str, str] = {
    AlarmKind.DATABASE_FAILING: "database failing",
    AlarmKind.NO_SUCCESS: "no backup in time",
    AlarmKind.WAL_FAILING: "no WAL archived",
    AlarmKind.WAL_RETAINED: "WAL fills the server",
    AlarmKind.SLOT_LEFT: "slot left behind",
    AlarmKind.ATTACHMENTS_FAILING: "no attachments copied",
    AlarmKind.OBJECTS_LOST: "objects lost from the store",
    AlarmKind.NOT_LOCKED: "not locked as promised",
    AlarmKind.SIZE_ANOMALY: "odd size",
    AlarmKind.STORE_UNREACHABLE: "store out of reach",
    AlarmKind.DRILL_OVERDUE: "drill overdue",
}
"""What is wrong, in a few words, by kind, worst first."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """`since` is when it became wrong, not when somebody looked; `subject` tells several of one kind apart."""

    kind: AlarmKind
    sentence: str
    since: datetime
    subject: str = ""


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A replication slot as it was last seen. `left_since` is when no policy in force wanted it any more."""

    name: str
    retained_bytes: int
    limit_bytes: int | None
    wal_status: str
    retained_since: datetime | None = None
    """Since when the server keeps too much for it."""
    inactive_since: datetime | None = None
    lost_at: datetime | None = None
    left_since: datetime | None = None
    version: int = 0
    """Of the newest policy that names its server."""
    place: str = ""
    """The environment, as commands name it."""


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What is known of an environment's backups; sizes are bytes, oldest first.

    `due_at` is the first start due after the newest backup, perhaps one to come; None where the schedule has ended. It
    came in time though a check has broken it since: `last_success_at` is of the newest that is not broken.
    `wal_within` None: no WAL is archived. `watched_since` is when the policy began: before it, nothing could succeed.
    """

    watched_since: datetime
    due_at: datetime | None
    grace: timedelta
    last_success_at: datetime | None
    wal_within: timedelta | None = None
    last_wal_at: datetime | None = None
    slots: tuple[SlotFacts, ...] = ()
    slot_idle_for: timedelta = timedelta(minutes=10)
    unarchived_since: datetime | None = None
    """Since when an operator that archives WAL itself does not say that it does."""
    attachments_within: timedelta | None = None
    last_attachments_at: datetime | None = None
    sizes: tuple[int, ...] = ()
    measured_at: datetime | None = None
    unreachable_stores: tuple[tuple[str, datetime], ...] = ()
    losses: tuple[tuple[str, datetime, str], ...] = ()
    """Of each store that lacks what the catalogue promises: its address, since when, and the sentence."""
    locks: tuple[tuple[datetime, PromisedLock], ...] = ()
    """Of each store the newest point of which it told its lock, after when that point was finished."""
    database_failing_since: datetime | None = None
    database_trouble: str = ""
    """What whoever archives was told when it last asked the environment's database; empty where all was well."""
    drill_every: timedelta | None = None
    last_drill_at: datetime | None = None


def alarms(facts: BackupFacts, *, at: datetime) -> tuple[Alarm, ...]:
    """List what is wrong now, worst first."""
    found = (
        *_database(facts, at),
        *_no_success(facts, at),
        *_wal(facts, at),
        *_slots(facts, at),
        *_operator(facts),
        *_attachments(facts, at),
        *_stores(facts),
        *_losses(facts),
        *_locks(facts),
        *_size(facts),
        *_drill(facts, at),
    )
    return tuple(found)


def drill_due_at(*, watched_since: datetime, last_drill_at: datetime | None, every: timedelta) -> datetime:
    """Return when the next drill must have passed: counted from the last that did, or from the policy's beginning."""
    return (last_drill_at or watched_since) + every


def first_due(schedule: Schedule, *, watched_since: datetime, last_success_at: datetime | None) -> datetime | None:
    """Return the first start due after the last success, or after the policy's beginning; None where there is none."""
    return next_due(schedule, after=max(watched_since, last_success_at or watched_since))


def _database(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    since = facts.database_failing_since
    if since is not None and at > since + DATABASE_GRACE:
        sentence = (
            f"It has not been usable since {moment(since)}. {facts.database_trouble} What the store holds is as good "
            "as it was: where the database is gone, bring it back to a time before."
        )
        yield Alarm(AlarmKind.DATABASE_FAILING, sentence, since)


def _no_success(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    # Later starts change nothing: however often it is tried, only a success ends the wait.
    due = facts.due_at
    if due is None:
        return
    late_at = due + facts.grace
    if at > late_at:
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


def is_wal_retained(
    *, retained_bytes: int, limit_bytes: int | None, wal_status: str, share: float, most_bytes: int
) -> bool:
    """Tell whether a server keeps too much WAL for a slot: a share of its own limit, or without one so many bytes."""
    most = most_bytes if limit_bytes is None else int(limit_bytes * share)
    return retained_bytes > most or wal_status in {"unreserved", "lost"}


def _slots(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    for one in facts.slots:
        kept = f"{one.retained_bytes / 1e6:,.0f} MB of WAL"
        if one.left_since is not None:
            sentence = (
                f"The slot {one.name} is left on the server of policy version {one.version}, which no policy in force "
                f"archives: {kept} are kept for it there. Remove it: manage.py archive_wal --drop-slot {one.place}"
            )
            yield Alarm(AlarmKind.SLOT_LEFT, sentence, one.left_since, f"{one.name}, version {one.version}")
        elif since := _retained_since(one, facts=facts, at=at):
            yield Alarm(AlarmKind.WAL_RETAINED, _retained(one, kept, facts=facts), since, one.name)


def _retained_since(slot: SlotFacts, *, facts: BackupFacts, at: datetime) -> datetime | None:
    if _is_lost(slot, facts):
        return slot.lost_at
    if slot.retained_since is not None:
        return slot.retained_since
    idle_at = slot.inactive_since + facts.slot_idle_for if slot.inactive_since is not None else at
    return idle_at if at > idle_at else None


def _is_lost(slot: SlotFacts, facts: BackupFacts) -> bool:
    """Tell whether WAL was lost that no base backup since makes good."""
    return slot.lost_at is not None and (facts.last_success_at is None or facts.last_success_at <= slot.lost_at)


def _retained(slot: SlotFacts, kept: str, *, facts: BackupFacts) -> str:
    if _is_lost(slot, facts):
        return (
            f"The server no longer had WAL that the slot {slot.name} was to keep: the archive has a hole. Back up now; "
            "points before it are as good as they were."
        )
    limit = "and nothing limits it: its disk can fill"
    if slot.limit_bytes is not None:
        limit = f"and gives it up beyond {slot.limit_bytes / 1e6:,.0f} MB"
    idle = f" Nothing has received it since {moment(slot.inactive_since)}." if slot.inactive_since else ""
    return f"The server keeps {kept} for the slot {slot.name} until it is archived, {limit}.{idle}"


def _operator(facts: BackupFacts) -> Iterator[Alarm]:
    since = facts.unarchived_since
    if since is not None:
        sentence = (
            f"CloudNativePG has not said since {moment(since)} that it archives WAL: what was written since would be "
            "lost. See the condition ContinuousArchiving of its cluster."
        )
        yield Alarm(AlarmKind.WAL_FAILING, sentence, since)


def _attachments(facts: BackupFacts, at: datetime) -> Iterator[Alarm]:
    # Not before there is a copy: until then no backup has succeeded, and that is the first alarm.
    newest, within = facts.last_attachments_at, facts.attachments_within
    if newest is None or within is None or at <= newest + within:
        return
    sentence = (
        f"No attachments have been copied for {length(at - newest)}: no time after {moment(newest)} can be restored as "
        "one set."
    )
    yield Alarm(AlarmKind.ATTACHMENTS_FAILING, sentence, newest + within)


def _stores(facts: BackupFacts) -> Iterator[Alarm]:
    for url, since in facts.unreachable_stores:
        yield Alarm(AlarmKind.STORE_UNREACHABLE, f"{url} has not answered since {moment(since)}.", since, url)


def _losses(facts: BackupFacts) -> Iterator[Alarm]:
    for url, since, sentence in facts.losses:
        yield Alarm(AlarmKind.OBJECTS_LOST, f"{url}: {sentence}", since, url)


def _locks(facts: BackupFacts) -> Iterator[Alarm]:
    for finished_at, lock in facts.locks:
        if sentence := lock_problem(lock):
            yield Alarm(AlarmKind.NOT_LOCKED, sentence, finished_at, lock.store)


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
