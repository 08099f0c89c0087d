"""Jobs in a cluster, as a real API server and its controllers answer: begun once, seen, told, cleared away."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import JobSight
from tests.contracts.jobs.conftest import TO_DO, Ground


def has_pod(ground: Ground, *, phase: str = "Running") -> None:
    ground.until(lambda _: [pod["status"].get("phase") for pod in ground.pods()] == [phase])


def have_quota(ground: Ground, **hard: str) -> None:
    metadata = {"name": "small", "namespace": ground.place.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}
    ground.apply(ground.path("resourcequotas"), quota)
    # What a server goes by is a moment behind what it has stored.
    path = ground.path("resourcequotas/small")
    ground.until(lambda _: "hard" in ground.admin.call("GET", path, doing="read the quota").body.get("status", {}))


def hold(ground: Ground, path: str, *, by: list[str]) -> None:
    """Keep an object from going, as a node that is away keeps its pods."""
    body = {"metadata": {"finalizers": by}}
    answer = ground.admin.call("PATCH", path, doing="hold", body=body, content_type="application/merge-patch+json")
    assert answer.status == 200, answer.body


def test_a_job_is_begun_once_and_seen_at_work(ground: Ground) -> None:
    for within in (timedelta(hours=1), timedelta(minutes=59)):
        ground.runner.ensure_begun(replace(TO_DO, within=within))
    has_pod(ground)

    assert ground.runner.observe_jobs() == {TO_DO.run: JobSight()}
    (job,) = ground.jobs()
    assert job["metadata"]["name"] == "changecontrol-cluster-backup-7-1764000000-0"
    assert job["metadata"]["annotations"]["changecontrol.io/job"] == "backup/3"
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 64 * 60


def test_its_pod_has_the_least_rights_and_limits_on_everything(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)
    has_pod(ground)

    spec = ground.pods()[0]["spec"]

    assert spec["serviceAccountName"] == "changecontrol-job"
    assert (spec["automountServiceAccountToken"], spec["restartPolicy"]) == (False, "Never")
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["command"] == ["python", "manage.py", "jobs", "--only", "7"]
    assert container["envFrom"] == [{"secretRef": {"name": "changecontrol-settings"}}]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "4608Mi", "ephemeral-storage": "52Gi"}
    limits = {one["name"]: one["emptyDir"]["sizeLimit"] for one in spec["volumes"] if "emptyDir" in one}
    assert limits == {"work": "50Gi", "tmp": "1Gi", "shared-memory": "512Mi"}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/var/lib/changecontrol",
        "/tmp",
        "/dev/shm",
        "/run/references",
    }


def test_a_pod_that_ended_well_is_over(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)
    has_pod(ground)

    ground.end_pod(phase="Succeeded", exitCode=0, reason="Completed")

    assert ground.until(lambda sight: sight is not None and sight.is_over) == JobSight(is_over=True)


def test_a_pod_that_took_too_much_memory_has_failed_for_that(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)
    has_pod(ground)

    ground.end_pod(phase="Failed", exitCode=137, reason="OOMKilled")

    assert ground.until(lambda sight: sight is not None and sight.is_over) == JobSight(
        is_over=True, is_failed=True, trouble="Its pod took more memory than it may, and was ended (JOB_MEMORY_MIB)."
    )


def test_an_image_that_cannot_be_pulled_is_told(ground: Ground) -> None:
    runner = ground.runner_of(image="registry.invalid/changecontrol:1")
    runner.ensure_begun(TO_DO)

    # The event about it may come before the pod says so itself.
    sight = ground.until(lambda sight: sight is not None and sight.trouble.startswith("Its image cannot be pulled: "))

    assert sight is not None
    assert not sight.is_over


def test_a_node_that_is_too_small_is_told(ground: Ground) -> None:
    runner = ground.runner_of(cpu="1000")
    runner.ensure_begun(TO_DO)

    sight = ground.until(lambda sight: sight is not None and bool(sight.trouble))

    assert sight is not None
    # Its condition and the event about it come one after the other.
    assert sight.trouble.startswith(("No node takes its pod: 0/", "Its pod does not begin: FailedScheduling: 0/"))


def test_a_quota_that_keeps_its_pod_away_is_told(ground: Ground) -> None:
    have_quota(ground, pods="0")
    ground.runner.ensure_begun(TO_DO)

    sight = ground.until(lambda sight: sight is not None and bool(sight.trouble))

    assert sight is not None
    assert sight.trouble.startswith("Its pod does not begin: FailedCreate: Error creating: pods ")
    assert "exceeded quota: small" in sight.trouble


def test_a_quota_that_keeps_the_job_away_is_waited_for(ground: Ground) -> None:
    have_quota(ground, **{"count/jobs.batch": "0"})

    with pytest.raises(Transient, match="The quota of the namespace is too small to apply Job"):
        ground.runner.ensure_begun(TO_DO)


def test_what_is_cleared_away_takes_its_pod_with_it_and_nothing_else(ground: Ground) -> None:
    other = replace(TO_DO, pk=8, run="8-1764000000")
    for job in (TO_DO, other):
        ground.runner.ensure_begun(job)
    ground.until(lambda _: len(ground.pods()) == 2)

    for _ in range(2):
        ground.runner.ensure_removed(TO_DO.run)
    ground.until(lambda sight: sight is None)

    assert list(ground.runner.observe_jobs()) == [other.run]
    assert len(ground.pods()) == 1
    ground.runner.ensure_removed("9-1")


def test_another_attempt_begins_beside_one_that_cannot_go(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)
    has_pod(ground)
    pod = f"{ground.path('pods')}/{ground.pods()[0]['metadata']['name']}"
    hold(ground, pod, by=["example.com/node-is-away"])
    ground.runner.ensure_removed(TO_DO.run)
    assert ground.runner.observe_jobs() == {TO_DO.run: JobSight(is_leaving=True)}

    for _ in range(2):
        ground.runner.ensure_begun(replace(TO_DO, attempt="60000"))
    ground.until(lambda _: len(ground.pods()) == 2)

    assert ground.until(lambda sight: sight == JobSight()) == JobSight()
    ground.runner.ensure_removed(TO_DO.run)
    ground.until(lambda sight: sight is not None and sight.is_leaving)
    hold(ground, pod, by=[])
    ground.until(lambda sight: sight is None)
    assert (ground.jobs(), ground.pods()) == ([], [])


def test_a_name_is_never_longer_than_a_label_may_be(ground: Ground) -> None:
    kinds = ("a_kind_that_somebody_described_at_length", "another_kind_that_somebody_described_at_length")

    for pk, kind in enumerate(kinds):
        ground.runner.ensure_begun(replace(TO_DO, pk=pk, kind=kind, run=f"{10**9 + pk}-1764000000", attempt=f"{10**9}"))

    assert {len(job["metadata"]["name"]) for job in ground.jobs()} == {63}


def test_a_pod_that_somebody_orphaned_is_seen_and_cleared_away(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)
    has_pod(ground)
    path = f"{ground.path('jobs', base='/apis/batch/v1')}/{ground.jobs()[0]['metadata']['name']}"
    ground.admin.call("DELETE", path, doing="orphan", body={"propagationPolicy": "Orphan"})
    ground.until(lambda _: ground.jobs() == [])
    assert ground.runner.observe_jobs() == {TO_DO.run: JobSight()}

    ground.runner.ensure_removed(TO_DO.run)

    ground.until(lambda sight: sight is None)
    assert ground.pods() == []


@pytest.mark.parametrize("kind", ["429", "500", "503", "cut-before", "cut-after"])
def test_a_stumbling_server_is_asked_again_and_has_begun_it_once(ground: Ground, kind: str) -> None:
    ground.fault(kind=kind, method="PATCH", path=ground.path("jobs", base="/apis/batch/v1"), times=1)

    with pytest.raises(Transient):
        ground.runner.ensure_begun(TO_DO)
    ground.runner.ensure_begun(TO_DO)
    has_pod(ground)

    assert len(ground.jobs()) == 1


def test_a_server_that_has_just_started_and_refuses_everybody_is_asked_again(ground: Ground) -> None:
    ground.fault(kind="403", path="/", times=None)

    for _ in range(2):
        with pytest.raises(Transient, match="has just started, and refuses everybody"):
            ground.runner.ensure_begun(TO_DO)
        with pytest.raises(Transient, match="has just started, and refuses everybody"):
            ground.runner.observe_obstacles()


def test_a_refusal_is_final(ground: Ground) -> None:
    with pytest.raises(Permanent, match="lacks the right to patch jobs"):
        ground.runner_of(namespace="nowhere").ensure_begun(TO_DO)


def test_a_job_that_the_server_finds_invalid_is_refused(ground: Ground) -> None:
    with pytest.raises(Permanent, match="refused to apply Job"):
        ground.runner_of(cpu="much").ensure_begun(TO_DO)


def test_a_host_with_another_image_leaves_what_was_begun(ground: Ground) -> None:
    ground.runner.ensure_begun(TO_DO)

    ground.runner_of(image="registry.example/changecontrol:next").ensure_begun(TO_DO)

    has_pod(ground)
    (pod,) = ground.pods()
    assert pod["spec"]["containers"][0]["image"] == ground.place.image
