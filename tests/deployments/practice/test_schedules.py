"""The operator's schedules: six fields, seconds first, or a word."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from deployments.practice.cloudnativepg.schedule import Unreadable, parse_schedule

SATURDAY = datetime(2026, 11, 28, 16, 59, 30, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text, following",
    [
        ("* * * * * *", datetime(2026, 11, 28, 16, 59, 31, tzinfo=UTC)),
        ("*/20 * * * * *", datetime(2026, 11, 28, 16, 59, 40, tzinfo=UTC)),
        ("30 59 16 * * *", datetime(2026, 11, 29, 16, 59, 30, tzinfo=UTC)),
        ("0 0 3 * * *", datetime(2026, 11, 29, 3, tzinfo=UTC)),
        ("0 0,30 8-17 * * 1-5", datetime(2026, 11, 30, 8, tzinfo=UTC)),
        ("0 0 0 1 1 *", datetime(2027, 1, 1, tzinfo=UTC)),
        ("0 0 12 29 2 *", datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("0 0 0 1 * 0", datetime(2026, 11, 29, tzinfo=UTC)),
        ("0 10/20 * * * *", datetime(2026, 11, 28, 17, 10, tzinfo=UTC)),
        ("@hourly", datetime(2026, 11, 28, 17, tzinfo=UTC)),
        ("@weekly", datetime(2026, 11, 29, tzinfo=UTC)),
        ("0 0 0 31 2 *", None),
    ],
)
def test_next_time_follows_the_fields(text: str, following: datetime | None) -> None:
    assert parse_schedule(text).next_after(SATURDAY) == following


@pytest.mark.parametrize(
    "text, why",
    [
        ("0 3 * * *", "expected exactly 6 fields, found 5: 0 3 * * *"),
        ("", "expected exactly 6 fields, found 0: "),
        ("0 0 24 * * *", "24 is not between 0 and 23"),
        ("0 0 5-3 * * *", "5-3 is not between 0 and 23"),
        ("0 0 */0 * * *", r"\*/0 is not between 0 and 23"),
        ("0 0 x * * *", "failed to parse int from x"),
    ],
)
def test_schedule_that_makes_no_sense_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parse_schedule(text)
