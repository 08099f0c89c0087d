"""How risky is a change, and how strict is the estate it touches? Every point of a score explains itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class RiskLevel(StrEnum):
    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    VERY_HIGH = "very_high"


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the form; `points` by answer, in the order they are offered."""

    key: str
    text: str
    points: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RiskFacts:
    """What the estate says about a change. `sales_share` is from 0 to 1; `tier` None means nobody stated one."""

    tier: int | None
    environment_stage: str
    store_count: int = 0
    sales_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Contribution:
    points: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Risk:
    score: int
    level: RiskLevel
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class TierDefaults:
    """What a tier asks where a business process says nothing of its own."""

    tier: int
    rto: timedelta
    rpo: timedelta
    wave_share: float
    """The greatest share of a change's targets in one wave after the pilot."""
    bake_for: timedelta
    failure_budget: int
    """How many targets of one wave may fail before the run stops."""
    drill_every: timedelta


QUESTIONS = (
    Question("rollback", "How is it undone?", {"automatic": 0, "by_hand": 10, "only_by_restore": 25, "not_at_all": 35}),
    Question(
        "tested", "Where was it tested?", {"staging_same_data": 0, "staging": 5, "development": 15, "nowhere": 25}
    ),
    Question("experience", "How often was this done before?", {"often": 0, "a_few_times": 5, "never": 15}),
    Question("downtime", "Will people notice?", {"no": 0, "slower": 5, "short_interruption": 15, "outage": 25}),
    Question("schema", "Does it change data or schema?", {"no": 0, "additive": 10, "migration": 25}),
    Question("security", "Does it touch security?", {"no": 0, "yes": 10}),
)

TIERS: Mapping[int, TierDefaults] = {
    0: TierDefaults(0, timedelta(minutes=15), timedelta(minutes=1), 0.10, timedelta(minutes=30), 0, timedelta(days=30)),
    1: TierDefaults(1, timedelta(hours=1), timedelta(minutes=5), 0.20, timedelta(minutes=20), 0, timedelta(days=90)),
    2: TierDefaults(2, timedelta(hours=4), timedelta(hours=1), 0.34, timedelta(minutes=10), 1, timedelta(days=180)),
    3: TierDefaults(3, timedelta(hours=24), timedelta(hours=24), 0.50, timedelta(minutes=5), 2, timedelta(days=365)),
}
STRICTEST_TIER = 0

_TIER_POINTS = {0: 30, 1: 20, 2: 8, 3: 0}
_STAGE_POINTS = {"development": 0, "staging": 3, "production": 15}
_STORE_POINTS = ((100, 20), (25, 12), (5, 6), (1, 2))
_SALES_POINTS = ((0.5, 20), (0.2, 12), (0.05, 5))
_LEVELS = ((85, RiskLevel.VERY_HIGH), (55, RiskLevel.HIGH), (25, RiskLevel.MODERATE))


def inherited_tier(tiers: Iterable[int | None]) -> int:
    """Return the strictest tier a change touches. Where a process states none, or nothing is known, that is tier 0."""
    return min((STRICTEST_TIER if tier is None else tier for tier in tiers), default=STRICTEST_TIER)


def tier_defaults(tier: int | None) -> TierDefaults:
    return TIERS[STRICTEST_TIER if tier is None else tier]


def assess_risk(answers: Mapping[str, str], *, facts: RiskFacts) -> Risk:
    """Score a change. A question left open counts as its worst answer, and says so."""
    contributions = [*(_answered(question, answers.get(question.key)) for question in QUESTIONS), *_of_estate(facts)]
    score = sum(one.points for one in contributions)
    level = next((level for least, level in _LEVELS if score >= least), RiskLevel.LOW)
    explained = tuple(sorted((one for one in contributions if one.points), key=lambda one: (-one.points, one.sentence)))
    return Risk(score, level, explained)


def check_answers(answers: Mapping[str, str]) -> tuple[str, ...]:
    """Say in sentences which answers are missing or unknown."""
    sentences = [
        f"Answer “{question.text}”" if question.key not in answers else f"“{question.text}” has no such answer."
        for question in QUESTIONS
        if answers.get(question.key) not in question.points
    ]
    known = {question.key for question in QUESTIONS}
    return (*sentences, *(f"There is no question “{key}”." for key in sorted(answers) if key not in known))


def _answered(question: Question, answer: str | None) -> Contribution:
    if answer is not None and answer in question.points:
        return Contribution(question.points[answer], f"{question.text} {_words(answer).capitalize()}.")
    return Contribution(max(question.points.values()), f"{question.text} Not answered, so the worst is assumed.")


def _of_estate(facts: RiskFacts) -> list[Contribution]:
    tier = STRICTEST_TIER if facts.tier is None else facts.tier
    name = "a process of unknown tier" if facts.tier is None else f"tier {tier}"
    stage_points = _STAGE_POINTS.get(facts.environment_stage, max(_STAGE_POINTS.values()))
    store_points = next((points for least, points in _STORE_POINTS if facts.store_count >= least), 0)
    sales_points = next((points for least, points in _SALES_POINTS if facts.sales_share >= least), 0)
    return [
        Contribution(_TIER_POINTS[tier], f"It touches {name}."),
        Contribution(stage_points, f"It acts in {facts.environment_stage}."),
        Contribution(store_points, f"It reaches {facts.store_count} stores."),
        Contribution(sales_points, f"{facts.sales_share:.0%} of sales depend on its targets."),
    ]


def _words(slug: str) -> str:
    return slug.replace("_", " ")
