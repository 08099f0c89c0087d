"""How far a run is, and how long it may still take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.lifecycles.run import TargetState
from deployments.rules.progress import PlannedWave, TargetProgress, count_by_state, pace_of, time_left

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WAVES = (PlannedWave("Pilot", 10 * MINUTE), PlannedWave("Rest", 20 * MINUTE))


def target(wave: int, state: str, took: timedelta | None = None) -> TargetProgress:
    return TargetProgress(wave, TargetState(state), took)


def test_pace_is_the_mean_of_what_became_healthy() -> None:
    targets = [target(0, "healthy", 2 * MINUTE), target(0, "healthy", 4 * MINUTE), target(0, "failed", 9 * MINUTE)]

    assert pace_of(targets, at_most=10 * MINUTE) == 3 * MINUTE


def test_pace_is_what_the_plan_allows_while_nothing_is_known() -> None:
    assert pace_of([target(0, "updating")], at_most=10 * MINUTE) == 10 * MINUTE


@pytest.mark.parametrize(
    ("states", "wave", "bakes_until", "minutes"),
    [
        # three batches of two at 3 min, then both bakes
        (["pending"] * 2 + ["pending"] * 4, 0, None, 3 + 10 + 6 + 20),
        # the pilot is done and bakes for 4 min more
        (["healthy"] * 2 + ["pending"] * 4, 0, AT + 4 * MINUTE, 4 + 6 + 20),
        # a bake whose end has come takes no more time, and never less than none
        (["healthy"] * 2 + ["pending"] * 4, 0, AT - 4 * MINUTE, 6 + 20),
        # what a wave behind left over is not waited for
        (["failed"] * 2 + ["healthy"] * 3 + ["deferred"], 1, None, 3 + 20),
        (["healthy"] * 2 + ["skipped", "healthy", "healthy", "healthy"], 1, AT + MINUTE, 1),
    ],
)
def test_time_left_adds_batches_and_bakes(
    states: list[str], wave: int, bakes_until: datetime | None, minutes: int
) -> None:
    targets = [target(0 if number < 2 else 1, state) for number, state in enumerate(states)]

    left = time_left(WAVES, targets=targets, wave=wave, pace=3 * MINUTE, at_once=2, bakes_until=bakes_until, at=AT)

    assert left == minutes * MINUTE


def test_states_are_counted_from_the_furthest() -> None:
    counts = count_by_state(["pending", "healthy", "failed", "pending", "updating"])

    assert list(counts.items()) == [("healthy", 1), ("updating", 1), ("failed", 1), ("pending", 2)]
