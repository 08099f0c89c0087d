"""Is a workload healthy on what this run applied? Only the new generation running the planned digest is evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from changecontrol.ports import RESTARTS_TOO_OFTEN, ObjectRef, PodProblem, WorkloadStatus
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
        "InvalidImageName",
        "ErrImageNeverPull",
        "SignatureValidationFailed",
        "CrashLoopBackOff",
        RESTARTS_TOO_OFTEN,
        "CreateContainerConfigError",
    }
)
"""Pod problems that time does not mend. `Unschedulable` is not among them: a node may come."""

BRIEF_REASONS = frozenset(
    {"ErrImagePull", "RegistryUnavailable", "ImageInspectError", "CreateContainerError", "RunContainerError"}
)
"""Pod problems that are tried again at once, as a registry's hiccup is. They count where they last."""

BRIEF_FOR = timedelta(seconds=45)
"""The kubelet backs off from 10 s on, so what persists is a problem of the other kind well before."""


def judge_workload(status: WorkloadStatus, *, applied_generation: int, planned_digests: Set[str]) -> WorkloadHealth:
    """Judge one workload as `kubectl rollout status` does, and by its pods besides (RUN-2).

    `planned_digests` are the `sha256:…` of its pod template; empty where it pins none.
    """
    name = str(status.ref)
    # Until the newest generation is observed, every count is of an older one, and may look healthy.
    if status.observed_generation < max(applied_generation, status.generation):
        return _progressing("generation", f"{name}: the cluster has not seen the new version yet.")
    for problem in status.problems:
        if problem.reason in STUCK_REASONS:
            return WorkloadHealth(Health.STUCK, problem.reason, _of_pod(problem))
    if status.is_deadline_exceeded:
        return WorkloadHealth(Health.STUCK, "ProgressDeadlineExceeded", f"{name}: {status.message or 'no progress'}")
    slow = _shortfall(status)
    if slow is not None:
        brief = next((one for one in status.problems if one.reason in BRIEF_REASONS), None)
        first = brief if brief is not None else next(iter(status.problems), None)
        why = f" {_of_pod(first)}" if first is not None else ""
        return _progressing(slow[0] if brief is None else brief.reason, f"{name}: {slow[1]}{why}")
    running = {digest_in(image) for image in status.image_ids} - {""}
    missing = planned_digests - running
    desired = status.desired_count
    if desired and missing:
        return _progressing("digest", f"{name}: no pod runs {sorted(missing)[0]} yet.")
    held = f" Its partition keeps {status.held_count} on the version before." if status.held_count else ""
    said = f"{name}: {desired - status.held_count} of {desired} replicas run the new version.{held}"
    return WorkloadHealth(Health.HEALTHY, "", said)


def judge_job(ref: ObjectRef, live: Mapping[str, Any] | None, *, is_short_lived: bool) -> WorkloadHealth:
    """Judge a Job by its conditions. One that removes itself once done (`ttlSecondsAfterFinished`) may be gone."""
    if live is None:
        if is_short_lived:
            return WorkloadHealth(Health.HEALTHY, "", f"{ref}: done, and removed since.")
        return _progressing("gone", f"{ref}: it is gone.")
    spec, status = live.get("spec") or {}, live.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or () if one.get("status") == "True"}
    if "Complete" in conditions:
        return WorkloadHealth(Health.HEALTHY, "", f"{ref}: done.")
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    if failed is not None:
        sentence = f"{ref}: it failed. {failed.get('message') or failed.get('reason') or ''}".strip()
        return WorkloadHealth(Health.STUCK, "JobFailed", sentence)
    if spec.get("suspend") is True:
        return _progressing("suspended", f"{ref}: it is suspended, so nothing of it runs.")
    wanted = spec.get("completions") or 1
    return _progressing("job", f"{ref}: {int(status.get('succeeded') or 0)} of {wanted} completions.")


def since_when(
    found: WorkloadHealth, *, known: tuple[str, datetime] | None, at: datetime
) -> tuple[str, datetime] | None:
    """Return which brief problem is there and since when, or None. `known` is what the last look said."""
    if found.reason not in BRIEF_REASONS:
        return None
    return known if known is not None and known[0] == found.reason else (found.reason, at)


def judge_lasting(found: WorkloadHealth, *, known: tuple[str, datetime] | None, at: datetime) -> WorkloadHealth:
    """Call stuck what should have passed by itself, and has not for `BRIEF_FOR`."""
    is_lasting = known is not None and known[0] == found.reason and at >= known[1] + BRIEF_FOR
    return replace(found, health=Health.STUCK) if is_lasting else found


def judge_target(
    workloads: Iterable[WorkloadHealth], *, updated_at: datetime, deadline: timedelta, at: datetime
) -> WorkloadHealth:
    """Judge a target by its worst workload. Not healthy by the deadline is stuck; no workload is no evidence."""
    judged = tuple(workloads)
    stuck = next((one for one in judged if one.health is Health.STUCK), None)
    if stuck is not None:
        return stuck
    waiting = [one for one in judged if one.health is Health.PROGRESSING]
    slow = next((one for one in waiting if one.reason in BRIEF_REASONS), next(iter(waiting), None))
    if slow is None and judged:
        return WorkloadHealth(Health.HEALTHY, "", f"All {len(judged)} workloads run the new version.")
    slow = slow or _progressing("no_workloads", "None of its workloads was found.")
    if at >= updated_at + deadline:
        minutes = round(deadline.total_seconds() / 60)
        return WorkloadHealth(Health.STUCK, "deadline", f"Not healthy within {minutes} min. {slow.sentence}")
    return slow


def _shortfall(status: WorkloadStatus) -> tuple[str, str] | None:
    """Say what the counts still lack: a word for programs, and a sentence."""
    desired, wanted = status.desired_count, status.desired_count - status.held_count
    if desired and not wanted:
        return "partition", f"its partition keeps all {desired} replicas on the version before."
    if status.updated_count < wanted:
        said = f"{status.updated_count} of {wanted} replicas are updated."
        if status.is_paused:
            return "paused", f"{said} It is paused, so the cluster rolls nothing out: resume it."
        if status.is_on_delete:
            return "on_delete", f"{said} Its strategy is OnDelete: a pod is updated once somebody deletes it."
        return "replicas", said
    for word, count in (("ready", status.ready_count), ("available", status.available_count)):
        if count < desired:
            return "replicas", f"{count} of {desired} replicas are {word}."
    # A Deployment may have more than it wants while an autoscaler takes some away; those of the version before count.
    kept = status.updated_count if status.ref.kind == "Deployment" else desired
    if status.total_count > kept:
        return "old_replicas", f"{status.total_count - kept} old replicas still run."
    return None


def _of_pod(problem: PodProblem) -> str:
    where = f"{problem.pod}: " if problem.pod else ""
    return f"{where}{problem.reason}. {problem.message}".strip()


def _progressing(reason: str, sentence: str) -> WorkloadHealth:
    return WorkloadHealth(Health.PROGRESSING, reason, sentence)
