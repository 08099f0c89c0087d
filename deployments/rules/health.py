"""Is a workload healthy on what this run applied? Only the new generation running the planned digest is evidence."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from changecontrol.ports import WorkloadStatus
from deployments.rules.images import digest_in


class Health(StrEnum):
    HEALTHY = "healthy"
    PROGRESSING = "progressing"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class WorkloadHealth:
    """`reason` is a word for programs (`CrashLoopBackOff`, `replicas`, …); it is empty where all is well."""

    health: Health
    reason: str
    sentence: str


STUCK_REASONS = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Pod problems that time does not mend. `Unschedulable` is not among them: a node may come."""


def judge_workload(status: WorkloadStatus, *, applied_generation: int, planned_digests: Set[str]) -> WorkloadHealth:
    """Judge one workload. `planned_digests` are the `sha256:…` of its pod template; empty where it pins none."""
    name = str(status.ref)
    # Until the newest generation is observed, every count is of an older one, and may look healthy.
    if status.observed_generation < max(applied_generation, status.generation):
        return _progressing("generation", f"{name}: the cluster has not seen the new version yet.")
    for problem in status.problems:
        if problem.reason in STUCK_REASONS:
            sentence = f"{problem.pod}: {problem.reason}. {problem.message}".strip()
            return WorkloadHealth(Health.STUCK, problem.reason, sentence)
    if status.is_deadline_exceeded:
        return WorkloadHealth(Health.STUCK, "ProgressDeadlineExceeded", f"{name}: {status.message or 'no progress'}")
    desired = status.desired_count
    counts = (("updated", status.updated_count), ("ready", status.ready_count), ("available", status.available_count))
    for word, count in counts:
        if count < desired:
            return _progressing("replicas", f"{name}: {count} of {desired} replicas are {word}.")
    if status.total_count > desired:
        old = status.total_count - desired
        return _progressing("old_replicas", f"{name}: {old} old replicas still run.")
    running = {digest_in(image) for image in status.image_ids} - {""}
    missing = planned_digests - running
    if desired and missing:
        return _progressing("digest", f"{name}: no pod runs {sorted(missing)[0]} yet.")
    return WorkloadHealth(Health.HEALTHY, "", f"{name}: {desired} of {desired} replicas run the new version.")


def judge_target(
    workloads: Iterable[WorkloadHealth], *, updated_at: datetime, deadline: timedelta, at: datetime
) -> WorkloadHealth:
    """Judge a target by its worst workload. Not healthy by the deadline is stuck; no workload is no evidence."""
    judged = tuple(workloads)
    stuck = next((one for one in judged if one.health is Health.STUCK), None)
    if stuck is not None:
        return stuck
    slow = next((one for one in judged if one.health is Health.PROGRESSING), None)
    if slow is None and judged:
        return WorkloadHealth(Health.HEALTHY, "", f"All {len(judged)} workloads run the new version.")
    slow = slow or _progressing("no_workloads", "None of its workloads was found.")
    if at >= updated_at + deadline:
        minutes = round(deadline.total_seconds() / 60)
        return WorkloadHealth(Health.STUCK, "deadline", f"Not healthy within {minutes} min. {slow.sentence}")
    return slow


def _progressing(reason: str, sentence: str) -> WorkloadHealth:
    return WorkloadHealth(Health.PROGRESSING, reason, sentence)
