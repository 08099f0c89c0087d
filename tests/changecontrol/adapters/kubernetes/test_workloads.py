from __future__ import annotations

from typing import Any

import pytest

from changecontrol.adapters.kubernetes.workloads import digest_of, read_workloads, selector_of
from changecontrol.ports import ObjectRef, PodProblem, WorkloadStatus
from tests.changecontrol.adapters.api_server import recorded

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
REF = ObjectRef("apps/v1", "Deployment", "shop", "web")


def owned(name: str, *, by: str, kind: str = "Pod", **rest: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": name, "ownerReferences": [{"uid": by, "controller": True}]}
    metadata |= rest.pop("metadata", {})
    return {"kind": kind, "metadata": metadata, **rest}


def pod(name: str, *, by: str, digest: str, **metadata: Any) -> dict[str, Any]:
    return owned(
        name,
        by=by,
        metadata=metadata,
        spec={"containers": [{"image": f"odoo@{digest}"}]},
        status={
            "phase": "Running",
            "containerStatuses": [{"imageID": f"docker-pullable://odoo@{digest}", "restartCount": 1}],
        },
    )


def replica_set(name: str, *, revision: int) -> dict[str, Any]:
    return owned(
        name,
        by="uid-web",
        kind="ReplicaSet",
        metadata={"annotations": {"deployment.kubernetes.io/revision": str(revision)}},
    )


def workload(kind: str = "Deployment", *, generation: int = 2, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-web", "generation": generation},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, **status},
    }


def test_only_pods_of_the_newest_replica_set_are_evidence() -> None:  # RUN-2
    statuses = read_workloads(
        workloads=[workload(readyReplicas=2, availableReplicas=2)],
        replica_sets=[replica_set("old", revision=9), replica_set("new", revision=10)],
        pods=[pod("a", by="old", digest=OLD), pod("b", by="new", digest=NEW)],
    )

    assert statuses == {
        REF: WorkloadStatus(
            ref=REF,
            uid="uid-web",
            generation=2,
            observed_generation=2,
            desired_count=2,
            updated_count=1,
            ready_count=2,
            available_count=2,
            total_count=3,
            is_deadline_exceeded=False,
            message="",
            image_ids=(NEW,),
            pod_images=(f"odoo@{NEW}",),
            restart_count=1,
        )
    }


def test_pods_that_end_are_no_evidence() -> None:
    dying = pod("a", by="new", digest=NEW, deletionTimestamp="2026-01-05T12:00:00Z")
    evicted = pod("b", by="new", digest=NEW) | {"status": {"phase": "Failed"}}

    status = read_workloads(
        workloads=[workload()], replica_sets=[replica_set("new", revision=1)], pods=[dying, evicted]
    )[REF]

    assert (status.image_ids, status.pod_images) == ((), ())


def test_stateful_set_counts_pods_of_its_update_revision() -> None:  # RUN-2
    old = pod("web-0", by="uid-web", digest=OLD, labels={"controller-revision-hash": "web-1"})
    new = pod("web-1", by="uid-web", digest=NEW, labels={"controller-revision-hash": "web-2"})

    statuses = read_workloads(workloads=[workload("StatefulSet", updateRevision="web-2")], pods=[old, new])

    assert [status.image_ids for status in statuses.values()] == [(NEW,)]


def test_daemon_set_counts_pods_of_its_newest_controller_revision() -> None:  # RUN-2
    old = pod("web-a", by="uid-web", digest=OLD, labels={"controller-revision-hash": "h1"})
    new = pod("web-b", by="uid-web", digest=NEW, labels={"controller-revision-hash": "h2"})
    revisions = [
        owned("r2", by="uid-web", revision=10, metadata={"labels": {"controller-revision-hash": "h2"}}),
        owned("r1", by="uid-web", revision=9, metadata={"labels": {"controller-revision-hash": "h1"}}),
    ]
    daemon_set = workload("DaemonSet", desiredNumberScheduled=2, updatedNumberScheduled=1, numberReady=2)

    (status,) = read_workloads(workloads=[daemon_set], pods=[old, new], controller_revisions=revisions).values()

    assert status.image_ids == (NEW,)
    assert (status.desired_count, status.updated_count, status.ready_count) == (2, 1, 2)


def test_problems_say_why_pods_are_not_ready() -> None:
    pulling = pod("a", by="new", digest=NEW)
    pulling["status"]["containerStatuses"] = [
        {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "pull https://u:canary@reg/odoo"}}},
        {"state": {"waiting": {"reason": "ContainerCreating"}}},
    ]
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}

    status = read_workloads(
        workloads=[workload(conditions=[condition])], replica_sets=[replica_set("new", revision=1)], pods=[pulling]
    )[REF]

    assert status.problems == (
        PodProblem(pod="", reason="FailedCreate", message="exceeded quota"),
        PodProblem(pod="a", reason="ImagePullBackOff", message="pull https://redacted@reg/odoo"),
    )


INDEX, PLATFORM, CONFIG = ("sha256:" + letter * 64 for letter in "def")


@pytest.mark.parametrize(
    ("image", "image_id", "digests"),
    [
        (f"odoo@{INDEX}", f"registry.example/odoo@{INDEX}", (INDEX,)),
        (f"odoo:19.0@{INDEX}", f"registry.example/odoo@{PLATFORM}", (INDEX,)),
        (f"odoo@{INDEX}", f"docker-pullable://mirror.example/odoo@{PLATFORM}", (INDEX,)),
        (f"odoo@{INDEX}", CONFIG, (INDEX,)),
        (f"odoo@{INDEX}", "", ()),
        ("odoo:19.0", f"registry.example/odoo@{PLATFORM}", (PLATFORM,)),
        ("odoo:19.0", CONFIG, (CONFIG,)),
        ("odoo:19.0", "odoo:19.0", ()),
    ],
)
def test_a_pin_is_what_runs_once_the_image_is_there(image: str, image_id: str, digests: tuple[str, ...]) -> None:
    one = owned("a", by="new", spec={"containers": [{"name": "odoo", "image": image}]})
    one["status"] = {"phase": "Running", "containerStatuses": [{"name": "odoo", "imageID": image_id}]}

    status = read_workloads(workloads=[workload()], replica_sets=[replica_set("new", revision=1)], pods=[one])[REF]

    assert status.image_ids == digests


@pytest.mark.parametrize(
    ("restarts", "is_ready", "reasons"),
    [(2, False, []), (3, True, []), (3, False, ["RestartsTooOften"])],
)
def test_a_container_that_starts_again_and_again_is_a_problem_between_two_crashes(
    restarts: int, is_ready: bool, reasons: list[str]
) -> None:
    crashing = pod("a", by="new", digest=NEW)
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    crashing["status"]["containerStatuses"] = [
        {"name": "odoo", "restartCount": restarts, "ready": is_ready, "lastState": {"terminated": ended}}
    ]

    status = read_workloads(workloads=[workload()], replica_sets=[replica_set("new", revision=1)], pods=[crashing])[REF]

    assert [one.reason for one in status.problems] == reasons
    assert all("started again 3 times; last it ended with code 137 (OOMKilled)." in p.message for p in status.problems)


@pytest.mark.parametrize(
    ("kind", "spec", "facts"),
    [
        ("Deployment", {"replicas": 2, "paused": True}, (0, True, False)),
        ("StatefulSet", {"replicas": 2}, (0, False, False)),
        ("StatefulSet", {"replicas": 2, "updateStrategy": {"rollingUpdate": {"partition": 1}}}, (1, False, False)),
        (
            "StatefulSet",
            {"replicas": 2, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 9}}},
            (2, False, False),
        ),
        ("StatefulSet", {"replicas": 2, "updateStrategy": {"type": "OnDelete"}}, (0, False, True)),
        ("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, (0, False, True)),
    ],
)
def test_what_a_strategy_holds_back_is_read(kind: str, spec: dict[str, Any], facts: tuple[int, bool, bool]) -> None:
    (status,) = read_workloads(workloads=[workload(kind) | {"spec": spec}], pods=[]).values()

    assert (status.held_count, status.is_paused, status.is_on_delete) == facts


def test_conditions_of_an_earlier_generation_are_not_believed() -> None:  # RUN-2
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}

    stale = read_workloads(workloads=[workload(generation=3, conditions=[late])], pods=[])[REF]
    current = read_workloads(workloads=[workload(generation=2, conditions=[late])], pods=[])[REF]

    assert (stale.is_deadline_exceeded, stale.message) == (False, "")
    assert (current.is_deadline_exceeded, current.message) == (True, "timed out")


def test_a_recorded_stuck_rollout_is_read() -> None:
    deployment = recorded("stuck rollout", "9 s later")["response"]["body"]
    pods = recorded("stuck rollout", "one pod pending")["response"]["body"]["items"]
    pending = next(pod for pod in pods if pod["status"]["phase"] == "Pending")
    newest = replica_set("newest", revision=99)
    newest["metadata"]["uid"] = pending["metadata"]["ownerReferences"][0]["uid"]
    newest["metadata"]["ownerReferences"][0]["uid"] = deployment["metadata"]["uid"]

    (status,) = read_workloads(workloads=[deployment], replica_sets=[newest], pods=pods).values()

    assert status.is_deadline_exceeded
    assert (status.desired_count, status.updated_count, status.available_count, status.total_count) == (3, 1, 3, 4)
    assert [problem.reason for problem in status.problems] == ["Unschedulable"]
    assert status.image_ids == ()


def test_selector_of_pods_is_worded_for_a_list() -> None:
    rules = [
        {"key": "tier", "operator": "In", "values": ["web", "pos"]},
        {"key": "zone", "operator": "NotIn", "values": ["x"]},
        {"key": "team", "operator": "Exists"},
        {"key": "test", "operator": "DoesNotExist"},
    ]

    words = selector_of({"spec": {"selector": {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": rules}}})

    assert words == "a=1,b=2,tier in (web,pos),zone notin (x),team,!test"


@pytest.mark.parametrize(
    ("image_id", "digest"),
    [
        (f"docker-pullable://registry.example/odoo@{NEW}", NEW),
        (f"registry.example/odoo@{NEW}", NEW),
        (NEW, NEW),
        ("registry.example/odoo:17.0", ""),
        ("sha256:short", ""),
        ("", ""),
    ],
)
def test_image_ids_are_reduced_to_their_digest(image_id: str, digest: str) -> None:
    assert digest_of(image_id) == digest
