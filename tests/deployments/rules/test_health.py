from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from changecontrol.ports import ObjectRef, PodProblem, WorkloadStatus
from deployments.rules.health import (
    BRIEF_FOR,
    BRIEF_REASONS,
    STUCK_REASONS,
    Health,
    WorkloadHealth,
    judge_job,
    judge_lasting,
    judge_target,
    judge_workload,
    since_when,
)

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


@pytest.mark.parametrize("reason", sorted(BRIEF_REASONS))
def test_what_is_tried_again_at_once_fails_only_where_it_lasts(reason: str) -> None:
    found = judge(replace(GOOD, ready_count=1, problems=(PodProblem("web-1", reason, "timeout"),)))
    first = since_when(found, known=None, at=NOW)
    later = since_when(found, known=first, at=NOW + timedelta(seconds=5))

    assert (found.health, found.reason) == (Health.PROGRESSING, reason)
    assert found.sentence == f"Deployment acme/web: 1 of 2 replicas are ready. web-1: {reason}. timeout"
    assert first == later == (reason, NOW)
    assert judge_lasting(found, known=None, at=NOW + BRIEF_FOR) == found
    assert judge_lasting(found, known=later, at=NOW + BRIEF_FOR - timedelta(seconds=1)) == found
    assert judge_lasting(found, known=later, at=NOW + BRIEF_FOR) == replace(found, health=Health.STUCK)


def test_a_hiccup_that_passed_is_forgotten() -> None:
    well = judge(replace(GOOD, ready_count=1))

    assert since_when(well, known=("ErrImagePull", NOW), at=NOW) is None
    assert judge_lasting(well, known=("ErrImagePull", NOW), at=NOW + BRIEF_FOR) == well


def test_why_a_pod_waits_stands_in_the_sentence() -> None:
    waiting = (PodProblem("web-1", "Unschedulable", "0/3 nodes are available: insufficient cpu."),)

    health = judge(replace(GOOD, updated_count=1, problems=waiting))

    assert health.sentence == (
        "Deployment acme/web: 1 of 2 replicas are updated. web-1: Unschedulable. 0/3 nodes are available: "
        "insufficient cpu."
    )


def test_a_paused_deployment_says_why_nothing_happens() -> None:
    health = judge(replace(GOOD, updated_count=0, is_paused=True))

    assert (health.health, health.reason) == (Health.PROGRESSING, "paused")
    assert judge(replace(GOOD, is_paused=True)).health is Health.HEALTHY


def test_pods_an_autoscaler_takes_away_are_not_of_the_version_before() -> None:
    assert judge(replace(GOOD, updated_count=4, total_count=4)).health is Health.HEALTHY


STATEFUL = replace(GOOD, ref=ObjectRef("apps/v1", "StatefulSet", "acme", "db"), desired_count=3, ready_count=3)


@pytest.mark.parametrize(
    ("change", "health", "reason"),
    [
        ({"updated_count": 3}, Health.HEALTHY, ""),
        ({"updated_count": 2}, Health.PROGRESSING, "replicas"),
        ({"updated_count": 2, "held_count": 1}, Health.HEALTHY, ""),
        ({"updated_count": 1, "held_count": 1}, Health.PROGRESSING, "replicas"),
        ({"updated_count": 2, "held_count": 1, "ready_count": 2}, Health.PROGRESSING, "replicas"),
        ({"updated_count": 0, "held_count": 3}, Health.PROGRESSING, "partition"),  # RUN-2
        ({"updated_count": 0, "is_on_delete": True}, Health.PROGRESSING, "on_delete"),
        ({"updated_count": 3, "is_on_delete": True}, Health.HEALTHY, ""),
        ({"updated_count": 3, "total_count": 4}, Health.PROGRESSING, "old_replicas"),
    ],
)
def test_stateful_set_is_judged_by_what_its_strategy_updates(
    change: dict[str, object], health: Health, reason: str
) -> None:
    found = judge(replace(STATEFUL, **{"available_count": 3, "total_count": 3, **change}))  # type: ignore[arg-type]

    assert (found.health, found.reason) == (health, reason)


def test_daemon_set_that_belongs_on_no_node_is_healthy_once_that_is_current() -> None:
    ref = ObjectRef("apps/v1", "DaemonSet", "acme", "agent")
    none = replace(
        GOOD, ref=ref, desired_count=0, updated_count=0, ready_count=0, available_count=0, total_count=0, image_ids=()
    )

    assert judge(none).health is Health.HEALTHY
    assert judge(replace(none, observed_generation=2)).reason == "generation"


JOB = ObjectRef("batch/v1", "Job", "acme", "migrate")


def job(*conditions: dict[str, str], **spec: object) -> dict[str, object]:
    return {"spec": spec, "status": {"conditions": list(conditions), "succeeded": 1}}


@pytest.mark.parametrize(
    ("live", "is_short_lived", "health", "sentence"),
    [
        (job({"type": "Complete", "status": "True"}), False, Health.HEALTHY, "done."),
        (job({"type": "Complete", "status": "False"}, completions=2), False, Health.PROGRESSING, "1 of 2 completions."),
        (
            job({"type": "FailureTarget", "status": "True", "message": "Too many failures."}),
            False,
            Health.STUCK,
            "it failed. Too many failures.",
        ),
        (
            job({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}),
            False,
            Health.STUCK,
            "it failed. BackoffLimitExceeded",
        ),
        (job(suspend=True), False, Health.PROGRESSING, "it is suspended, so nothing of it runs."),
        (None, True, Health.HEALTHY, "done, and removed since."),
        (None, False, Health.PROGRESSING, "it is gone."),
    ],
)
def test_job_is_judged_by_its_conditions(
    live: dict[str, object] | None, is_short_lived: bool, health: Health, sentence: str
) -> None:
    found = judge_job(JOB, live, is_short_lived=is_short_lived)

    assert (found.health, found.sentence) == (health, f"Job acme/migrate: {sentence}")


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
