from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from recovery.rules.schedule import Schedule, check_schedule, last_due, longest_wait, next_due

START = datetime(2026, 11, 1, 2, 0)  # noqa: DTZ001 - wall-clock time
NIGHTLY = Schedule("FREQ=DAILY", START, "Europe/Lisbon")


def at(day: int, hour: int, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        (NIGHTLY, at(23, 10), at(24, 2)),
        (NIGHTLY, at(24, 2), at(25, 2)),
        (Schedule("FREQ=DAILY", START, "Europe/Berlin"), at(23, 10), at(24, 1)),
        (Schedule("FREQ=DAILY;BYHOUR=2,14", START, "UTC"), at(23, 10), at(23, 14)),
        (Schedule("FREQ=WEEKLY;BYDAY=SU", START, "UTC"), at(23, 10), at(29, 2)),
        (Schedule("FREQ=DAILY;COUNT=3", START, "UTC"), at(23, 10), None),
    ],
)
def test_the_next_start_is_in_the_schedules_zone(schedule: Schedule, after: datetime, due: datetime | None) -> None:
    assert next_due(schedule, after=after) == due


def test_the_last_start_counts_from_its_very_moment() -> None:
    assert last_due(NIGHTLY, at=at(24, 2)) == at(24, 2)
    assert last_due(NIGHTLY, at=at(24, 2) - timedelta(seconds=1)) == at(23, 2)
    assert last_due(NIGHTLY, at=at(1, 1)) is None


@pytest.mark.parametrize(
    ("rrule", "zone", "waits"),
    [
        ("FREQ=DAILY", "UTC", timedelta(hours=24)),
        ("FREQ=DAILY", "Europe/Lisbon", timedelta(hours=25)),
        ("FREQ=DAILY;BYHOUR=2,8,14", "UTC", timedelta(hours=12)),
        ("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=2,14", "UTC", timedelta(hours=60)),
        ("FREQ=MONTHLY;BYMONTHDAY=1", "UTC", timedelta(days=31)),
        ("FREQ=DAILY;UNTIL=20261224T000000", "UTC", None),
        ("FREQ=DAILY;COUNT=1", "UTC", None),
    ],
)
def test_the_longest_wait_of_a_year_decides(rrule: str, zone: str, waits: timedelta | None) -> None:
    assert longest_wait(Schedule(rrule, START, zone), after=at(23, 10)) == waits


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (Schedule("", START, "UTC"), "A schedule has a recurrence rule and a time zone."),
        (Schedule("FREQ=DAILY", START, ""), "A schedule has a recurrence rule and a time zone."),
        (Schedule("FREQ=DAILY", START, "Mars/Olympus"), "There is no time zone called “Mars/Olympus”."),
        (
            Schedule("FREQ=HOURLY", START, "UTC"),
            "A rule recurs DAILY, WEEKLY, MONTHLY or YEARLY; BYHOUR names several times of a day.",
        ),
        (
            Schedule("FREQ=DAILY;BYMINUTE=" + ",".join(map(str, range(25))), START, "UTC"),
            "A schedule has at most 24 starts a day.",
        ),
        (
            Schedule("FREQ=WEEKLY;BYDAY=WE;BYMINUTE=" + ",".join(map(str, range(60))), START, "UTC"),
            "A schedule has at most 24 starts a day.",
        ),
    ],
)
def test_a_schedule_that_does_not_hold_is_told(schedule: Schedule, sentence: str) -> None:
    assert check_schedule(schedule) == (sentence,)


def test_a_schedule_may_start_every_hour() -> None:
    assert check_schedule(Schedule("FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))), START, "UTC")) == ()
