"""How far a run is and how long it may still take. An estimate from its own pace, never a promise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol.lifecycles.run import TargetState

DONE = frozenset({TargetState.HEALTHY, TargetState.SKIPPED, TargetState.REVERTED})
IN_WORK = frozenset({TargetState.UPDATING, TargetState.UPDATED})


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """What the plan says of one wave: how long it bakes, and whether a person opens the next."""

    name: str
    bake_for: timedelta
    needs_promotion: bool = False


@dataclass(frozen=True, slots=True)
class TargetProgress:
    """One target as it stands; `took` is how long it was in work, None while nobody knows."""

    wave: int
    state: TargetState
    took: timedelta | None = None


def pace_of(targets: Iterable[TargetProgress], *, at_most: timedelta) -> timedelta:
    """Return the mean time of the targets that are healthy, or what the plan allows where none is yet."""
    known = [one.took for one in targets if one.took is not None and one.state is TargetState.HEALTHY]
    return sum(known, timedelta()) / len(known) if known else at_most


def time_left(
    waves: Sequence[PlannedWave],
    *,
    targets: Sequence[TargetProgress],
    wave: int,
    pace: timedelta,
    at_once: int,
    bakes_until: datetime | None,
    at: datetime,
) -> timedelta:
    """Return about how long the open wave and those behind it take when nothing fails and everybody promotes at once.

    `at_once` is how many targets are in work together.
    """
    left = timedelta()
    for number, planned in enumerate(waves):
        if number < wave:
            continue
        open_count = sum(1 for one in targets if one.wave == number and one.state not in DONE)
        left += pace * math.ceil(open_count / max(at_once, 1))
        if number == wave and bakes_until is not None:
            left += max(bakes_until - at, timedelta())
        else:
            left += planned.bake_for
    return left


def count_by_state(states: Iterable[str]) -> Mapping[str, int]:
    """Count targets by state, the furthest first, so that bars fill from the left."""
    found = list(states)
    order = ("healthy", "updated", "updating", "deferred", "reverted", "failed", "skipped", "pending")
    return {state: found.count(state) for state in order if state in found}
