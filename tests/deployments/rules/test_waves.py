from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changecontrol.lifecycles.run import PauseReason, TargetState
from deployments.rules.waves import (
    BlastRadius,
    ObservedTarget,
    ObservedWave,
    OnFailure,
    PlannedTarget,
    WaveDecision,
    WaveLimits,
    WaveMove,
    WavePolicy,
    blast_radius,
    decide_wave,
    plan_waves,
)

NOW = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
POLICY = WavePolicy(bake_for=timedelta(minutes=10))
NO_LIMITS = WaveLimits()
TARGETS = [
    PlannedTarget("b1", "south", store_count=10, sales_share=0.1),
    PlannedTarget("a1", "north", store_count=5, sales_share=0.2),
    PlannedTarget("a2", "north", store_count=5, sales_share=0.2),
    PlannedTarget("p1", "pilot", is_pilot=True, store_count=1, sales_share=0.01),
]


def observed(states: str, **more: object) -> ObservedWave:
    letters: dict[str, TargetState] = {
        state.value[:3]: state for state in TargetState if state is not TargetState.UPDATED
    }
    letters["don"] = TargetState.UPDATED
    targets = tuple(ObservedTarget(f"t{n}", letters[word]) for n, word in enumerate(states.split()))
    return replace(ObservedWave(number=0, wave_count=2, targets=targets), **more)  # type: ignore[arg-type]


def test_pilots_go_first_then_cohorts_in_the_plans_order() -> None:
    waves = plan_waves(TARGETS, order=["south"], limits=NO_LIMITS)

    assert [(wave.number, wave.name, [one.key for one in wave.targets]) for wave in waves] == [
        (0, "Pilot", ["p1"]),
        (1, "south", ["b1"]),
        (2, "north", ["a1", "a2"]),
    ]


@pytest.mark.parametrize(
    "limits", [WaveLimits(target_count=1), WaveLimits(store_count=9), WaveLimits(sales_share=0.3)], ids=str
)
def test_wave_that_breaks_a_limit_is_split(limits: WaveLimits) -> None:
    names = [wave.name for wave in plan_waves(TARGETS, limits=limits)]

    assert names == ["Pilot", "north (1 of 2)", "north (2 of 2)", "south"]


def test_blast_radius_counts_stores_and_sales() -> None:
    assert blast_radius(plan_waves(TARGETS[:3], limits=NO_LIMITS)) == BlastRadius(20, 0.5, 10, 0.4)
    assert blast_radius([]) == BlastRadius(0, 0.0, 0, 0.0)


@given(st.permutations(TARGETS), st.integers(1, 4))
def test_every_target_is_in_one_wave_and_order_of_rows_is_irrelevant(targets: list[PlannedTarget], most: int) -> None:
    waves = plan_waves(targets, limits=WaveLimits(target_count=most))

    assert sorted(one.key for wave in waves for one in wave.targets) == ["a1", "a2", "b1", "p1"]
    assert waves == plan_waves(TARGETS, limits=WaveLimits(target_count=most))


@pytest.mark.parametrize(
    ("states", "move"),
    [
        ("pen pen", WaveMove.UPDATE),
        ("upd pen", WaveMove.UPDATE),
        ("upd don", WaveMove.WAIT),
        ("don hea", WaveMove.WAIT),
        ("hea fai", WaveMove.PAUSE),
        ("pen fai", WaveMove.PAUSE),
        ("def def", WaveMove.PAUSE),
        ("ski ski", WaveMove.OPEN_NEXT),
        ("rev ski", WaveMove.OPEN_NEXT),
    ],
)
def test_wave_moves_by_what_was_observed(states: str, move: WaveMove) -> None:
    assert decide_wave(observed(states), policy=POLICY, at=NOW).move is move


def test_no_more_targets_are_unavailable_than_the_plan_allows() -> None:
    policy = replace(POLICY, max_updating_count=2)

    assert decide_wave(observed("upd pen pen"), policy=policy, at=NOW) == WaveDecision(
        WaveMove.UPDATE, "Update 1 of 2 targets.", targets=("t1",)
    )
    assert decide_wave(observed("upd don pen"), policy=policy, at=NOW).move is WaveMove.WAIT


@pytest.mark.parametrize(("minutes", "move"), [(9, WaveMove.BAKE), (10, WaveMove.OPEN_NEXT)])
def test_next_wave_waits_for_the_bake(minutes: int, move: WaveMove) -> None:  # RUN-2
    wave = observed("hea hea", settled_at=NOW - timedelta(minutes=minutes))

    assert decide_wave(wave, policy=POLICY, at=NOW).move is move


def test_bake_begins_only_with_recorded_health() -> None:  # RUN-2
    assert decide_wave(observed("hea hea"), policy=POLICY, at=NOW).move is WaveMove.WAIT


def test_stale_healthy_is_not_evidence() -> None:  # RUN-2
    wave = observed("hea hea", settled_at=NOW - timedelta(hours=1))
    stale = replace(wave, targets=(wave.targets[0], replace(wave.targets[1], is_current=False)))

    assert decide_wave(stale, policy=POLICY, at=NOW).move is WaveMove.WAIT


def test_last_wave_finishes_the_run() -> None:
    wave = observed("hea hea", number=1, settled_at=NOW - timedelta(hours=1))

    assert decide_wave(wave, policy=POLICY, at=NOW).move is WaveMove.FINISH


def test_failures_within_the_budget_do_not_stop_the_run() -> None:  # RUN-4
    wave = observed("hea fai", settled_at=NOW - timedelta(hours=1))

    assert decide_wave(wave, policy=replace(POLICY, failure_budget=1), at=NOW).move is WaveMove.OPEN_NEXT
    assert decide_wave(wave, policy=POLICY, at=NOW) == WaveDecision(
        WaveMove.PAUSE, "Failed: t1. The failure budget is 0.", reason=PauseReason.FAILURE_BUDGET
    )


def test_broken_budget_rolls_back_where_the_plan_says_so() -> None:  # RUN-4
    policy = replace(POLICY, on_failure=OnFailure.ROLL_BACK)

    assert decide_wave(observed("hea fai pen"), policy=policy, at=NOW).move is WaveMove.ROLL_BACK


def test_deferred_target_is_not_a_failure_and_keeps_the_run_from_finishing() -> None:  # RUN-4
    wave = observed("hea def", settled_at=NOW - timedelta(hours=1))

    assert decide_wave(wave, policy=POLICY, at=NOW).move is WaveMove.OPEN_NEXT
    last = decide_wave(replace(wave, number=1), policy=POLICY, at=NOW)
    assert (last.move, last.reason) == (WaveMove.PAUSE, PauseReason.DEFERRED_TARGETS)


def test_promotion_is_asked_before_the_next_wave_and_not_after_the_last() -> None:
    policy = replace(POLICY, needs_promotion=True)
    wave = observed("hea", settled_at=NOW - timedelta(hours=1))

    assert decide_wave(wave, policy=policy, at=NOW).move is WaveMove.AWAIT_PROMOTION
    assert decide_wave(replace(wave, is_promoted=True), policy=policy, at=NOW).move is WaveMove.OPEN_NEXT
    assert decide_wave(replace(wave, number=1), policy=policy, at=NOW).move is WaveMove.FINISH
