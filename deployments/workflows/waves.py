"""The open wave of a run as the rules read it: its targets, whose turn it is, and how far it is. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from changecontrol.lifecycles.run import TargetState
from changecontrol.models import Environment, Run, RunTarget
from deployments.approved import Approved
from deployments.rules.waves import ObservedTarget, ObservedWave, WaveDecision, decide_wave
from deployments.workflows import checks
from deployments.workflows.checks import Calendar


def open_targets(row: Run) -> list[RunTarget]:
    """Return the targets of the open wave, and what earlier waves still owe; shared objects first."""
    rows = row.targets.filter(wave__lte=row.wave).select_related(
        "environment__cluster", "environment__source", "cohort"
    )
    owed = {TargetState.PENDING, TargetState.UPDATING, TargetState.UPDATED, TargetState.DEFERRED}
    chosen = [one for one in rows if one.wave == row.wave or one.state in owed]
    if any(one.workload for one in chosen):
        # Configuration in place is no evidence that anything runs: only workloads count, once it is there.
        chosen = [one for one in chosen if one.workload or one.state != TargetState.HEALTHY]
    return sorted(chosen, key=lambda one: (bool(one.workload), one.wave, one.environment.slug, one.pk))


def decide(row: Run, approved: Approved, targets: Sequence[RunTarget], at: datetime) -> WaveDecision:
    finished = [one.finished_at for one in targets if one.state == TargetState.HEALTHY and one.finished_at]
    wave = ObservedWave(
        number=row.wave,
        wave_count=len(approved.content.waves),
        targets=tuple(ObservedTarget(str(one), TargetState(one.state)) for one in targets),
        settled_at=max(finished, default=None),
        is_promoted=row.wave in row.data.get("promoted", []),
    )
    is_skipped = row.wave in row.data.get("skipped", [])
    return decide_wave(wave, policy=approved.wave_policy(row.wave, is_skipped=is_skipped), at=at)


def turn(targets: Sequence[RunTarget], opened: Sequence[str], calendar: Calendar) -> list[int]:
    """Return the pending targets whose turn it is: in their window, and after what their environment shares."""
    done = (TargetState.HEALTHY, TargetState.SKIPPED)
    unready = {one.environment_id for one in targets if not one.workload and one.state not in done}
    return [
        one.pk
        for one in targets
        if one.state == TargetState.PENDING
        and (not one.workload or one.environment_id not in unready)
        and checks.is_eligible(one, opened, calendar)
    ]


def progress(targets: Sequence[RunTarget], decision: WaveDecision, *, is_waiting: bool) -> str:
    healthy = sum(one.state == TargetState.HEALTHY for one in targets)
    moving = sum(checks.is_moving(one.state) for one in targets)
    if is_waiting and not moving:
        return f"{healthy} of {len(targets)} targets are healthy; the others wait for their own window."
    return f"{healthy} of {len(targets)} targets are healthy; {moving} on their way."


def next_wave(row: Run, approved: Approved) -> int:
    """Return the wave that a paused run would go on with."""
    is_done = (
        not row.targets.filter(wave__lte=row.wave)
        .exclude(state__in=[TargetState.HEALTHY, TargetState.SKIPPED])
        .exists()
    )
    return min(row.wave + 1, len(approved.content.waves) - 1) if is_done else row.wave


def environment_ids(row: Run) -> list[int]:
    return list(Environment.objects.filter(runtarget__run=row).values_list("pk", flat=True).distinct())
