from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.rules.analysis import (
    Analysis,
    AnalysisMove,
    AnalysisVerdict,
    Comparison,
    IndicatorRule,
    Measurement,
    analyse,
    decide_analysis,
)

NOW = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
RULE = IndicatorRule("Orders not synchronised", Comparison.AT_MOST, 5, minimum_samples=3, breach_count=2)
PASS, FAIL = AnalysisVerdict.PASS, AnalysisVerdict.FAIL
UNSURE, NO_DATA, ERROR = AnalysisVerdict.INCONCLUSIVE, AnalysisVerdict.NO_DATA, AnalysisVerdict.ERROR


def measured(words: str) -> list[Measurement]:
    """Read `1 9 - nan !` as values, no data, not a number and an error."""
    values: list[Measurement] = []
    for index, word in enumerate(words.split()):
        at = NOW + timedelta(minutes=index)
        if word == "!":
            values.append(Measurement(at, error="timeout"))
        else:
            values.append(Measurement(at, None if word == "-" else float(word)))
    return values


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("1 2 5", PASS),
        ("1 2", UNSURE),  # ANA-2
        ("9 1 1 1", PASS),
        ("1 1 1 9", UNSURE),
        ("1 9 9 1 1 1", FAIL),
        ("9 9", FAIL),
        ("9 - 9", FAIL),
        ("", NO_DATA),
        ("- - -", NO_DATA),
        ("nan nan nan", NO_DATA),
        ("! !", ERROR),  # ANA-2
        ("- !", ERROR),
        ("1 1 1 !", UNSURE),
        ("1 1 1 -", UNSURE),
        ("1 1 1 ! ! ! ! !", ERROR),
        ("! 1 1 1", PASS),
        ("9 9 !", FAIL),
        ("inf inf", FAIL),
    ],
)
def test_verdict_follows_from_the_measurements(words: str, verdict: AnalysisVerdict) -> None:  # ANA-1
    assert analyse(RULE, measurements=measured(words)).verdict is verdict


@pytest.mark.parametrize(
    ("comparison", "below", "equal", "above"),
    [
        (Comparison.AT_MOST, True, True, False),
        (Comparison.BELOW, True, False, False),
        (Comparison.AT_LEAST, False, True, True),
        (Comparison.ABOVE, False, False, True),
    ],
)
def test_comparison_says_how_a_value_must_stand(comparison: Comparison, below: bool, equal: bool, above: bool) -> None:
    rule = IndicatorRule("x", comparison, 5)

    assert (rule.is_well(4), rule.is_well(5), rule.is_well(6)) == (below, equal, above)


@given(st.lists(st.sampled_from(["-", "nan", "!"]), max_size=12))
def test_no_valid_sample_never_passes_and_never_rolls_back(words: list[str]) -> None:  # ANA-1, ANA-2
    analysis = analyse(RULE, measurements=measured(" ".join(words)))

    assert analysis.verdict in {NO_DATA, ERROR}
    for is_over in (False, True):
        move = decide_analysis(analysis, tier=0, is_over=is_over)
        assert move not in {AnalysisMove.GO_ON, AnalysisMove.ROLL_BACK}


@pytest.mark.parametrize(
    ("verdict", "tier", "is_over", "move"),
    [
        (FAIL, 0, False, AnalysisMove.ROLL_BACK),
        (FAIL, 1, True, AnalysisMove.ROLL_BACK),
        (FAIL, None, False, AnalysisMove.ROLL_BACK),
        (FAIL, 2, False, AnalysisMove.PAUSE),
        (FAIL, 3, True, AnalysisMove.PAUSE),
        (NO_DATA, 0, False, AnalysisMove.WAIT),
        (NO_DATA, 0, True, AnalysisMove.PAUSE),
        (UNSURE, 0, False, AnalysisMove.WAIT),
        (UNSURE, 0, True, AnalysisMove.PAUSE),
        (PASS, 0, False, AnalysisMove.WAIT),
        (PASS, 0, True, AnalysisMove.GO_ON),
    ],
)
def test_verdict_does_what_the_tier_asks(  # ANA-1
    verdict: AnalysisVerdict, tier: int | None, is_over: bool, move: AnalysisMove
) -> None:
    assert decide_analysis(Analysis(verdict, "", 3, 0, 0), tier=tier, is_over=is_over) is move


@pytest.mark.parametrize(
    ("errors", "move"), [(1, AnalysisMove.RETRY), (4, AnalysisMove.RETRY), (5, AnalysisMove.PAUSE)]
)
def test_error_is_retried_four_times_and_then_pauses(errors: int, move: AnalysisMove) -> None:  # ANA-1
    analysis = analyse(RULE, measurements=measured("! " * errors))

    assert decide_analysis(analysis, tier=0, is_over=False) is move


def test_change_is_rolled_back_once() -> None:
    failed = Analysis(FAIL, "", 3, 2, 0)

    assert decide_analysis(failed, tier=0, is_over=False, has_rolled_back=True) is AnalysisMove.PAUSE


def test_analysis_says_what_it_saw() -> None:
    assert analyse(RULE, measurements=measured("1 2")) == Analysis(
        UNSURE, "Orders not synchronised must be at most 5: 2 of 3 samples.", 2, 0, 0
    )


def test_rule_without_a_finite_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="finite threshold"):
        IndicatorRule("x", Comparison.ABOVE, float("nan"))


def test_a_threshold_is_said_with_its_unit() -> None:
    rule = IndicatorRule("POS orders not synchronised", Comparison.AT_MOST, 0.01, words="at most 1 %")

    assert analyse(rule, measurements=[]).sentence == (
        "POS orders not synchronised must be at most 1 %: there is no data."
    )
