"""A moment is a date, a time and a zone, and never a guess (BCK-3)."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pytest
from django.forms import ValidationError

from recovery.forms.moments import WallTime, moment_in, wall_words

DAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("9:05", time(9, 5)),
        ("00:00", time(0)),
        ("23:59:59", time(23, 59, 59)),
        ("10:12:03.5", time(10, 12, 3, 500_000)),
        ("10:12:03.000017", time(10, 12, 3, 17)),
    ],
)
def test_a_time_is_read_to_the_last_digit(text: str, found: time) -> None:
    assert WallTime().clean(text) == found


@pytest.mark.parametrize("text", ["24:00", "10:60", "10", "10:12:60", "noon", "10:12 PM", "-1:00", "٣:٠٠x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="Write the time as"):
        WallTime().clean(text)


def test_the_same_wall_clock_is_another_moment_in_another_zone() -> None:
    assert moment_in(DAY, time(10), "Europe/Lisbon") == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert moment_in(DAY, time(10), "Europe/Helsinki") == datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "words"),
    [(date(2026, 3, 29), "went forward over this time"), (date(2026, 10, 25), "showed this time twice")],
    ids=["spring", "autumn"],
)
def test_a_time_that_never_was_or_was_twice_is_refused(day: date, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        moment_in(day, time(1, 30), "Europe/Lisbon")


def test_a_moment_is_given_back_as_the_answers_that_give_it() -> None:
    moment = datetime(2026, 11, 23, 8, 0, 1, 17, tzinfo=UTC)

    words = wall_words(moment, "Europe/Helsinki")

    assert words == {"date": "2026-11-23", "time": "10:00:01.000017", "zone": "Europe/Helsinki"}
    assert moment_in(DAY, WallTime().clean(words["time"]), words["zone"]) == moment  # type: ignore[arg-type]
