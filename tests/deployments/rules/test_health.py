from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.ports import ObjectRef, PodProblem, WorkloadStatus
from deployments.rules.health import STUCK_REASONS, Health, WorkloadHealth, judge_target, judge_workload

NOW = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64
OLD = "sha256:" + "b" * 64
GOOD = WorkloadStatus(
    ref=ObjectRef("apps/v1", "Deployment", "acme", "web"),
    uid="1",
    generation=3,
    observed_generation=3,
    desired_count=2,
    updated_count=2,
    ready_count=2,
    available_count=2,
    total_count=2,
    is_deadline_exceeded=False,
    message="",
    image_ids=(f"registry.example/odoo@{DIGEST}",),
)


def judge(status: WorkloadStatus) -> WorkloadHealth:
    return judge_workload(status, applied_generation=3, planned_digests={DIGEST})


def test_workload_that_runs_the_new_version_is_healthy() -> None:
    assert judge(GOOD) == WorkloadHealth(
        Health.HEALTHY, "", "Deployment acme/web: 2 of 2 replicas run the new version."
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"observed_generation": 2}, "generation"),  # RUN-2
        ({"updated_count": 1}, "replicas"),
        ({"ready_count": 1}, "replicas"),
        ({"available_count": 1}, "replicas"),
        ({"total_count": 3}, "old_replicas"),
        ({"image_ids": (f"odoo@{OLD}",)}, "digest"),  # RUN-2
        ({"image_ids": ("odoo:19",)}, "digest"),
        ({"image_ids": ()}, "digest"),
        ({"problems": (PodProblem("web-1", "Unschedulable", "no node"),), "ready_count": 1}, "replicas"),
    ],
)
def test_workload_on_its_way_is_not_healthy(change: dict[str, object], reason: str) -> None:
    health = judge(replace(GOOD, **change))  # type: ignore[arg-type]

    assert (health.health, health.reason) == (Health.PROGRESSING, reason)


@pytest.mark.parametrize("reason", sorted(STUCK_REASONS))
def test_pod_that_time_does_not_mend_is_stuck(reason: str) -> None:
    health = judge(replace(GOOD, ready_count=1, problems=(PodProblem("web-1", reason, "not found"),)))

    assert health == WorkloadHealth(Health.STUCK, reason, f"web-1: {reason}. not found")


def test_exceeded_deadline_is_stuck() -> None:
    assert judge(replace(GOOD, ready_count=1, is_deadline_exceeded=True)).reason == "ProgressDeadlineExceeded"


def test_problems_of_the_version_before_are_not_blamed_on_the_new_one() -> None:
    crashing = (PodProblem("web-1", "CrashLoopBackOff", ""),)

    assert judge(replace(GOOD, observed_generation=2, problems=crashing)).health is Health.PROGRESSING


def test_workload_scaled_to_nothing_needs_no_pod() -> None:
    none = replace(
        GOOD, desired_count=0, updated_count=0, ready_count=0, available_count=0, total_count=0, image_ids=()
    )

    assert judge(none).health is Health.HEALTHY


HEALTHY = WorkloadHealth(Health.HEALTHY, "", "")
SLOW = WorkloadHealth(Health.PROGRESSING, "replicas", "1 of 2.")
STUCK = WorkloadHealth(Health.STUCK, "CrashLoopBackOff", "web-1 crashes.")


@pytest.mark.parametrize(
    ("workloads", "minutes", "health", "reason"),
    [
        ([HEALTHY, HEALTHY], 99, Health.HEALTHY, ""),
        ([HEALTHY, SLOW], 9, Health.PROGRESSING, "replicas"),
        ([HEALTHY, SLOW], 10, Health.STUCK, "deadline"),
        ([SLOW, STUCK], 0, Health.STUCK, "CrashLoopBackOff"),
        ([], 9, Health.PROGRESSING, "no_workloads"),
        ([], 10, Health.STUCK, "deadline"),
    ],
)
def test_target_is_as_healthy_as_its_worst_workload(
    workloads: list[WorkloadHealth], minutes: int, health: Health, reason: str
) -> None:
    judged = judge_target(
        workloads, updated_at=NOW - timedelta(minutes=minutes), deadline=timedelta(minutes=10), at=NOW
    )

    assert (judged.health, judged.reason) == (health, reason)


def test_a_generation_nobody_has_observed_yet_is_no_evidence() -> None:  # RUN-2
    health = judge(replace(GOOD, generation=4))

    assert (health.health, health.reason) == (Health.PROGRESSING, "generation")
