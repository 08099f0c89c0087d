"""Looks once more at workloads that were healthy: a stale “healthy” is no evidence (RUN-2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from changecontrol.lifecycles.run import TargetState
from changecontrol.models import Run, RunTarget
from deployments.approved import Approved
from deployments.rendering import Manifests, manifests_at
from deployments.rules.health import Health, judge_workload
from deployments.workflows.looking import digests_of, workloads_of_all


def sick_targets(row: Run, approved: Approved, targets: Sequence[RunTarget], *, at: datetime) -> dict[int, str]:
    """Return those healthy targets that no longer are, with the reason. A short dip is not a failure: only what is
    stuck, gone, or no longer on the planned generation and digest counts."""
    found: dict[int, str] = {}
    by_environment: dict[int, list[RunTarget]] = {}
    for one in targets:
        if one.state == TargetState.HEALTHY and one.workload:
            by_environment.setdefault(one.environment_id, []).append(one)
    looks = workloads_of_all([group[0].environment for group in by_environment.values()])
    for group in by_environment.values():
        environment = group[0].environment
        statuses = looks[environment.pk]
        manifests: Manifests = manifests_at(environment, approved.commit)
        for target in group:
            for workload in manifests.of(target.workload):
                status = statuses.get(workload.ref)
                if status is None:
                    found[target.pk] = f"{target}: it is gone."
                    continue
                generation = next(
                    (int(e.get("generation") or 0) for e in target.applied if e.get("ref") == str(workload.ref)), 0
                )
                health = judge_workload(status, applied_generation=generation, planned_digests=digests_of(workload))
                if health.health is Health.STUCK or health.reason == "digest":
                    found[target.pk] = f"{target}: healthy before, and no longer. {health.sentence}"
    return found
