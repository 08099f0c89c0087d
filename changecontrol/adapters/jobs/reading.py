"""Reads from raw objects how a Kubernetes Job fares, and says what is wrong with it in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from changecontrol.adapters.kubernetes.pods import conditions_of, short, states_of, why_it_waits
from changecontrol.ports import JobSight

Json = Mapping[str, Any]


def sight_of(job: Json | None, pods: Sequence[Json], *, warnings: Sequence[str] = ()) -> JobSight:
    """Return how a Job fares, with its pods; pods without a Job were orphaned. `warnings` are of its events."""
    conditions = _conditions(job)
    has_ended = job is None or "Complete" in conditions or "Failed" in conditions
    # A Job may count as failed while its pod still ends.
    is_over = has_ended and all(map(_has_ended, pods))
    is_failed = "Failed" in conditions or (job is None and any(_phase(pod) == "Failed" for pod in pods))
    trouble = ""
    if is_failed or "FailureTarget" in conditions:
        trouble = _why_it_failed(conditions, pods)
    elif not is_over and "Complete" not in conditions:
        trouble = why_it_waits(pods) or _last(warnings)
    return JobSight(
        is_over=is_over,
        is_failed=is_failed,
        is_leaving=all("deletionTimestamp" in one["metadata"] for one in ([job] if job is not None else pods)),
        trouble=trouble,
    )


def needs_warnings(job: Json | None, pods: Sequence[Json], sight: JobSight) -> Json | None:
    """Return the object whose events tell why nothing begins: the Job without a pod, or the pod that does not start."""
    if job is None or sight.is_over or sight.trouble or _conditions(job):
        return None
    if not pods:
        return job
    return next((pod for pod in pods if _phase(pod) == "Pending"), None)


def _why_it_failed(conditions: Mapping[str, Json], pods: Sequence[Json]) -> str:
    failed = conditions.get("Failed") or conditions.get("FailureTarget") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return "It took longer than it may, and its pod was ended."
    for pod in pods:
        if sentence := _why_a_pod_failed(pod):
            return sentence
    if failed.get("message"):
        return f"Its Kubernetes Job failed: {short(failed['message'])}"
    return "Its pod failed, and nothing says why."


def _why_a_pod_failed(pod: Json) -> str:
    status = pod.get("status") or {}
    disrupted = _conditions(pod).get("DisruptionTarget")
    if status.get("reason") == "Evicted":
        return f"Its pod was evicted: {short(status.get('message'))}"
    for state in states_of(pod):
        ended = state.get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return "Its pod took more memory than it may, and was ended (JOB_MEMORY_MIB)."
        if ended.get("exitCode") and disrupted is None:
            return f"Its pod ended with code {ended['exitCode']} ({ended.get('reason') or 'no reason given'})."
    if disrupted is not None:
        return f"Its pod was ended by the cluster: {short(disrupted.get('message') or disrupted.get('reason'))}"
    return ""


def _last(warnings: Sequence[str]) -> str:
    return f"Its pod does not begin: {short(warnings[-1])}" if warnings else ""


def _conditions(item: Json | None) -> dict[str, Json]:
    """Return the conditions that hold, by type."""
    return {str(one.get("type")): one for one in conditions_of(item) if one.get("status") == "True"}


def _phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase", ""))


def _has_ended(pod: Json) -> bool:
    return _phase(pod) in ("Succeeded", "Failed")
