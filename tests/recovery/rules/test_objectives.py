from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.rules.objectives import (
    Expectation,
    MeasuredRto,
    Objectives,
    Pace,
    PastRestore,
    ProcessObjectives,
    RecoveryTimes,
    expect_restore,
    judge_rpo,
    measure_rpo,
    measure_rto,
    strictest,
)

AT = datetime(2026, 11, 23, 10, tzinfo=UTC)
GIB = 1 << 30


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_the_strictest_process_wins_for_each_objective() -> None:  # BIZ-2
    found = strictest(
        [
            ProcessObjectives("Finance", minutes(240), minutes(15)),
            ProcessObjectives("Checkout", minutes(30), minutes(60)),
        ]
    )

    assert found == Objectives(minutes(30), minutes(15), rto_of="Checkout", rpo_of="Finance")


def test_where_no_process_is_named_the_strictest_tier_holds() -> None:  # BIZ-2
    found = strictest([])

    assert (found.rto, found.rpo) == (minutes(15), minutes(1))
    assert found.rpo_of == "tier 0, since no business process is named for it"


ALLOWS_5 = Objectives(minutes(60), minutes(5), rto_of="Checkout", rpo_of="Checkout")
NIGHTLY = timedelta(days=1)


@pytest.mark.parametrize(
    ("pace", "is_met", "worst", "sentence"),
    [
        (
            Pace(NIGHTLY, timedelta(seconds=10), minutes(1)), True, minutes(1),
            "Up to 1 minute may be lost, since attachments are copied every 1 minute; Checkout allows 5 minutes.",
        ),
        (
            Pace(NIGHTLY, minutes(5), None), True, minutes(5),
            "Up to 5 minutes may be lost, since WAL is shipped every 5 minutes; Checkout allows 5 minutes.",
        ),
        (
            Pace(NIGHTLY, minutes(6), minutes(1)), False, minutes(6),
            "Up to 6 minutes would be lost, since WAL is shipped every 6 minutes, and Checkout allows 5 minutes.",
        ),
        (
            Pace(NIGHTLY, minutes(1), minutes(30)), False, minutes(30),
            "Up to 30 minutes would be lost, since attachments are copied every 30 minutes, "
            "and Checkout allows 5 minutes.",
        ),
        (
            Pace(NIGHTLY, None, minutes(1), backup_takes=minutes(20)), False, NIGHTLY + minutes(20),
            "Up to 1 day 20 minutes would be lost, since only backups are taken, without WAL, every 1 day 20 minutes, "
            "and Checkout allows 5 minutes.",
        ),
        (
            Pace(None, minutes(1), minutes(1)), False, None,
            "The schedule of backups ends, or never begins: nothing bounds what would be lost.",
        ),
    ],
)  # fmt: skip
def test_a_policy_is_judged_by_its_slowest_part(
    pace: Pace, is_met: bool, worst: timedelta | None, sentence: str
) -> None:
    found = judge_rpo(pace, objectives=ALLOWS_5)

    assert (found.is_met, found.worst_loss, found.sentence) == (is_met, worst, sentence)


@pytest.mark.parametrize(
    ("sentinel", "lost"),
    [(AT - minutes(3), minutes(3)), (AT + minutes(1), minutes(0)), (None, None)],
)
def test_rpo_is_declared_minus_the_newest_sentinel(sentinel: datetime | None, lost: timedelta | None) -> None:  # BCK-6
    assert measure_rpo(declared_at=AT, newest_sentinel_at=sentinel) == lost


def test_rto_is_split_from_the_moment_of_declaring() -> None:  # BCK-6
    times = RecoveryTimes(AT, AT + minutes(5), AT + minutes(7), AT + minutes(40), AT + minutes(52))

    assert measure_rto(times) == MeasuredRto(minutes(5), minutes(2), minutes(33), minutes(12), minutes(52))


def test_what_is_not_over_is_not_measured() -> None:
    times = RecoveryTimes(AT, AT + minutes(5), AT + minutes(7))

    assert measure_rto(times) == MeasuredRto(minutes(5), minutes(2), None, None, None)


def test_a_part_that_was_not_needed_takes_nothing_from_the_whole() -> None:
    times = RecoveryTimes(AT, AT + minutes(5), None, None, AT + minutes(9))

    assert measure_rto(times) == MeasuredRto(minutes(5), None, None, minutes(4), minutes(9))


def test_without_an_earlier_restore_nothing_is_expected() -> None:
    assert expect_restore(GIB, past=[]) is None


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([PastRestore(GIB, minutes(2))], Expectation(minutes(4), None)),
        ([PastRestore(GIB, minutes(2)), PastRestore(2 * GIB, minutes(4))], Expectation(minutes(4), minutes(0))),
        ([PastRestore(0, minutes(2))], Expectation(minutes(2), None)),
        # Two minutes, whatever the size, and three for each GiB.
        (
            [PastRestore(GIB, minutes(5)), PastRestore(3 * GIB, minutes(11)), PastRestore(5 * GIB, minutes(17))],
            Expectation(minutes(8), minutes(0)),
        ),
        # The same size each time tells the error alone.
        (
            [PastRestore(2 * GIB, minutes(3)), PastRestore(2 * GIB, minutes(4)), PastRestore(2 * GIB, minutes(5))],
            Expectation(minutes(4), minutes(1)),
        ),
    ],
)
def test_what_to_expect_follows_earlier_sizes_and_times(past: list[PastRestore], expected: Expectation) -> None:
    assert expect_restore(2 * GIB, past=past) == expected


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 100_000)), min_size=1), st.integers(0, 500))
def test_an_expectation_is_never_negative(past: list[tuple[int, int]], size: int) -> None:
    found = expect_restore(size, past=[PastRestore(one, timedelta(seconds=took)) for one, took in past])

    assert found is not None
    assert found.takes >= timedelta(0)
    assert found.error is None or found.error >= timedelta(0)


@given(st.integers(0, 600), st.integers(1, 60), st.sets(st.integers(1, 900), min_size=3))
def test_where_time_grows_evenly_with_size_the_guess_is_exact(start: int, rate: int, sizes: set[int]) -> None:
    found = expect_restore(1000, past=[PastRestore(one, timedelta(seconds=start + rate * one)) for one in sizes])

    assert found == Expectation(timedelta(seconds=start + rate * 1000), timedelta(0))
