"""What a wave's indicators do to a run: pass, fail, no data and errors, each kept with every sample."""

from __future__ import annotations

from typing import Any

from changecontrol.errors import Transient
from deployments.models import Measurement
from tests.deployments.workflows.scene import GOOD, NEW, Scene

QUERY = 'max(odoo_pos_orders_unsynchronised_ratio{namespace="northwind-production",cohort=~"pilot"})'
ALL = 'max(odoo_pos_orders_unsynchronised_ratio{namespace="northwind-production"})'
RULE = {"indicator": "pos_orders_unsynchronised", "threshold": 0.01, "minimum_samples": 3, "consecutive_breaches": 2}


def scheduled(scene: Scene, **answers: Any) -> Any:
    scene.estate.cluster.metrics_url = "https://metrics.example"
    scene.estate.cluster.save()
    return scene.scheduled(NEW, indicators=[RULE], **answers)


def test_an_indicator_that_holds_lets_the_rollout_finish(scene: Scene) -> None:  # ANA-2, ANA-3
    scene.indicators.set_value(QUERY, 0.004)
    scene.indicators.set_value(ALL, 0.004)
    scheduled(scene)

    run = scene.until("succeeded", "paused", "rolled_back")

    assert run.state == "succeeded", run.sentence
    first, second = Measurement.objects.filter(run=run).order_by("wave")
    assert (first.query, second.query, first.verdict, second.verdict) == (QUERY, ALL, "pass", "pass")
    assert (first.threshold, first.comparison) == (0.01, "at_most")
    values = list(first.samples.values_list("value", flat=True))
    assert len(values) >= 3
    assert set(values) == {0.004}
    assert first.ended_at is not None


def test_a_breach_rolls_back_where_the_plan_says_so(scene: Scene) -> None:  # ANA-1
    scene.indicators.set_value(QUERY, 0.05)
    change = scheduled(scene)

    run = scene.until("rolled_back", "paused", "succeeded")

    assert run.state == "rolled_back", run.sentence
    assert scene.images() == {"odoo-pilot": GOOD, "odoo-rest": GOOD}
    measured = Measurement.objects.get(run=run)
    assert (measured.verdict, measured.samples.count()) == ("fail", 2)
    change.refresh_from_db()
    assert "POS orders not synchronised must be at most 1 %: 2 breaches in a row." in change.close_note


def test_a_breach_pauses_where_the_plan_says_so(scene: Scene) -> None:  # ANA-1
    scene.indicators.set_value(QUERY, 0.05)
    scheduled(scene, on_failure="pause")

    run = scene.until("rolled_back", "paused", "succeeded")

    assert (run.state, run.pause_reason) == ("paused", "analysis")


def test_no_data_pauses_and_neither_passes_nor_rolls_back(scene: Scene) -> None:  # ANA-1
    scheduled(scene)

    run = scene.until("rolled_back", "paused", "succeeded")

    assert (run.state, run.pause_reason) == ("paused", "analysis")
    assert "there is no data" in run.sentence
    assert Measurement.objects.get(run=run).verdict == "no_data"
    assert scene.images()["odoo-pilot"] == NEW


def test_a_metrics_server_that_fails_is_asked_again_and_then_pauses(scene: Scene) -> None:  # ANA-1
    scene.indicators.script.fail_before("observe_query", Transient("HTTP 503."), times=1000)
    scheduled(scene)

    run = scene.until("rolled_back", "paused", "succeeded")

    assert (run.state, run.pause_reason) == ("paused", "analysis")
    measured = Measurement.objects.get(run=run)
    assert (measured.verdict, measured.samples.count()) == ("error", 5)
    assert {sample.error for sample in measured.samples.all()} == {"HTTP 503."}


def test_a_few_errors_are_no_verdict(scene: Scene) -> None:  # ANA-1
    scene.indicators.set_value(QUERY, 0.004)
    scene.indicators.set_value(ALL, 0.004)
    scene.indicators.script.fail_before("observe_query", Transient("HTTP 503."), times=2)
    scheduled(scene)

    assert scene.until("rolled_back", "paused", "succeeded").state == "succeeded"


def test_analysis_goes_on_while_a_person_is_waited_for(scene: Scene) -> None:  # RUN-6
    scene.indicators.set_value(QUERY, 0.004)
    waves = [
        {"name": "P", "environments": ["production"], "cohorts": ["pilot"], "bake_seconds": 20, "promotion": "manual"},
        {"name": "R", "environments": ["production"], "bake_seconds": 20},
    ]
    scheduled(scene, waves=waves)
    scene.until("awaiting_promotion")

    scene.indicators.set_value(QUERY, 0.09)
    run = scene.until("rolled_back", "paused", "succeeded")

    assert run.state == "rolled_back"
