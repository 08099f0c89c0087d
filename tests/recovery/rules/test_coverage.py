from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from recovery.rules.coverage import Backup, Segment, Span, cover

DAY = datetime(2026, 11, 23, tzinfo=UTC)


def hour(number: float) -> datetime:
    return DAY + timedelta(hours=number)


def base(number: int, *, key: str = "", needs: str = "", timeline: int = 1) -> Backup:
    """Return a backup taken at that hour; the WAL position is ten times the hour, and it takes a fifth of one."""
    return Backup(key or f"b{number}", hour(number), timeline, 10 * number - 2, 10 * number, needs)


def wal(*hours: int, timeline: int = 1) -> list[Segment]:
    """Return the segments of these hours, each complete at the hour's end."""
    return [Segment(timeline, 10 * number, 10 * number + 10, hour(number + 1)) for number in hours]


def test_wal_carries_a_backup_to_the_first_hole() -> None:
    found = cover([base(2)], segments=wal(0, 1, 2, 3, 4, 6, 7))

    assert found.spans == (Span(hour(2), hour(5)),)


def test_a_later_backup_goes_on_behind_the_hole() -> None:
    found = cover([base(2), base(7)], segments=wal(1, 2, 3, 5, 6, 7, 8))

    assert found.spans == (Span(hour(2), hour(4)), Span(hour(7), hour(9)))
    assert found.gaps == ((hour(4), hour(7)),)
    assert found.last_safe_before(hour(6)) == hour(4)
    assert (found.backup_for(hour(3)), found.backup_for(hour(8)), found.backup_for(hour(5))) == ("b2", "b7", None)


def test_a_backup_without_wal_reaches_its_own_moment_alone() -> None:
    found = cover([base(2)], segments=[])

    assert found.spans == (Span(hour(2), hour(2)),)
    assert found.holds(hour(2))
    assert not found.holds(hour(2) + timedelta(microseconds=1))


def test_a_newer_backup_is_chosen_where_two_reach() -> None:
    assert cover([base(2), base(4)], segments=wal(2, 3, 4, 5)).backup_for(hour(5)) == "b4"


def test_an_incremental_counts_only_with_its_whole_chain() -> None:
    chain = [base(2, key="full"), base(4, key="one", needs="full"), base(6, key="two", needs="one")]

    assert cover(chain, segments=[]).spans == tuple(Span(hour(n), hour(n)) for n in (2, 4, 6))
    assert cover(chain[1:], segments=[]).spans == ()
    assert cover([chain[0], chain[2]], segments=[]).spans == (Span(hour(2), hour(2)),)
    assert cover([base(2, key="a", needs="b"), base(3, key="b", needs="a")], segments=[]).spans == ()


def test_a_newer_timeline_goes_on_where_it_branched_off() -> None:
    on = [Segment(2, 30, 50, hour(5))]
    away = [Segment(2, 50, 60, hour(6))]

    assert cover([base(2)], segments=[*wal(2, 3), *on]).spans == (Span(hour(2), hour(5)),)
    assert cover([base(2)], segments=[*wal(2, 3), *away]).spans == (Span(hour(2), hour(4)),)
    assert cover([base(2, timeline=2)], segments=wal(2, 3)).spans == (Span(hour(2), hour(2)),)


LISBON = ZoneInfo("Europe/Lisbon")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("at", "sentence"),
    [
        (hour(3), ""),
        (hour(4), ""),
        (datetime(2026, 11, 23, 3), "Give the time with its zone."),  # noqa: DTZ001 - that is the point
        (
            hour(1).astimezone(LISBON),
            "23 Nov 2026 01:00:00 WET is before the first time that can be restored, 23 Nov 2026 02:00:00 WET.",
        ),
        (
            hour(6).astimezone(BERLIN),
            "23 Nov 2026 07:00:00 CET is in a gap. The last safe time before it is 23 Nov 2026 05:00:00 CET.",
        ),
        (
            hour(12),
            "23 Nov 2026 12:00:00 UTC is after the last time that can be restored. "
            "The last safe time before it is 23 Nov 2026 09:00:00 UTC.",
        ),
    ],
)
def test_a_time_outside_or_in_a_gap_is_refused_with_the_last_safe_one(at: datetime, sentence: str) -> None:  # BCK-3
    assert cover([base(2), base(7)], segments=wal(2, 3, 7, 8)).refusal(at) == sentence


def test_without_a_backup_there_is_nothing_to_go_back_to() -> None:
    found = cover([], segments=wal(1, 2, 3))

    assert found.refusal(hour(2)) == "There is no recovery point to go back to."
    assert (found.spans, found.gaps, found.last_safe_before(hour(9))) == ((), (), None)


hours = st.sets(st.integers(1, 20))
moments = st.integers(0, 24 * 4).map(lambda quarter: hour(quarter / 4))


@given(hours, hours, moments)
def test_a_moment_is_covered_where_a_backup_and_all_wal_since_are_there(
    bases: set[int], segments: set[int], at: datetime
) -> None:
    found = cover([base(number) for number in bases], segments=wal(*segments))

    def leads_there(start: int) -> bool:
        between = range(start, 24)
        return hour(start) <= at and all(number in segments for number in between if hour(number) < at)

    assert found.holds(at) == any(leads_there(start) for start in bases)


@given(hours, hours)
def test_spans_are_in_order_and_gaps_lie_between_them(bases: set[int], segments: set[int]) -> None:
    found = cover([base(number) for number in bases], segments=wal(*segments))

    assert all(earlier.end < later.start for earlier, later in pairwise(found.spans))
    assert not any(found.holds(start + (end - start) / 2) for start, end in found.gaps)


@given(hours, hours, moments)
def test_exactly_what_is_not_covered_is_refused_and_the_safe_time_is_safe(
    bases: set[int], segments: set[int], at: datetime
) -> None:
    found = cover([base(number) for number in bases], segments=wal(*segments))
    safe = found.last_safe_before(at)

    assert (found.refusal(at) == "") == found.holds(at) == (found.backup_for(at) is not None)
    assert safe is None or (safe <= at and found.holds(safe))
    assert not found.holds(at) or safe == at


@given(hours, hours, st.integers(1, 20))
def test_losing_a_segment_never_covers_more(bases: set[int], segments: set[int], lost: int) -> None:
    assume(lost in segments)
    backups = [base(number) for number in bases]
    whole = cover(backups, segments=wal(*segments))

    less = cover(backups, segments=wal(*segments - {lost}))

    for span in less.spans:
        assert whole.holds(span.start)
        assert whole.holds(span.end)
