from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.rules.alarms import Alarm, AlarmKind, BackupFacts, alarms

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
DUE = AT.replace(hour=2)


def days(number: float) -> timedelta:
    return timedelta(days=number)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


WELL = BackupFacts(
    watched_since=AT - days(100),
    due_at=DUE,
    grace=hours(2),
    last_success_at=DUE + hours(1),
    wal_within=timedelta(minutes=5),
    last_wal_at=AT - timedelta(minutes=1),
    sizes=(100, 110, 105, 120),
    measured_at=DUE + hours(1),
    drill_every=days(90),
    last_drill_at=AT - days(30),
)


def test_where_all_is_well_nothing_alarms() -> None:
    assert alarms(WELL, at=AT) == ()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"last_success_at": DUE - days(1)},
            Alarm(
                AlarmKind.NO_SUCCESS,
                "No backup has succeeded since it was due at 23 Nov 2026 02:00:00 UTC. "
                "The last success was at 22 Nov 2026 02:00:00 UTC.",
                DUE + hours(2),
            ),
        ),
        (
            {"last_success_at": None},
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
            Alarm(AlarmKind.STORE_UNREACHABLE, "s3://copy has not answered since 23 Nov 2026 02:00:00 UTC.", DUE),
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
        {"last_success_at": DUE - days(1), "grace": hours(8)},  # not late yet
        {"last_success_at": None, "watched_since": DUE + hours(1), "drill_every": None},  # not asked for before
        {"due_at": None, "last_success_at": None},
        {"wal_within": None, "last_wal_at": None},
        {"sizes": (100, 110, 20)},  # too few to know what is usual
        {"sizes": (100, 110, 105, 210)},
        {"sizes": ()},
        {"drill_every": None, "last_drill_at": None},
        {"last_drill_at": AT - days(90)},
    ],
)
def test_what_is_not_wrong_does_not_alarm(facts: dict[str, Any]) -> None:
    assert alarms(replace(WELL, **facts), at=AT) == ()


def test_silence_alarms_for_as_long_as_it_lasts() -> None:  # BCK-1
    silent = replace(WELL, last_success_at=DUE - days(1), last_wal_at=AT + days(9))

    found = {(at, one.since) for at in (AT, AT + days(5)) for one in alarms(silent, at=at)}

    assert found == {(AT, DUE + hours(2)), (AT + days(5), DUE + hours(2))}
