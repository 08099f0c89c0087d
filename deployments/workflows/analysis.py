"""Asks the metrics server while a wave bakes, keeps every answer, and says what they amount to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol.errors import Permanent, Transient
from changecontrol.lifecycles.run import RunState
from changecontrol.models import Environment, Run
from changecontrol.rules.content import IndicatorRule as PlannedRule
from deployments import doors
from deployments.approved import Approved
from deployments.models import Measurement, MeasurementSample
from deployments.rules import analysis as rules
from deployments.rules.analysis import Analysis, AnalysisMove, AnalysisVerdict
from deployments.rules.indicators import CATALOGUE, query_for
from deployments.workflows.looking import at_once

SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(seconds=30)
ERROR_CHARACTERS = 300
ROLLING_BACK_TIER, PAUSING_TIER = 0, 3
"""The plan says what a failure does; the rule reads that as the tier whose default it is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer of the metrics server for one rule in one environment."""

    rule: PlannedRule
    environment: Environment
    query: str
    value: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all rules of a wave amount to. `move` is the worst of theirs."""

    move: AnalysisMove
    sentence: str
    verdict: AnalysisVerdict | None = None


_SEVERITY = (
    AnalysisMove.GO_ON,
    AnalysisMove.WAIT,
    AnalysisMove.RETRY,
    AnalysisMove.PAUSE,
    AnalysisMove.ROLL_BACK,
)


def sample_every(approved: Approved, wave: int) -> timedelta:
    """Return how long to wait between two samples, so that a bake holds enough of them."""
    needed = max((rule.minimum_samples for rule in approved.content.indicators), default=3)
    share = timedelta(seconds=approved.wave(wave).bake_seconds / (needed + 2))
    return min(max(share, SHORTEST), LONGEST)


def ask(run: Run, approved: Approved, environments: Sequence[Environment], *, at: datetime) -> list[Asked]:
    """Ask every rule of the plan for every environment of the open wave. No answer is an answer, and is kept."""
    wave = approved.wave(run.wave)
    questions = [
        (rule, environment, query_for(CATALOGUE[rule.indicator], namespace=environment.namespace, cohorts=wave.cohorts))
        for environment in environments
        for rule in approved.content.indicators
    ]
    answers = at_once(lambda one: _answer(one[1], one[2], at=at), questions)
    return [
        Asked(rule, environment, query, *(answer or (None, "The metrics server answers too slowly.")))
        for (rule, environment, query), answer in zip(questions, answers, strict=True)
    ]


def keep(run: Run, asked: Sequence[Asked], approved: Approved, *, at: datetime) -> Outcome:
    """Store the samples of a locked run and judge each rule by all of its samples in this bake (ANA-3)."""
    outcomes = []
    for one in asked:
        row = _measurement(run, one, approved, at=at)
        MeasurementSample.objects.get_or_create(
            measurement=row, at=at, defaults={"value": one.value, "error": one.error[:ERROR_CHARACTERS]}
        )
        samples = list(row.samples.order_by("at"))
        found = _analyse(row, samples)
        row.verdict, row.sentence = found.verdict, found.sentence
        row.save(update_fields=["verdict", "sentence"])
        has_baked = run.bakes_until is not None and at >= run.bakes_until and len(samples) >= row.minimum_samples
        # While a person is waited for only harm acts: a single breach is looked at again.
        is_over = has_baked and run.state != RunState.AWAITING_PROMOTION
        move = rules.decide_analysis(
            found,
            tier=ROLLING_BACK_TIER if approved.rolls_back else PAUSING_TIER,
            is_over=is_over,
            has_rolled_back=run.rollback_decided_at is not None,
        )
        outcomes.append(Outcome(move, f"{one.environment.slug}: {found.sentence}", found.verdict))
    return max(outcomes, key=lambda one: _SEVERITY.index(one.move), default=Outcome(AnalysisMove.GO_ON, ""))


def end(run: Run, *, at: datetime) -> None:
    """Close the measurements of a bake that is over."""
    Measurement.objects.filter(run=run, ended_at__isnull=True).update(ended_at=at)


def _answer(environment: Environment, query: str, *, at: datetime) -> tuple[float | None, str]:
    if not environment.cluster.metrics_url:
        return None, "The cluster names no metrics server."
    try:
        samples = doors.open_indicators(environment.cluster).observe_query(query, at=at)
    except (Transient, Permanent) as trouble:
        return None, trouble.reason
    values = [sample.value for sample in samples if not math.isnan(sample.value)]
    return (values[0], "") if values else (None, "")


def _measurement(run: Run, one: Asked, approved: Approved, *, at: datetime) -> Measurement:
    indicator = CATALOGUE[one.rule.indicator]
    row = (
        Measurement.objects.filter(
            run=run, wave=run.wave, environment=one.environment, indicator=indicator.key, ended_at__isnull=True
        )
        .order_by("-pk")
        .first()
    )
    return row or Measurement.objects.create(
        run=run,
        wave=run.wave,
        environment=one.environment,
        indicator=indicator.key,
        title=indicator.title,
        query=one.query,
        comparison=indicator.comparison.value,
        threshold=one.rule.threshold,
        minimum_samples=one.rule.minimum_samples,
        breach_count=one.rule.consecutive_breaches,
        cohorts=list(approved.wave(run.wave).cohorts),
        started_at=at,
        verdict=AnalysisVerdict.INCONCLUSIVE,
    )


def _analyse(row: Measurement, samples: Sequence[MeasurementSample]) -> Analysis:
    known = CATALOGUE.get(row.indicator)
    rule = rules.IndicatorRule(
        name=row.title,
        comparison=rules.Comparison(row.comparison),
        threshold=row.threshold,
        minimum_samples=row.minimum_samples,
        breach_count=row.breach_count,
        words=known.rule_words(row.threshold) if known else "",
    )
    return rules.analyse(
        rule, measurements=[rules.Measurement(at=one.at, value=one.value, error=one.error) for one in samples]
    )
