"""One indicator rule judged from its samples, and what each verdict does. No data never passes and never rolls back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Comparison(StrEnum):
    """How a value must stand to the threshold to be well."""

    AT_MOST = "at_most"
    BELOW = "below"
    AT_LEAST = "at_least"
    ABOVE = "above"


class AnalysisVerdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"


class AnalysisMove(StrEnum):
    GO_ON = "go_on"
    WAIT = "wait"
    RETRY = "retry"
    PAUSE = "pause"
    ROLL_BACK = "roll_back"


MAX_ERROR_RETRIES = 4
ROLLING_BACK_TIERS = frozenset({0, 1})


@dataclass(frozen=True, slots=True)
class IndicatorRule:
    """A threshold on a series. It fails after `breach_count` breaches in a row, and passes with `minimum_samples`.

    `words` are comparison and threshold as a person reads them, with the unit.
    """

    name: str
    comparison: Comparison
    threshold: float
    minimum_samples: int = 3
    breach_count: int = 2
    words: str = ""

    def __post_init__(self) -> None:
        if self.minimum_samples < 1 or self.breach_count < 1 or not math.isfinite(self.threshold):
            raise ValueError(f"The indicator “{self.name}” needs a finite threshold and counts of at least 1.")

    def is_well(self, value: float) -> bool:
        return {
            Comparison.AT_MOST: value <= self.threshold,
            Comparison.BELOW: value < self.threshold,
            Comparison.AT_LEAST: value >= self.threshold,
            Comparison.ABOVE: value > self.threshold,
        }[self.comparison]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One asking of the metrics server. `value` None is no series; `error` says that it could not answer."""

    at: datetime
    value: float | None = None
    error: str = ""

    @property
    def is_valid(self) -> bool:
        return not self.error and self.value is not None and not math.isnan(self.value)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the measurements amount to."""

    verdict: AnalysisVerdict
    sentence: str
    valid_count: int
    breach_count: int
    trailing_error_count: int


def analyse(rule: IndicatorRule, *, measurements: Sequence[Measurement]) -> Analysis:
    """Judge the measurements so far, oldest first.

    A run of breaches anywhere fails for good: what recovered after hurting has hurt. Only errors is an error, only
    empty answers no data; too few valid samples, or a breach just now, is inconclusive.
    """
    valid = [one.value for one in measurements if one.is_valid and one.value is not None]
    longest, trailing = _breaches(rule, valid)
    errors = _trailing_errors(measurements)
    limit = rule.words or f"{rule.comparison.value.replace('_', ' ')} {rule.threshold:g}"
    words = f"{rule.name} must be {limit}"

    def answer(verdict: AnalysisVerdict, sentence: str) -> Analysis:
        return Analysis(verdict, f"{words}: {sentence}", len(valid), longest, errors)

    if longest >= rule.breach_count:
        return answer(AnalysisVerdict.FAIL, f"{longest} breaches in a row.")
    if errors and (not valid or errors > MAX_ERROR_RETRIES):
        return answer(AnalysisVerdict.ERROR, f"the metrics server failed {errors} times in a row.")
    if not valid:
        return answer(AnalysisVerdict.NO_DATA, "there is no data.")
    if measurements and not measurements[-1].is_valid:
        word = "failed" if measurements[-1].error else "had no data"
        return answer(AnalysisVerdict.INCONCLUSIVE, f"the last measurement {word}.")
    if trailing:
        return answer(AnalysisVerdict.INCONCLUSIVE, f"{trailing} of {rule.breach_count} breaches in a row.")
    if len(valid) < rule.minimum_samples:
        return answer(AnalysisVerdict.INCONCLUSIVE, f"{len(valid)} of {rule.minimum_samples} samples.")
    return answer(AnalysisVerdict.PASS, f"{len(valid)} samples are well.")


def decide_analysis(
    analysis: Analysis, *, tier: int | None, is_over: bool, has_rolled_back: bool = False
) -> AnalysisMove:
    """Decide what the verdict does. `is_over` once the time to measure has passed; until then only harm acts.

    There is one rollback per change: a failure after it pauses.
    """
    verdict = analysis.verdict
    if verdict is AnalysisVerdict.FAIL:
        is_strict = tier is None or tier in ROLLING_BACK_TIERS
        return AnalysisMove.ROLL_BACK if is_strict and not has_rolled_back else AnalysisMove.PAUSE
    if verdict is AnalysisVerdict.ERROR:
        return AnalysisMove.RETRY if analysis.trailing_error_count <= MAX_ERROR_RETRIES else AnalysisMove.PAUSE
    if not is_over:
        return AnalysisMove.WAIT
    return AnalysisMove.GO_ON if verdict is AnalysisVerdict.PASS else AnalysisMove.PAUSE


def _breaches(rule: IndicatorRule, values: Sequence[float]) -> tuple[int, int]:
    longest = running = 0
    for value in values:
        running = 0 if rule.is_well(value) else running + 1
        longest = max(longest, running)
    return longest, running


def _trailing_errors(measurements: Sequence[Measurement]) -> int:
    count = 0
    for one in reversed(measurements):
        if not one.error:
            break
        count += 1
    return count
