from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Engine
from django.utils import timezone

from changecontrol.templatetags import times

MORNING = datetime(2026, 11, 23, 10, 12, 48, tzinfo=UTC)


def plain(text: str) -> str:
    return text.replace(times.NBSP, " ")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (times.moment, "Mon 23 Nov 2026, 12:12 EET"),
        (times.exact_moment, "Mon 23 Nov 2026, 12:12:48 EET"),
        (times.short_moment, "Mon 23 Nov 12:12 EET"),
        (times.clock_time, "12:12 EET"),
        (times.second_time, "12:12:48 EET"),
        (times.day, "Mon 23 Nov"),
    ],
)
def test_times_carry_the_zone_asked_for(write, expected) -> None:
    assert plain(write(MORNING, "Europe/Helsinki")) == expected


def test_zone_without_a_name_shows_its_offset() -> None:
    assert plain(times.clock_time(MORNING, "America/Sao_Paulo")) == "07:12 UTC-03"


def test_without_a_zone_the_viewers_is_used() -> None:
    with timezone.override("Europe/Lisbon"):
        assert plain(times.clock_time(MORNING)) == "10:12 WET"
        assert plain(times.clock_time(MORNING, "")) == "10:12 WET"


def test_summer_time_has_its_own_name() -> None:
    assert plain(times.moment(datetime(2026, 7, 1, 9, tzinfo=UTC), "Europe/Lisbon")) == "Wed 1 Jul 2026, 10:00 WEST"


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        (datetime.min.replace(tzinfo=UTC), "America/New_York", "Mon 1 Jan 1, 00:00 UTC"),
        (datetime.max.replace(tzinfo=UTC), "Asia/Tokyo", "Fri 31 Dec 9999, 23:59 UTC"),
    ],
)
def test_time_that_is_none_on_a_clock_is_told_in_utc(at: datetime, zone: str, expected: str) -> None:
    assert plain(times.moment(at, zone)) == expected
    with timezone.override(zone):
        assert expected in plain(times.time_element(at))


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        times.moment(MORNING.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (timedelta(), "0 s"),
        (timedelta(seconds=8), "8 s"),
        (timedelta(minutes=48, seconds=59), "48 min"),
        (timedelta(hours=1, minutes=26), "1 h 26 min"),
        (timedelta(hours=4), "4 h"),
        (timedelta(days=1, hours=11, minutes=59), "1 d 11 h"),
        (timedelta(days=7), "7 d"),
        (timedelta(minutes=-34), "\N{MINUS SIGN}34 min"),
        (90, "1 min"),
        (None, ""),
    ],
)
def test_durations_are_counted_in_their_two_largest_units(length, expected) -> None:
    assert plain(times.duration(length)) == expected


def test_no_line_breaks_between_a_number_and_its_unit() -> None:
    assert times.duration(timedelta(hours=1, minutes=26)) == f"1{times.NBSP}h 26{times.NBSP}min"


def test_age_is_counted_back_and_never_negative() -> None:
    later = MORNING + timedelta(hours=2, minutes=41)

    assert plain(times.age(MORNING, later)) == "2 h 41 min"
    assert plain(times.age(later, MORNING)) == "0 s"
    assert plain(times.until(later, MORNING)) == "2 h 41 min"
    assert times.age(None, later) == ""


def test_time_element_says_the_instant_and_on_hover_all_of_it() -> None:
    page = Engine(libraries={"ui": "changecontrol.templatetags.ui"}).from_string(
        '{% load ui %}{% time at "clock" "Europe/Lisbon" %}|{% relative at later %}'
        "|{% remaining later at %}|{% time none %}"
    )

    text = page.render(Context({"at": MORNING, "later": MORNING + timedelta(minutes=5), "none": None}))

    element, relative, remaining, nothing = plain(text).split("|")
    assert element == ('<time datetime="2026-11-23T10:12:48+00:00" title="Mon 23 Nov 2026, 10:12 WET">10:12 WET</time>')
    assert relative == (
        '<span data-age-of="2026-11-23T10:12:48+00:00" data-age-at="2026-11-23T10:17:48+00:00">5 min</span>'
    )
    assert remaining == (
        '<span data-left-until="2026-11-23T10:17:48+00:00" data-age-at="2026-11-23T10:12:48+00:00">5 min</span>'
    )
    assert nothing == ""
