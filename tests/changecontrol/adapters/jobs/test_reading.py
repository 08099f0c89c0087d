"""How a Kubernetes Job fares, read from what the API reference says its objects hold."""

from __future__ import annotations

from typing import Any

import pytest

from changecontrol.adapters.jobs.reading import needs_warnings, sight_of
from changecontrol.ports import JobSight


def job(*conditions: tuple[str, str, str], **metadata: Any) -> dict[str, Any]:
    held = [{"type": kind, "status": "True", "reason": why, "message": words} for kind, why, words in conditions]
    return {"metadata": {"name": "j", **metadata}, "status": {"conditions": held}}


def pod(phase: str = "Running", *, state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    containers = [{"name": "job", "state": state}] if state else []
    return {"metadata": {"name": "p"}, "status": {"phase": phase, "containerStatuses": containers, **status}}


def waits(reason: str, message: str = "why") -> dict[str, Any]:
    return pod("Pending", state={"waiting": {"reason": reason, "message": message}})


FAILED = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
UNSCHEDULABLE = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
DRAINED = [
    {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
]
KILLED = {"terminated": {"exitCode": 137, "reason": "Error"}}

CASES: dict[str, tuple[dict[str, Any] | None, list[dict[str, Any]], JobSight]] = {
    "just made": (job(), [], JobSight()),
    "at work": (job(), [pod()], JobSight()),
    "pulling": (job(), [waits("ContainerCreating")], JobSight()),
    "no image": (
        job(),
        [waits("ErrImagePull", "not found")],
        JobSight(trouble="Its image cannot be pulled: not found."),
    ),
    "no Secret": (
        job(),
        [waits("CreateContainerConfigError", 'secret "s" not found')],
        JobSight(trouble='Its pod cannot start: secret "s" not found.'),
    ),
    "no node": (
        job(),
        [pod("Pending", conditions=UNSCHEDULABLE)],
        JobSight(trouble="No node takes its pod: 0/3 nodes are available."),
    ),
    "done": (job(("Complete", "", "")), [pod("Succeeded")], JobSight(is_over=True)),
    "done, and its pod was removed": (job(("Complete", "", "")), [], JobSight(is_over=True)),
    "done in a moment": (job(("SuccessCriteriaMet", "", "")), [pod("Succeeded")], JobSight()),
    "failed, and its pod still ends": (
        job(FAILED),
        [pod()],
        JobSight(is_failed=True, trouble="Its Kubernetes Job failed: Job has reached the specified backoff limit."),
    ),
    "failed in a moment": (
        job(("FailureTarget", "BackoffLimitExceeded", "limit")),
        [pod("Failed", state=KILLED)],
        JobSight(trouble="Its pod ended with code 137 (Error)."),
    ),
    "too late": (
        job(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")),
        [],
        JobSight(is_over=True, is_failed=True, trouble="It took longer than it may, and its pod was ended."),
    ),
    "drained": (
        job(FAILED),
        [pod("Failed", state=KILLED, conditions=DRAINED)],
        JobSight(is_over=True, is_failed=True, trouble="Its pod was ended by the cluster: Eviction API: evicting."),
    ),
    "failed without a word": (
        job(("Failed", "", "")),
        [],
        JobSight(is_over=True, is_failed=True, trouble="Its pod failed, and nothing says why."),
    ),
    "going": (job(deletionTimestamp="2026-11-23T12:00:00Z"), [pod()], JobSight(is_leaving=True)),
    "orphaned, at work": (None, [pod()], JobSight()),
    "orphaned, ended": (None, [pod("Succeeded")], JobSight(is_over=True)),
    "orphaned, failed": (
        None,
        [pod("Failed", state=KILLED)],
        JobSight(is_over=True, is_failed=True, trouble="Its pod ended with code 137 (Error)."),
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_what_a_job_comes_to_is_read_from_its_conditions_and_pods(case: str) -> None:
    found, pods, sight = CASES[case]

    assert sight_of(found, pods) == sight


def test_events_are_asked_for_only_where_nothing_else_tells_why_it_waits() -> None:
    asked = {
        case: (needs_warnings(found, pods, sight) or {}).get("metadata", {}).get("name")
        for case, (found, pods, sight) in CASES.items()
    }

    assert {case: name for case, name in asked.items() if name} == {"just made": "j", "pulling": "p"}


def test_the_newest_warning_is_told_and_a_secret_in_it_is_not() -> None:
    sight = sight_of(job(), [], warnings=["Old: one", "FailedCreate: exceeded quota, password=hunter2hunter2"])

    assert sight.trouble.startswith("Its pod does not begin: FailedCreate: exceeded quota")
    assert "hunter2" not in sight.trouble
