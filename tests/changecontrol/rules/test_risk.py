from __future__ import annotations

from datetime import timedelta

import pytest

from changecontrol.rules.risk import (
    QUESTIONS,
    TIERS,
    Contribution,
    Question,
    Risk,
    RiskFacts,
    RiskLevel,
    assess_risk,
    check_answers,
    inherited_tier,
    tier_defaults,
)

BEST = {question.key: next(iter(question.points)) for question in QUESTIONS}
WORST = {question.key: list(question.points)[-1] for question in QUESTIONS}
NOWHERE = RiskFacts(tier=3, environment_stage="development")
TILLS = RiskFacts(tier=0, environment_stage="production", store_count=150, sales_share=0.9)


def test_careful_change_in_development_is_low() -> None:
    assert assess_risk(BEST, facts=NOWHERE) == Risk(0, RiskLevel.LOW, ())


def test_score_explains_every_point() -> None:
    risk = assess_risk({**BEST, "schema": "additive"}, facts=TILLS)

    assert risk == Risk(
        95,
        RiskLevel.VERY_HIGH,
        (
            Contribution(30, "It touches tier 0."),
            Contribution(20, "90% of sales depend on its targets."),
            Contribution(20, "It reaches 150 stores."),
            Contribution(15, "It acts in production."),
            Contribution(10, "Does it change data or schema? Additive."),
        ),
    )


@pytest.mark.parametrize(
    ("answers", "facts", "level"),
    [
        (BEST, RiskFacts(2, "staging", 5, 0.0), RiskLevel.LOW),
        (BEST, RiskFacts(2, "production", 5, 0.01), RiskLevel.MODERATE),
        (BEST, RiskFacts(1, "production", 40, 0.2), RiskLevel.HIGH),
        (BEST, TILLS, RiskLevel.VERY_HIGH),
        (WORST, NOWHERE, RiskLevel.VERY_HIGH),
    ],
)
def test_level_follows_answers_tier_stage_and_blast_radius(
    answers: dict[str, str], facts: RiskFacts, level: RiskLevel
) -> None:
    assert assess_risk(answers, facts=facts).level is level


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.key)
def test_open_question_counts_as_its_worst_answer(question: Question) -> None:
    answers = {key: value for key, value in BEST.items() if key != question.key}

    assert assess_risk(answers, facts=NOWHERE).score == max(question.points.values())


def test_unknown_tier_or_stage_is_taken_for_the_strictest() -> None:
    unknown = assess_risk(BEST, facts=RiskFacts(None, "laboratory"))

    assert unknown.score == assess_risk(BEST, facts=RiskFacts(0, "production")).score


def test_answers_are_checked_in_sentences() -> None:
    answers = {**BEST, "tested": "maybe", "mood": "good"}
    del answers["schema"]

    assert check_answers(BEST) == ()
    assert check_answers(answers) == (
        "“Where was it tested?” has no such answer.",
        "Answer “Does it change data or schema?”",
        "There is no question “mood”.",
    )


@pytest.mark.parametrize(("tiers", "inherited"), [([3, 1, 2], 1), ([3], 3), ([2, None], 0), ([], 0)])
def test_change_inherits_the_strictest_tier_it_touches(tiers: list[int | None], inherited: int) -> None:  # BIZ-2
    assert inherited_tier(tiers) == inherited


def test_stricter_tier_never_asks_less() -> None:  # BIZ-2
    for strict, lenient in ((0, 1), (1, 2), (2, 3)):
        one, other = TIERS[strict], TIERS[lenient]
        assert one.rto < other.rto
        assert one.rpo < other.rpo
        assert one.wave_share < other.wave_share
        assert one.bake_for > other.bake_for
        assert one.failure_budget <= other.failure_budget
        assert one.drill_every < other.drill_every


def test_unstated_tier_gets_the_defaults_of_tier_0() -> None:
    assert tier_defaults(None) is tier_defaults(0)
    assert tier_defaults(0).rto == timedelta(minutes=15)
