"""What a rollout must not adopt, what it says it takes over, and what runs once."""

from __future__ import annotations

from typing import Any

import yaml

from changecontrol.models import GateResult
from changecontrol.ports import INVENTORY_LABEL
from deployments.rules.health import BRIEF_FOR
from tests.deployments.workflows.scene import GOOD, NEW, Scene
from tests.factories import submitted_change


def job(name: str, image: str = NEW) -> str:
    container = {
        "name": "migrate",
        "image": image,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False},
    }
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    return "---\n" + yaml.safe_dump({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec})


def submit(scene: Scene, **answers: Any) -> Any:
    asked = {"commit": "", "environments": ["production"], **answers}
    return scene.assess(submitted_change(scene.estate, at=scene.now(), **asked))


def settings(scene: Scene, *, label: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "odoo", "namespace": scene.estate.production.namespace}
    if label is not None:
        metadata["labels"] = {INVENTORY_LABEL: label}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"message": "hello"}}


def test_an_object_of_another_environment_fails_the_gate(scene: Scene) -> None:  # WIN-13
    scene.cluster.apply_as("somebody", settings(scene, label="another-place"))
    scene.commit(NEW)

    change = submit(scene)

    assert change.state == "draft"
    assert "belongs to another environment (changecontrol.io/environment: another-place)" in change.problem
    assert GateResult.objects.get(change=change, gate="dry_run").verdict == "fail"


def test_an_object_that_became_somebody_elses_since_is_not_adopted(scene: Scene) -> None:  # WIN-13
    scene.scheduled(NEW)
    scene.cluster.apply_as("somebody", settings(scene, label="another-place"), force=True)

    run = scene.until("paused", "rolled_back", "rollback_failed", "succeeded")

    assert run.state == "rolled_back", run.sentence
    assert "belongs to another environment" in run.data["cause"]
    assert scene.cluster.effects == []


def test_an_object_of_nobody_is_said_to_be_taken_over(scene: Scene) -> None:
    scene.cluster.apply_as("somebody", settings(scene, label=None))
    scene.commit(NEW)

    change = submit(scene)

    assert change.state == "authorize", change.problem
    said = GateResult.objects.get(change=change, gate="dry_run").sentence
    place = scene.estate.production.namespace
    assert said.endswith(
        "1 of them are there already, belong to no environment and will be taken over: "
        f"production: ConfigMap {place}/odoo."
    )


def test_workloads_wait_until_a_job_is_done(scene: Scene) -> None:
    scene.deployed(GOOD)
    scene.commit(NEW, extra=job("migrate-2"))
    scene.scheduled(NEW, before=None, commit=False)
    scene.cluster.job_ends = ""
    scene.until("running")
    scene.work(until=lambda: scene.target("").state == "updated")
    scene.work(until=lambda: "migrate-2: 0 of 1 completions." in scene.target("").sentence)

    assert set(scene.images().values()) == {GOOD}

    scene.cluster.job_ends = "Complete"
    assert scene.until("succeeded", "paused", "rolled_back").state == "succeeded"


def test_a_job_that_fails_is_a_failure_and_the_one_before_is_not_run_again(scene: Scene) -> None:  # RBK-4
    before = scene.commit(GOOD, extra=job("migrate-1", GOOD))
    scene.git.move(scene.estate.production.ref, before)
    scene.commit(NEW, extra=job("migrate-2"))
    scene.scheduled(NEW, before=None, commit=False)
    scene.cluster.job_ends = "Failed"

    run = scene.until("paused", "rolled_back", "rollback_failed", "succeeded")

    assert run.state == "rolled_back", run.sentence
    assert "migrate-2: it failed. It ended." in run.data["cause"]
    effects = [(effect.verb, effect.ref.name) for effect in scene.cluster.effects if effect.ref.kind == "Job"]
    assert effects == [("applied", "migrate-2"), ("deleted", "migrate-2")]


def test_a_registry_that_hiccups_costs_only_time(scene: Scene) -> None:
    scene.cluster.spoil_image(NEW, reason="ErrImagePull")
    scene.scheduled(NEW)
    scene.until("running")
    scene.work(until=lambda: "ErrImagePull" in scene.target("Deployment/odoo-pilot").sentence)
    scene.cluster.heal_image(NEW)

    assert scene.until("succeeded", "rolled_back", "paused").state == "succeeded"


def test_a_pull_that_goes_on_failing_is_a_failure_soon(scene: Scene) -> None:
    scene.cluster.spoil_image(NEW, reason="ErrImagePull")
    scene.scheduled(NEW, ready_within_seconds=600)

    run = scene.until("succeeded", "rolled_back", "paused")

    assert run.state == "rolled_back", run.sentence
    assert run.detected_at is not None
    assert run.started_at is not None
    assert BRIEF_FOR <= run.detected_at - run.started_at < 3 * BRIEF_FOR
