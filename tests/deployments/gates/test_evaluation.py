"""The CEL evaluator: right answers, errors as words, and an end to what has none."""

from __future__ import annotations

import pytest

from changecontrol.errors import Permanent
from deployments.gates.evaluation import answer
from deployments.rules.policy import Subject


def ask(expression: str, **words: object) -> bool | str:
    return answer([Subject("rule", "subject", expression, words)])[0]


def test_a_rule_is_true_or_false_of_its_variables():
    assert ask("n > 1", n=2) is True
    assert ask("n > 1", n=1) is False


@pytest.mark.parametrize("expression", ["missing.field == 1", "1 +", "1 + 1"])
def test_what_is_no_truth_value_comes_back_as_words(expression):
    found = ask(expression)

    assert isinstance(found, str)
    assert found


def test_a_rule_without_end_is_stopped_and_nothing_is_judged():
    items = list(range(1000))
    endless = "items.all(a, items.all(b, items.all(c, items.all(d, a + b + c + d >= 0))))"

    with pytest.raises(Permanent, match=r"did not come to an end|within their bounds"):
        answer([Subject("rule", "subject", endless, {"items": items})], time_limit_seconds=1)


def test_a_rule_that_eats_memory_is_stopped():
    items = list(range(1000))
    greedy = "items.map(a, items.map(b, items.map(c, [a, b, c]))).size() > 0"

    with pytest.raises(Permanent, match=r"did not come to an end|within their bounds"):
        answer([Subject("rule", "subject", greedy, {"items": items})], time_limit_seconds=2)


def test_many_subjects_are_answered_in_order():
    subjects = [Subject("rule", str(n), "n % 2 == 0", {"n": n}) for n in range(50)]

    assert answer(subjects) == [n % 2 == 0 for n in range(50)]
