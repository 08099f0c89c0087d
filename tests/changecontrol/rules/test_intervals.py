from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changecontrol.rules.intervals import Interval, clip, subtract, union

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = range(40)


def hour(number: int) -> datetime:
    return ZERO + timedelta(hours=number)


def covered(intervals: list[Interval]) -> set[int]:
    return {n for n in HOURS if any(one.holds(hour(n)) for one in intervals)}


some = st.lists(
    st.tuples(st.integers(0, 35), st.integers(1, 8)).map(lambda pair: Interval(hour(pair[0]), hour(sum(pair)))),
    max_size=8,
)


@given(some)
def test_union_covers_the_same_and_is_sorted_and_disjoint(intervals: list[Interval]) -> None:
    merged = union(intervals)

    assert covered(merged) == covered(intervals)
    assert all(one.end < other.start for one, other in pairwise(merged))
    assert union(merged) == merged


@given(some, some)
def test_subtraction_leaves_exactly_what_the_holes_do_not_cover(left: list[Interval], holes: list[Interval]) -> None:
    rest = subtract(union(left), union(holes))

    assert covered(rest) == covered(left) - covered(holes)
    assert union(rest) == rest


@given(some, some)
def test_what_is_cut_out_and_what_is_left_make_the_whole(left: list[Interval], holes: list[Interval]) -> None:
    whole = union(left)
    rest = subtract(whole, union(holes))

    assert union([*rest, *subtract(whole, rest)]) == whole


@given(some)
def test_clipping_keeps_what_lies_in_the_frame(intervals: list[Interval]) -> None:
    frame = Interval(hour(10), hour(20))

    assert covered(clip(intervals, frame)) == covered(intervals) & set(range(10, 20))


def test_interval_holds_its_start_and_not_its_end() -> None:
    one = Interval(hour(1), hour(2))

    assert one.holds(hour(1))
    assert not one.holds(hour(2))
    assert not one.meets(Interval(hour(2), hour(3)))
    assert one.length == timedelta(hours=1)


def test_interval_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="ends after it starts"):
        Interval(hour(1), hour(1))
