from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.rules.alarms import Alarm, AlarmKind, BackupFacts, SlotFacts, alarms, first_due, is_wal_retained
from recovery.rules.locks import PromisedLock
from recovery.rules.schedule import Schedule

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
DUE = AT.replace(hour=2)


def days(number: float) -> timedelta:
    return timedelta(days=number)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


WELL = BackupFacts(
    watched_since=AT - days(100),
    due_at=DUE + days(1),
    grace=hours(2),
    last_success_at=DUE + hours(1),
    wal_within=timedelta(minutes=5),
    last_wal_at=AT - timedelta(minutes=1),
    sizes=(100, 110, 105, 120),
    measured_at=DUE + hours(1),
    drill_every=days(90),
    last_drill_at=AT - days(30),
)


LOCK = PromisedLock("p1", "s3://points", DUE - hours(1), 7, DUE + days(7))
SLOT = SlotFacts("changecontrol_3", 20_000_000, None, "reserved", version=2, place="northwind/production")
HOLE = (
    "The server no longer had WAL that the slot changecontrol_3 was to keep: the archive has a hole. Back up now; "
    "points before it are as good as they were."
)


@pytest.mark.parametrize(
    ("words", "kind", "sentence", "since"),
    [
        ({}, None, "", None),
        ({"inactive_since": AT - timedelta(minutes=10)}, None, "", None),
        (
            {"retained_since": AT - hours(1), "retained_bytes": 2_000_000_000},
            "wal_retained",
            "The server keeps 2,000 MB of WAL for the slot changecontrol_3 until it is archived, and nothing limits "
            "it: its disk can fill.",
            AT - hours(1),
        ),
        (
            {"retained_since": AT, "limit_bytes": 30_000_000},
            "wal_retained",
            "The server keeps 20 MB of WAL for the slot changecontrol_3 until it is archived, and gives it up beyond "
            "30 MB.",
            AT,
        ),
        (
            {"inactive_since": AT - hours(1)},
            "wal_retained",
            "The server keeps 20 MB of WAL for the slot changecontrol_3 until it is archived, and nothing limits it: "
            "its disk can fill. Nothing has received it since 23 Nov 2026 09:00:00 UTC.",
            AT - timedelta(minutes=50),
        ),
        # A hole is told until a base backup has succeeded after it.
        ({"lost_at": DUE + hours(2)}, "wal_retained", HOLE, DUE + hours(2)),
        ({"lost_at": DUE}, None, "", None),
        (
            {"left_since": AT - days(1), "retained_since": AT, "inactive_since": AT - days(1)},
            "slot_left",
            "The slot changecontrol_3 is left on the server of policy version 2, which no policy in force archives: 20 "
            "MB of WAL are kept for it there. Remove it: manage.py archive_wal --drop-slot northwind/production",
            AT - days(1),
        ),
    ],
    ids=["well", "short", "unlimited", "limited", "idle", "lost", "mended", "left"],
)
def test_wal_that_a_server_keeps_for_a_slot_alarms_before_its_disk_is_full(
    words: dict[str, Any], kind: str | None, sentence: str, since: datetime | None
) -> None:  # BCK-1
    found = alarms(replace(WELL, slots=(replace(SLOT, **words),)), at=AT)

    assert [(one.kind, one.sentence, one.since) for one in found] == ([(kind, sentence, since)] if kind else [])


@pytest.mark.parametrize(
    ("retained", "limit", "status", "is_too_much"),
    [
        (50, 100, "reserved", False),
        (51, 100, "reserved", True),
        (1_000, None, "extended", False),
        (1_001, None, "extended", True),
        (1_001, 10_000, "extended", False),
        (0, 100, "unreserved", True),
        (0, None, "lost", True),
    ],
)
def test_too_much_is_a_share_of_the_servers_limit_or_a_size(
    retained: int, limit: int | None, status: str, is_too_much: bool
) -> None:
    words = {"retained_bytes": retained, "limit_bytes": limit, "wal_status": status}

    assert is_wal_retained(**words, share=0.5, most_bytes=1_000) is is_too_much  # type: ignore[arg-type]


def test_a_database_that_is_gone_alarms_before_all_else_once_it_missed_two_minutes() -> None:  # BCK-1
    gone = replace(
        WELL,
        due_at=DUE,
        last_success_at=DUE - days(1),
        database_failing_since=AT - timedelta(minutes=2),
        database_trouble="shop: it does not exist.",
    )
    late = AT + timedelta(seconds=1)

    assert [one.kind for one in alarms(gone, at=AT)] == ["no_success"]
    assert alarms(gone, at=late)[0] == Alarm(
        AlarmKind.DATABASE_FAILING,
        "It has not been usable since 23 Nov 2026 09:58:00 UTC. shop: it does not exist. What the store holds is as "
        "good as it was: where the database is gone, bring it back to a time before.",
        AT - timedelta(minutes=2),
    )
    assert alarms(replace(WELL, database_failing_since=None), at=late) == ()


def test_where_all_is_well_nothing_alarms() -> None:
    assert alarms(WELL, at=AT) == ()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"attachments_within": hours(1), "last_attachments_at": AT - hours(2)},
            Alarm(
                AlarmKind.ATTACHMENTS_FAILING,
                "No attachments have been copied for 2 hours: no time after 23 Nov 2026 08:00:00 UTC can be restored "
                "as one set.",
                AT - hours(1),
            ),
        ),
        (
            {"unarchived_since": AT - hours(1)},
            Alarm(
                AlarmKind.WAL_FAILING,
                "CloudNativePG has not said since 23 Nov 2026 09:00:00 UTC that it archives WAL: what was written "
                "since would be lost. See the condition ContinuousArchiving of its cluster.",
                AT - hours(1),
            ),
        ),
        (
            {"due_at": DUE, "last_success_at": DUE - days(1)},
            Alarm(
                AlarmKind.NO_SUCCESS,
                "No backup has succeeded since it was due at 23 Nov 2026 02:00:00 UTC. "
                "The last success was at 22 Nov 2026 02:00:00 UTC.",
                DUE + hours(2),
            ),
        ),
        (
            {"due_at": DUE, "last_success_at": None},
            Alarm(
                AlarmKind.NO_SUCCESS,
                "No backup has succeeded since it was due at 23 Nov 2026 02:00:00 UTC. None ever did.",
                DUE + hours(2),
            ),
        ),
        (
            {"last_wal_at": AT - hours(1)},
            Alarm(
                AlarmKind.WAL_FAILING,
                "No WAL has been archived for 1 hour: the base backup is good, and what was written since "
                "23 Nov 2026 09:00:00 UTC would be lost.",
                AT - timedelta(minutes=55),
            ),
        ),
        (
            {"last_wal_at": None},
            Alarm(
                AlarmKind.WAL_FAILING,
                "No WAL has been archived for 7 hours: the base backup is good, and what was written since "
                "23 Nov 2026 03:00:00 UTC would be lost.",
                DUE + hours(1) + timedelta(minutes=5),
            ),
        ),
        (
            {"sizes": (100, 110, 105, 20)},
            Alarm(AlarmKind.SIZE_ANOMALY, "The newest point has 20 bytes, and 105 are usual.", DUE + hours(1)),
        ),
        (
            {"sizes": (100, 110, 105, 211)},
            Alarm(AlarmKind.SIZE_ANOMALY, "The newest point has 211 bytes, and 105 are usual.", DUE + hours(1)),
        ),
        (
            {"unreachable_stores": (("s3://copy", DUE),)},
            Alarm(
                AlarmKind.STORE_UNREACHABLE,
                "s3://copy has not answered since 23 Nov 2026 02:00:00 UTC.",
                DUE,
                subject="s3://copy",
            ),
        ),
        (
            {"locks": ((DUE, replace(LOCK, store="s3://copies")), (DUE, replace(LOCK, until=None)))},
            Alarm(
                AlarmKind.NOT_LOCKED,
                "s3://points shows no object lock on p1, and the policy promises one until 30 Nov 2026 01:00:00 UTC: "
                "set the bucket's default retention, and let the credential see it (s3:GetObjectRetention).",
                DUE,
                subject="s3://points",
            ),
        ),
        (
            {"last_drill_at": DUE - days(90)},
            Alarm(
                AlarmKind.DRILL_OVERDUE,
                "A drill was due at 23 Nov 2026 02:00:00 UTC; the last passed at 25 Aug 2026 02:00:00 UTC.",
                DUE,
            ),
        ),
        (
            {"last_drill_at": None, "watched_since": DUE - days(90)},
            Alarm(
                AlarmKind.DRILL_OVERDUE, "A drill was due at 23 Nov 2026 02:00:00 UTC; none ever passed.", DUE
            ),
        ),
    ],
)  # fmt: skip
def test_each_alarm_says_what_is_wrong_and_since_when(facts: dict[str, Any], expected: Alarm) -> None:  # BCK-1
    assert alarms(replace(WELL, **facts), at=AT) == (expected,)


@pytest.mark.parametrize(
    "facts",
    [
        {"due_at": DUE, "last_success_at": DUE - days(1), "grace": hours(8)},  # not late yet
        {"due_at": AT + hours(1), "last_success_at": None, "grace": hours(0)},  # not due yet
        {"due_at": None, "last_success_at": None},
        {"wal_within": None, "last_wal_at": None},
        {"sizes": (100, 110, 20)},  # too few to know what is usual
        {"sizes": (100, 110, 105, 210)},
        {"sizes": ()},
        {"drill_every": None, "last_drill_at": None},
        {"last_drill_at": AT - days(90)},
        {"locks": ((DUE, LOCK),)},
    ],
)
def test_what_is_not_wrong_does_not_alarm(facts: dict[str, Any]) -> None:
    assert alarms(replace(WELL, **facts), at=AT) == ()


def test_silence_alarms_for_as_long_as_it_lasts() -> None:  # BCK-1
    silent = replace(WELL, due_at=DUE, last_success_at=DUE - days(1), last_wal_at=AT + days(9))

    found = {(at, one.since) for at in (AT, AT + days(5)) for one in alarms(silent, at=at)}

    assert found == {(AT, DUE + hours(2)), (AT + days(5), DUE + hours(2))}


@pytest.mark.parametrize(
    ("watched_since", "last_success_at", "due"),
    [
        (DUE - days(9), None, DUE - days(8)),
        (DUE - days(9), DUE - days(5) + hours(1), DUE - days(4)),
        (DUE - days(9), DUE - days(5), DUE - days(4)),  # a success at the very moment is of that start
        (DUE - days(9), DUE - days(5) - hours(1), DUE - days(5)),
        # What another tool had made before anybody watched counts from then on.
        (DUE - days(9) + hours(1), DUE - days(20), DUE - days(8)),
    ],
)
def test_what_is_due_first_after_a_success_stays_due_until_the_next(
    watched_since: datetime, last_success_at: datetime | None, due: datetime
) -> None:  # BCK-1
    nightly = Schedule("FREQ=DAILY", datetime(2026, 11, 1, 2), "UTC")  # noqa: DTZ001 - wall-clock time

    assert first_due(nightly, watched_since=watched_since, last_success_at=last_success_at) == due


def test_a_schedule_that_has_ended_asks_for_nothing_after_its_last_success() -> None:
    once = Schedule("FREQ=DAILY;COUNT=1", datetime(2026, 11, 23, 2), "UTC")  # noqa: DTZ001 - wall-clock time
    since = DUE - days(9)

    assert first_due(once, watched_since=since, last_success_at=None) == DUE
    assert first_due(once, watched_since=since, last_success_at=DUE + hours(1)) is None
