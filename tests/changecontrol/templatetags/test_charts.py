from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from changecontrol.templatetags import charts

START = datetime(2026, 11, 23, tzinfo=UTC)
AXIS = {"start": START, "end": START + timedelta(days=14)}


def test_stack_lays_counts_side_by_side_and_leaves_what_is_pending_bare() -> None:
    pieces = charts.stack({"healthy": 11, "updating": 4, "pending": 3, "deferred": 2}, 20)

    assert pieces == (
        charts.Piece("0%", "55%", "g-good"),
        charts.Piece("55%", "20%", "g-mid"),
        charts.Piece("90%", "10%", "g-hold"),
    )


def test_stack_of_nothing_is_empty() -> None:
    assert charts.stack({"healthy": 0}, 0) == ()


def test_weight_compares_with_the_largest_part() -> None:
    waves = [{"total": 5}, {"total": 20}, {"total": 0}]

    assert [charts.weight(wave["total"], waves) for wave in waves] == [3, 12, 1]


def test_a_span_is_placed_exactly_and_its_label_in_columns() -> None:
    place = charts.place(START + timedelta(days=7), START + timedelta(days=9), AXIS)

    assert place == charts.Place(x="50%", width="14.286%", column=29, columns=8, is_visible=True)


def test_a_span_that_sticks_out_is_cut_and_one_outside_is_not_shown() -> None:
    cut = charts.place(START - timedelta(days=7), START + timedelta(days=7), AXIS)
    gone = charts.place(START - timedelta(days=7), START - timedelta(days=6), AXIS)

    assert (cut.x, cut.width, cut.is_visible) == ("0%", "50%", True)
    assert not gone.is_visible


@given(first=st.integers(-400, 800), length=st.integers(0, 800))
def test_a_label_always_lies_inside_the_lane(first: int, length: int) -> None:
    start = START + timedelta(hours=first)

    place = charts.place(start, start + timedelta(hours=length), AXIS)

    assert place.column >= 1
    assert place.column + place.columns - 1 <= charts.COLUMNS


def test_a_gap_in_the_samples_breaks_the_line() -> None:
    chart = charts.sparkline([1.0, 2.0, None, math.nan, 2.0, 1.0], threshold=4.0, baseline=[1.0, 1.0])

    assert len(chart.lines) == 2
    assert chart.lines[0].startswith("0.0,")
    assert len(chart.baseline) == 1
    assert float(chart.threshold) < 26.0


def test_a_lone_sample_is_drawn_as_a_dash() -> None:
    [line] = charts.sparkline([3.0]).lines

    assert len(line.split()) == 2


@given(st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), max_size=40))
def test_every_point_lies_inside_the_chart(samples: list[float | None]) -> None:
    chart = charts.sparkline(samples)

    for line in chart.lines:
        for point in line.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= charts.WIDTH
            assert 0 <= y <= charts.HEIGHT
