"""What happens after a write, with time: rollouts good and bad, jobs, stateful sets, daemon sets, ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deployments.practice.behaviour import ANNOTATION
from tests.deployments.practice.conftest import Rehearsal

DIGEST = "sha256:" + "ab" * 32


def _condition(body: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in body["status"]["conditions"] if entry["type"] == name)


def _waiting(pod: dict[str, Any]) -> str:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))


def test_good_release_becomes_available_and_runs_the_pinned_digest(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment(image=f"registry.example/odoo:19.0-1@{DIGEST}"))

    body = rehearsal.settled()

    assert _condition(body, "Available")["status"] == "True"
    assert _condition(body, "Progressing")["reason"] == "NewReplicaSetAvailable"
    image_ids = {pod["status"]["containerStatuses"][0]["imageID"] for pod in rehearsal.pods()}
    assert image_ids == {f"registry.example/odoo@{DIGEST}"}


def test_rolling_update_keeps_as_many_available_as_it_must(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment(replicas=4))
    version = rehearsal.settled()["metadata"]["resourceVersion"]

    rehearsal.apply(rehearsal.deployment(replicas=4, image="registry.example/odoo:19.0-2"))
    rehearsal.settled()
    lines = rehearsal.client.ask(
        "GET", rehearsal.path("deployments"), watch="1", resourceVersion=version, timeoutSeconds="1"
    ).body.splitlines()

    statuses = [json.loads(line)["object"]["status"] for line in lines]
    assert min(status["availableReplicas"] for status in statuses) >= 3
    assert max(status["replicas"] for status in statuses) <= 5
    assert statuses[-1]["updatedReplicas"] == 4


def test_bad_image_never_becomes_ready_and_names_the_reason(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()

    rehearsal.apply(
        rehearsal.deployment(image="registry.example/odoo:19.0-2-bad", progressDeadlineSeconds=20), force="true"
    )
    rehearsal.until_pods(lambda pods: any(_waiting(pod) == "ImagePullBackOff" for pod in pods))
    stuck = rehearsal.client.until(
        rehearsal.path("deployments", "odoo"),
        lambda answer: _condition(answer.body, "Progressing")["reason"] == "ProgressDeadlineExceeded",
    ).body

    assert _condition(stuck, "Progressing")["status"] == "False"
    assert (stuck["status"]["updatedReplicas"], stuck["status"]["availableReplicas"]) == (1, 2)


def test_applying_the_previous_content_rolls_back(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()
    rehearsal.apply(rehearsal.deployment(image="registry.example/odoo:19.0-2-bad"))
    rehearsal.until_pods(lambda pods: any(_waiting(pod) for pod in pods))

    rehearsal.apply(rehearsal.deployment())
    body = rehearsal.settled()

    assert body["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    images = {
        pod["spec"]["containers"][0]["image"] for pod in rehearsal.pods() if "deletionTimestamp" not in pod["metadata"]
    }
    assert images == {"registry.example/odoo:19.0-1"}


def test_crash_loop_restarts_and_never_becomes_ready(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment(image="registry.example/odoo:19.0-crash"))

    pods = rehearsal.until_pods(
        lambda pods: (
            bool(pods)
            and all(
                _waiting(pod) == "CrashLoopBackOff" and pod["status"]["containerStatuses"][0]["restartCount"] > 0
                for pod in pods
            )
        )
    )

    assert not any(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)
    assert pods[0]["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1


def test_annotation_of_the_template_decides_too(rehearsal: Rehearsal) -> None:
    manifest = rehearsal.deployment()
    manifest["spec"]["template"]["metadata"]["annotations"] = {ANNOTATION: "never-ready"}
    rehearsal.apply(manifest)

    pods = rehearsal.until_pods(lambda pods: bool(pods) and all(pod["status"]["phase"] == "Running" for pod in pods))

    assert not any(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)


@pytest.mark.parametrize("command, wanted", [(["click-odoo-update"], "Complete"), (["sh", "-c", "exit 1"], "Failed")])
def test_job_ends_as_its_command_does(rehearsal: Rehearsal, command: list[str], wanted: str) -> None:
    container = {"name": "migrate", "image": "registry.example/odoo:19.0-1", "command": command}
    spec = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    rehearsal.client.ask(
        "POST", rehearsal.path("jobs", group="batch/v1"), {"metadata": {"name": "migrate"}, "spec": spec}
    )

    body = rehearsal.client.until(
        rehearsal.path("jobs", "migrate", group="batch/v1"),
        lambda answer: any(
            entry["type"] in ("Complete", "Failed") for entry in answer.body["status"].get("conditions", ())
        ),
    ).body

    assert _condition(body, wanted)["status"] == "True"


def test_finished_job_is_removed_when_its_time_to_live_is_over(rehearsal: Rehearsal) -> None:
    container = {"name": "migrate", "image": "registry.example/odoo:19.0-1"}
    spec = {"ttlSecondsAfterFinished": 5, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    rehearsal.client.ask(
        "POST", rehearsal.path("jobs", group="batch/v1"), {"metadata": {"name": "short"}, "spec": spec}
    )

    path = rehearsal.path("jobs", "short", group="batch/v1")
    assert rehearsal.client.until(path, lambda answer: answer.status == 404).status == 404


def test_stateful_set_starts_in_order_and_updates_from_the_top(rehearsal: Rehearsal) -> None:
    manifest = rehearsal.deployment("db", replicas=3)
    manifest |= {"kind": "StatefulSet"}
    path = rehearsal.path("statefulsets", "db")
    rehearsal.client.apply(path, manifest)

    def done() -> dict[str, Any]:
        body: dict[str, Any] = rehearsal.client.until(
            path,
            lambda answer: (
                answer.body["status"].get("readyReplicas") == 3
                and answer.body["status"].get("updatedReplicas") == 3
                and answer.body["status"]["currentRevision"] == answer.body["status"]["updateRevision"]
                and answer.body["status"]["observedGeneration"] == answer.body["metadata"]["generation"]
            ),
        ).body
        return body

    first = done()
    assert sorted(pod["metadata"]["name"] for pod in rehearsal.pods()) == ["db-0", "db-1", "db-2"]
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/odoo:19.0-2"
    rehearsal.client.apply(path, manifest)
    second = done()

    assert first["status"]["currentRevision"] != second["status"]["currentRevision"]
    assert {pod["spec"]["containers"][0]["image"] for pod in rehearsal.pods()} == {"registry.example/odoo:19.0-2"}


def test_daemon_set_runs_on_every_node(rehearsal: Rehearsal) -> None:
    manifest = rehearsal.deployment("agent")
    manifest |= {"kind": "DaemonSet"}
    del manifest["spec"]["replicas"]
    path = rehearsal.path("daemonsets", "agent")
    rehearsal.client.apply(path, manifest)

    body = rehearsal.client.until(path, lambda answer: answer.body.get("status", {}).get("numberReady") == 3).body

    assert body["status"]["desiredNumberScheduled"] == 3
    assert {pod["spec"]["nodeName"] for pod in rehearsal.pods()} == {"node-1", "node-2", "node-3"}


def test_deleting_in_the_background_takes_dependents_after_the_owner(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()

    answer = rehearsal.client.ask("DELETE", rehearsal.path("deployments", "odoo"))

    assert answer.body["status"] == "Success"
    rehearsal.until_pods(lambda pods: not pods)
    assert rehearsal.client.ask("GET", rehearsal.path("replicasets")).body["items"] == []


def test_orphaned_dependents_stay(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()

    rehearsal.client.ask("DELETE", rehearsal.path("deployments", "odoo"), propagationPolicy="Orphan")
    rehearsal.client.until(rehearsal.path("deployments", "odoo"), lambda answer: answer.status == 404)

    sets = rehearsal.client.ask("GET", rehearsal.path("replicasets")).body["items"]
    assert len(sets) == 1
    assert "ownerReferences" not in sets[0]["metadata"]


def test_namespace_goes_with_everything_in_it(rehearsal: Rehearsal) -> None:
    rehearsal.apply(rehearsal.deployment())
    rehearsal.settled()

    path = f"/api/v1/namespaces/{rehearsal.namespace}"
    rehearsal.client.ask("DELETE", path)

    assert rehearsal.client.until(path, lambda answer: answer.status == 404).status == 404
    assert rehearsal.pods() == []


def test_quota_stops_a_rollout_and_says_so_in_its_conditions(rehearsal: Rehearsal) -> None:
    quota = {"metadata": {"name": "tenant"}, "spec": {"hard": {"pods": "1"}}}
    rehearsal.client.ask("POST", rehearsal.path("resourcequotas", group="v1"), quota)

    rehearsal.apply(rehearsal.deployment())
    body = rehearsal.client.until(
        rehearsal.path("deployments", "odoo"),
        lambda answer: any(entry["type"] == "ReplicaFailure" for entry in answer.body["status"].get("conditions", ())),
    ).body

    assert "exceeded quota: tenant" in _condition(body, "ReplicaFailure")["message"]
    assert len(rehearsal.pods()) == 1
