"""Waves: who is updated when, how far a failure may reach, and what a run does next.

Everything is decided from what was observed; a target that nobody has seen healthy on the new digest is not healthy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from changecontrol.lifecycles.run import PauseReason, TargetState


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """A target as the plan names it. `sales_share` is from 0 to 1, of the whole tenant."""

    key: str
    cohort: str
    is_pilot: bool = False
    store_count: int = 0
    sales_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Wave:
    """Targets that are updated together. `number` counts from 0, the pilot's."""

    number: int
    name: str
    targets: tuple[PlannedTarget, ...]

    @property
    def store_count(self) -> int:
        return sum(target.store_count for target in self.targets)

    @property
    def sales_share(self) -> float:
        return math.fsum(target.sales_share for target in self.targets)


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """How much of the business could be hurt: by the whole change, and by its worst wave."""

    store_count: int
    sales_share: float
    worst_wave_store_count: int
    worst_wave_sales_share: float


@dataclass(frozen=True, slots=True)
class WaveLimits:
    """Bounds of one wave after the pilot. None is no bound."""

    target_count: int | None = None
    store_count: int | None = None
    sales_share: float | None = None


class OnFailure(StrEnum):
    PAUSE = "pause"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class WavePolicy:
    """What the plan says about failure. `failure_budget` is the number of targets of one wave that may fail.

    `max_updating_count` bounds how many targets are unavailable at once; None is no bound.
    """

    bake_for: timedelta
    failure_budget: int = 0
    max_updating_count: int | None = None
    on_failure: OnFailure = OnFailure.PAUSE
    needs_promotion: bool = False


@dataclass(frozen=True, slots=True)
class ObservedTarget:
    """One target of the open wave. `is_current` says that its health was seen on this plan's digest and generation."""

    key: str
    state: TargetState
    is_current: bool = True


@dataclass(frozen=True, slots=True)
class ObservedWave:
    """The open wave as it stands. `settled_at` is when its last target became healthy, None while one is not."""

    number: int
    wave_count: int
    targets: tuple[ObservedTarget, ...]
    settled_at: datetime | None = None
    is_promoted: bool = False


class WaveMove(StrEnum):
    UPDATE = "update"
    WAIT = "wait"
    BAKE = "bake"
    AWAIT_PROMOTION = "await_promotion"
    OPEN_NEXT = "open_next"
    PAUSE = "pause"
    ROLL_BACK = "roll_back"
    FINISH = "finish"


@dataclass(frozen=True, slots=True)
class WaveDecision:
    """What to do now. `targets` are those to update; `until` is when a bake ends."""

    move: WaveMove
    sentence: str
    reason: PauseReason | None = None
    targets: tuple[str, ...] = ()
    until: datetime | None = None


def plan_waves(targets: Iterable[PlannedTarget], *, order: Sequence[str] = (), limits: WaveLimits) -> tuple[Wave, ...]:
    """Group targets into waves: pilots first, then cohorts in the plan's order, each split where it breaks a limit.

    A target that breaks a limit alone gets a wave of its own. Cohorts the order does not name follow by name.
    """
    everyone = sorted(targets, key=lambda one: one.key)
    pilots = tuple(one for one in everyone if one.is_pilot)
    rank = {cohort: index for index, cohort in enumerate(order)}
    cohorts = sorted(
        {one.cohort for one in everyone if not one.is_pilot}, key=lambda one: (rank.get(one, len(rank)), one)
    )
    groups: list[tuple[str, tuple[PlannedTarget, ...]]] = [("Pilot", pilots)] if pilots else []
    for cohort in cohorts:
        parts = _split([one for one in everyone if one.cohort == cohort and not one.is_pilot], limits)
        names = [cohort] if len(parts) == 1 else [f"{cohort} ({number} of {len(parts)})" for number in _count(parts)]
        groups.extend(zip(names, parts, strict=True))
    return tuple(Wave(number, name, members) for number, (name, members) in enumerate(groups))


def blast_radius(waves: Sequence[Wave]) -> BlastRadius:
    """Add up whom the waves reach."""
    return BlastRadius(
        store_count=sum(wave.store_count for wave in waves),
        sales_share=math.fsum(wave.sales_share for wave in waves),
        worst_wave_store_count=max((wave.store_count for wave in waves), default=0),
        worst_wave_sales_share=max((wave.sales_share for wave in waves), default=0.0),
    )


def decide_wave(wave: ObservedWave, *, policy: WavePolicy, at: datetime) -> WaveDecision:
    """Decide the next move of a run from its open wave. Failure first: nothing is opened over a broken budget."""
    failed = _keys(wave, TargetState.FAILED)
    if len(failed) > policy.failure_budget:
        return _failure(failed, policy)
    busy = _keys(wave, TargetState.UPDATING, TargetState.UPDATED) + _stale(wave)
    pending = _keys(wave, TargetState.PENDING)
    room = len(pending) if policy.max_updating_count is None else max(0, policy.max_updating_count - len(busy))
    if pending and room:
        chosen = pending[:room]
        return WaveDecision(WaveMove.UPDATE, f"Update {len(chosen)} of {len(pending)} targets.", targets=chosen)
    if pending or busy:
        return WaveDecision(WaveMove.WAIT, f"{len(busy)} targets are on their way.")
    healthy = _keys(wave, TargetState.HEALTHY)
    deferred = _keys(wave, TargetState.DEFERRED)
    if deferred and not healthy:
        # A wave of which nobody was reached is no evidence for the next one.
        return WaveDecision(
            WaveMove.PAUSE, "No target of this wave could be reached.", reason=PauseReason.CLUSTER_UNREACHABLE
        )
    return _settled(wave, policy=policy, deferred=deferred, at=at)


def _settled(wave: ObservedWave, *, policy: WavePolicy, deferred: tuple[str, ...], at: datetime) -> WaveDecision:
    healthy = _keys(wave, TargetState.HEALTHY)
    if healthy:
        if wave.settled_at is None:
            return WaveDecision(WaveMove.WAIT, "The bake begins when the last target's health is recorded.")
        until = wave.settled_at + policy.bake_for
        if at < until:
            return WaveDecision(WaveMove.BAKE, f"Baking until {until:%H:%M %Z}.", until=until)
    is_last = wave.number + 1 >= wave.wave_count
    if is_last and deferred:
        return WaveDecision(
            WaveMove.PAUSE,
            f"Deferred and still to be reached or skipped: {', '.join(deferred)}.",
            reason=PauseReason.DEFERRED_TARGETS,
        )
    if is_last:
        return WaveDecision(WaveMove.FINISH, "Every wave is done.")
    if policy.needs_promotion and not wave.is_promoted:
        return WaveDecision(WaveMove.AWAIT_PROMOTION, "The next wave waits for a person.")
    return WaveDecision(WaveMove.OPEN_NEXT, f"Wave {wave.number} has baked.")


def _failure(failed: tuple[str, ...], policy: WavePolicy) -> WaveDecision:
    sentence = f"Failed: {', '.join(failed)}. The failure budget is {policy.failure_budget}."
    if policy.on_failure is OnFailure.ROLL_BACK:
        return WaveDecision(WaveMove.ROLL_BACK, sentence)
    return WaveDecision(WaveMove.PAUSE, sentence, reason=PauseReason.FAILURE_BUDGET)


def _keys(wave: ObservedWave, *states: TargetState) -> tuple[str, ...]:
    return tuple(
        one.key
        for one in wave.targets
        if one.state in states and (one.is_current or one.state is not TargetState.HEALTHY)
    )


def _stale(wave: ObservedWave) -> tuple[str, ...]:
    return tuple(one.key for one in wave.targets if one.state is TargetState.HEALTHY and not one.is_current)


def _split(members: Sequence[PlannedTarget], limits: WaveLimits) -> list[tuple[PlannedTarget, ...]]:
    parts: list[list[PlannedTarget]] = [[]]
    for member in members:
        if parts[-1] and not _is_within([*parts[-1], member], limits):
            parts.append([])
        parts[-1].append(member)
    return [tuple(part) for part in parts]


def _is_within(members: Sequence[PlannedTarget], limits: WaveLimits) -> bool:
    share = math.fsum(one.sales_share for one in members)
    return (
        (limits.target_count is None or len(members) <= limits.target_count)
        and (limits.store_count is None or sum(one.store_count for one in members) <= limits.store_count)
        and (limits.sales_share is None or share <= limits.sales_share + 1e-9)
    )


def _count(parts: Sequence[object]) -> range:
    return range(1, len(parts) + 1)
