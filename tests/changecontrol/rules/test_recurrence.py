from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from dateutil.rrule import rrulestr

from changecontrol.rules.intervals import Interval
from changecontrol.rules.recurrence import Recurrence, check_recurrence, openings


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute)  # noqa: DTZ001 - local times are naive


NIGHTLY = Recurrence(local(2026, 1, 1, 2, 30), timedelta(hours=3), "Europe/Berlin", "FREQ=DAILY")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def starts(recurrence: Recurrence, *, after: str, count: int = 3, zone: str = "UTC") -> list[str]:
    found = openings(recurrence, zone=zone, after=utc(after), count=count)
    return [one.start.isoformat(timespec="minutes")[:16] for one in found]


def test_start_in_the_gap_moves_forward() -> None:  # WIN-3
    # Berlin's clocks go from 02:00 to 03:00 on 29 March 2026: 02:30 does not exist and becomes 03:30.
    found = openings(NIGHTLY, zone="UTC", after=utc("2026-03-28T12:00"), count=2)

    assert found == (
        Interval(utc("2026-03-29T01:30"), utc("2026-03-29T04:30")),
        Interval(utc("2026-03-30T00:30"), utc("2026-03-30T03:30")),
    )


def test_doubled_hour_runs_once_and_length_is_elapsed_time() -> None:  # WIN-3
    # Berlin's clocks go from 03:00 back to 02:00 on 25 October 2026: 02:30 comes twice, the first at 00:30 UTC.
    found = openings(NIGHTLY, zone="UTC", after=utc("2026-10-24T12:00"), count=2)

    assert found == (
        Interval(utc("2026-10-25T00:30"), utc("2026-10-25T03:30")),
        Interval(utc("2026-10-26T01:30"), utc("2026-10-26T04:30")),
    )


def test_two_starts_that_a_gap_makes_one_open_once() -> None:  # WIN-3
    hourly = replace(NIGHTLY, starts_at=local(2026, 1, 1, 2), rrule="FREQ=DAILY;BYHOUR=2,3")

    assert starts(hourly, after="2026-03-28T12:00", count=2) == ["2026-03-29T01:00", "2026-03-30T00:00"]


def test_29_february_is_found_years_ahead_and_invented_in_no_other() -> None:  # WIN-3
    leap = Recurrence(local(2024, 2, 29, 1), timedelta(hours=1), "UTC", "FREQ=YEARLY")

    assert starts(leap, after="2026-03-01T00:00", count=2) == ["2028-02-29T01:00", "2032-02-29T01:00"]


def test_31st_of_the_month_skips_short_months() -> None:
    monthly = Recurrence(local(2026, 1, 31, 1), timedelta(hours=1), "UTC", "FREQ=MONTHLY")

    assert starts(monthly, after="2026-02-01T00:00") == ["2026-03-31T01:00", "2026-05-31T01:00", "2026-07-31T01:00"]


def test_exception_is_left_out_and_extra_date_is_added() -> None:  # WIN-1
    recurrence = replace(NIGHTLY, exdates=(local(2026, 6, 2, 2, 30),), rdates=(local(2026, 6, 2, 14),), zone="UTC")

    assert starts(recurrence, after="2026-06-01T12:00") == ["2026-06-02T14:00", "2026-06-03T02:30", "2026-06-04T02:30"]


def test_window_without_a_rule_opens_once() -> None:
    once = replace(NIGHTLY, rrule="")

    assert starts(once, after="2025-12-01T00:00") == ["2026-01-01T01:30"]
    assert starts(once, after="2026-02-01T00:00") == []


def test_next_ten_openings_begin_with_the_running_one() -> None:  # WIN-1
    found = starts(NIGHTLY, after="2026-06-01T03:00", count=10)

    assert len(found) == 10
    assert found[0] == "2026-06-01T00:30"


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH",
        "FREQ=WEEKLY;INTERVAL=3;WKST=SU;BYDAY=SU,MO",
        "FREQ=DAILY;INTERVAL=3",
        "FREQ=DAILY;INTERVAL=7;BYMONTH=3,4",
        "FREQ=MONTHLY;BYDAY=-1SU",
        "FREQ=DAILY;COUNT=400",
        "FREQ=DAILY;UNTIL=20280102T000000",
    ],
)
@pytest.mark.parametrize("later", [0, 1, 9, 300, 398, 735, 4000])
def test_rule_begun_long_ago_keeps_its_step(rule: str, later: int) -> None:
    begun = local(2026, 1, 1)
    recurrence = Recurrence(begun, timedelta(hours=1), "UTC", rule)
    after = begun + timedelta(days=later)

    walked = islice((one for one in rrulestr(rule, dtstart=begun) if one >= after), 3)

    assert starts(recurrence, after=after.isoformat()) == [one.isoformat()[:16] for one in walked]


def test_zone_of_the_store_is_used_where_the_window_names_none() -> None:  # WIN-2
    local = replace(NIGHTLY, zone=None)

    assert starts(local, after="2026-06-01T12:00", count=1, zone="America/New_York") == ["2026-06-02T06:30"]
    assert starts(local, after="2026-06-01T12:00", count=1, zone="Europe/Berlin") == ["2026-06-02T00:30"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"rrule": "FREQ=HOURLY"},
            "A rule recurs DAILY, WEEKLY, MONTHLY or YEARLY; BYHOUR names several times of a day.",
        ),
        (
            {"rrule": "FREQ=MINUTELY"},
            "A rule recurs DAILY, WEEKLY, MONTHLY or YEARLY; BYHOUR names several times of a day.",
        ),
        (
            {"rrule": "FREQ=SECONDLY"},
            "A rule recurs DAILY, WEEKLY, MONTHLY or YEARLY; BYHOUR names several times of a day.",
        ),
        ({"rrule": "BYDAY=MO"}, "A rule recurs DAILY, WEEKLY, MONTHLY or YEARLY; BYHOUR names several times of a day."),
        ({"rrule": "FREQ=DAILY;BYSECOND=1"}, "“BYSECOND=1” is not a part that a recurrence rule has here."),
        ({"rrule": "FREQ=DAILY;COUNT=1001"}, "COUNT is a number from 1 to 1000."),
        ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "INTERVAL is a number from 1 to 366."),
        ({"rrule": "FREQ=DAILY;FREQ=DAILY"}, "FREQ is said twice."),
        (
            {"rrule": "FREQ=DAILY;COUNT=2;UNTIL=20270101T000000"},
            "A recurrence rule ends by COUNT or by UNTIL, not by both.",
        ),
        ({"rrule": "FREQ=DAILY;UNTIL=20270101T000000Z"}, "UNTIL is written in local time, without Z."),
        ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "The recurrence rule names no day within ten years."),
        (
            {"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30;COUNT=3"},
            "The recurrence rule names no day within ten years.",
        ),
        ({"duration": timedelta(0)}, "A window lasts between a moment and 31 days."),
        ({"duration": timedelta(days=32)}, "A window lasts between a moment and 31 days."),
        ({"zone": "Mars/Olympus"}, "There is no time zone called “Mars/Olympus”."),
        (
            {"starts_at": datetime(2026, 1, 1, tzinfo=UTC)},
            "Starts and exceptions are written in local time, without an offset.",
        ),
    ],
)
def test_recurrence_that_cannot_be_kept_is_refused(change: dict[str, object], sentence: str) -> None:
    assert check_recurrence(replace(NIGHTLY, **change)) == (sentence,)  # type: ignore[arg-type]


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("rule", ["FREQ=MONTHLY;BYDAY=1SU", ""])
def test_window_of_a_year_no_calendar_holds_is_refused(year: int, rule: str) -> None:
    window = Recurrence(local(year, 12, 1), timedelta(hours=3), "UTC", rule)

    assert check_recurrence(window) == ("A window opens between the years 1970 and 2200.",)


@pytest.mark.parametrize("rule", ["FREQ=DAILY;BYDAY=XX", "FREQ=WEEKLY;BYMONTH=13", "FREQ=DAILY;UNTIL=soon"])
def test_rule_that_is_not_one_is_refused_or_names_no_day(rule: str) -> None:
    (sentence,) = check_recurrence(replace(NIGHTLY, rrule=rule))

    assert sentence.startswith("The recurrence rule")


@pytest.mark.parametrize("rule", ["freq=daily", "FREQ=MONTHLY;BYDAY=2TU;BYSETPOS=1", "FREQ=DAILY;COUNT=1000", ""])
def test_rule_in_the_subset_is_taken(rule: str) -> None:
    assert check_recurrence(replace(NIGHTLY, rrule=rule, zone=None)) == ()
