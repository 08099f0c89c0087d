"""What a rollout must not adopt, what it says it takes over, and what runs once."""

from __future__ import annotations

from typing import Any

import yaml

from changecontrol.models import GateResult
from changecontrol.ports import INVENTORY_LABEL, Right
from deployments.rules.health import BRIEF_FOR
from tests.deployments.workflows.scene import BAD, GOOD, NEW, Scene
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
        "1 of them is there already, belongs to no environment and will be taken over: "
        f"production: ConfigMap {place}/odoo."
    )


def test_an_object_of_nobody_that_the_plan_names_is_taken_over(scene: Scene) -> None:
    scene.cluster.apply_as("somebody", {**settings(scene, label=None), "data": {}})

    change = scene.scheduled(NEW, before=None)

    said = next(one for one in change.plan.content["gates"] if one["gate"] == "dry_run")
    assert said["taken_over"] == [f"production: ConfigMap {scene.estate.production.namespace}/odoo"]
    assert scene.until("paused", "rolled_back", "rollback_failed", "succeeded").state == "succeeded"


def test_an_object_of_nobody_that_appeared_since_is_refused(scene: Scene) -> None:  # APR-9
    scene.scheduled(NEW, before=None)
    scene.cluster.apply_as("somebody", {**settings(scene, label=None), "data": {}})

    run = scene.until("paused", "rolled_back", "rollback_failed", "succeeded")

    assert run.state == "rolled_back", run.sentence
    assert "appeared since the plan was approved" in run.data["cause"]
    assert scene.cluster.effects == []


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


def cluster_role(name: str = "counting", *, label: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"labels": {INVENTORY_LABEL: label}} if label else {})}
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    return {**kind, "metadata": metadata, "rules": [rule]}


def with_cluster_role(scene: Scene, *, image: str = NEW) -> None:
    scene.estate.production.cluster_scoped_kinds = ["ClusterRole"]
    scene.estate.production.save()
    scene.deployed(GOOD)
    path = f"{scene.estate.production.path}/role.yaml"
    scene.commit(image)
    scene.git.commit({path: yaml.safe_dump(cluster_role())})


def test_rights_for_what_a_cluster_shares_are_asked_of_the_cluster(scene: Scene) -> None:
    with_cluster_role(scene)
    scene.cluster.lacking.add(Right("create", "rbac.authorization.k8s.io", "clusterroles"))

    change = submit(scene)

    assert "production: the executor may not create clusterroles." in change.problem
    asked = [call.words["namespace"] for call in scene.cluster.script.calls if call.verb == "observe_rights"]
    assert set(asked) == {"", scene.estate.production.namespace}


def test_what_a_cluster_shares_of_another_environment_fails_the_gate(scene: Scene) -> None:  # WIN-13
    with_cluster_role(scene)
    scene.cluster.apply_as("somebody", cluster_role(label="another-place"))

    change = submit(scene)

    assert "belongs to another environment (changecontrol.io/environment: another-place)" in change.problem


def test_what_a_cluster_shares_is_not_deleted_on_the_way_back(scene: Scene) -> None:
    scene.cluster.spoil_image(BAD)
    with_cluster_role(scene, image=BAD)
    scene.scheduled(before=None, commit=False)

    run = scene.until("paused", "rolled_back", "rollback_failed", "succeeded")

    assert run.state == "rolled_back", run.sentence
    effects = [(effect.verb, effect.ref.name) for effect in scene.cluster.effects if effect.ref.kind == "ClusterRole"]
    assert effects == [("applied", "counting")]
