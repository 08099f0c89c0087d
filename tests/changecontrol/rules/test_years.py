"""Which years may be named, and why no others: a moment of each is one on every clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest

from changecontrol.rules.years import YEARS, is_within_years


@pytest.mark.parametrize(
    ("at", "is_one"),
    [
        (date(1969, 12, 31), False),
        (date(1970, 1, 1), True),
        (datetime(2200, 12, 31, 23, 59, tzinfo=UTC), True),
        (datetime(2201, 1, 1, tzinfo=UTC), False),
        (datetime.min.replace(tzinfo=UTC), False),
        (datetime.max.replace(tzinfo=UTC), False),
    ],
)
def test_a_moment_lies_within_them_or_not(at: date, is_one: bool) -> None:
    assert is_within_years(at) is is_one


@pytest.mark.parametrize("zone", sorted(available_timezones()))
def test_every_clock_shows_the_first_and_the_last_of_them(zone: str) -> None:
    first = datetime(YEARS.start, 1, 1, tzinfo=ZoneInfo(zone))
    last = datetime(YEARS.stop - 1, 12, 31, 23, 59, tzinfo=ZoneInfo(zone))

    assert [one.astimezone(UTC).astimezone(ZoneInfo(zone)) for one in (first, last)] == [first, last]
