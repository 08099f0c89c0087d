"""Places for jobs in a cluster: the practice estate and a named cluster, reached with the least rights."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.jobs import open_cluster as open_place
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.kubeconfig import ClusterAccess, parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, Transport
from changecontrol.ports import JobCluster, JobRunner, JobSight, Kubernetes, PlacedJob
from deployments.practice.controllers.world import Delays
from deployments.practice.server import PracticeServer
from deployments.practice.tls import kubeconfig
from tests.contracts.named import HAS_NODES, NAMED, named_kubeconfig, named_node
from tests.kubelet import Kubelet
from tests.node import Node

RBAC = Path(__file__).resolve().parents[3] / "deploy" / "rbac-jobs.yaml"
ACCOUNT, HOME = "changecontrol-executor", "changecontrol"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
"""A real server makes no pod here that may more than this standard lets it."""
ROLES = "/apis/rbac.authorization.k8s.io/v1"
WAIT_SECONDS = 120.0
PLACE = JobCluster(
    namespace="",
    image="registry.example/changecontrol@sha256:" + "a" * 64,
    service_account="changecontrol-job",
    secret="changecontrol-settings",
    references="changecontrol-references",
    cpu="2",
    memory_mib=4096,
    disk_gib=50,
    needs_token=False,
)
_NUMBERS = itertools.count(1)
__all__ = ["named_node"]


@dataclass(frozen=True, slots=True)
class Ground:
    """A namespace for jobs, as its owner and as the executor see it. `server` is the practice estate's alone."""

    server: PracticeServer | None
    node: Node | None
    admin: Transport
    kubernetes: Kubernetes
    kubeconfig: str
    place: JobCluster

    @property
    def runner(self) -> JobRunner:
        return open_place(self.kubernetes, place=self.place)

    def runner_of(self, **words: Any) -> JobRunner:
        return open_place(self.kubernetes, place=replace(self.place, **words))

    def kubelet(self, environment: Mapping[str, str]) -> Kubelet:
        """Return what runs the pods of this namespace, once it is entered."""
        return Kubelet(self.admin, namespace=self.place.namespace, environment=environment, node=self.node)

    def path(self, plural: str, *, base: str = "/api/v1") -> str:
        return f"{base}/namespaces/{self.place.namespace}/{plural}"

    def fault(self, **rule: object) -> None:
        """Have the server stumble."""
        if self.server is None:
            pytest.skip("A real server stumbles when it likes: only the practice estate does when it is told.")
        self.server.call(lambda world: world.faults.add(rule))

    def apply(self, path: str, body: dict[str, Any]) -> None:
        answer = self.admin.call(
            "PATCH",
            f"{path}/{body['metadata']['name']}",
            doing="prepare",
            body=body,
            params={"fieldManager": "administrator", "force": "true"},
            content_type=APPLY_PATCH,
        )
        assert answer.status in (200, 201), answer.body

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.admin.call("GET", self.path("pods"), doing="list pods").body["items"]
        return found

    def jobs(self) -> list[dict[str, Any]]:
        path = self.path("jobs", base="/apis/batch/v1")
        found: list[dict[str, Any]] = self.admin.call("GET", path, doing="list jobs").body["items"]
        return found

    def end_pod(self, *, phase: str, **ended: Any) -> None:
        """Say of the pod that its container ended, as its node does."""
        name = self.pods()[0]["metadata"]["name"]
        container = {"name": "job", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
        status = {"phase": phase, "containerStatuses": [{**container, "state": {"terminated": ended}}]}
        path = f"{self.path('pods')}/{name}/status"
        answer = self.admin.call(
            "PATCH", path, doing="end", body={"status": status}, content_type="application/merge-patch+json"
        )
        assert answer.status == 200, answer.body

    def until(self, holds: Callable[[JobSight | None], bool], *, runner: JobRunner | None = None) -> JobSight | None:
        """Look at the job until it is as wanted."""
        ends_at = time.monotonic() + WAIT_SECONDS
        while True:
            found = (runner or self.runner).observe_jobs().get(TO_DO.run)
            if holds(found):
                return found
            assert time.monotonic() < ends_at, found
            time.sleep(0.05)


TO_DO = PlacedJob(pk=7, run="7-1764000000", attempt="0", kind="cluster_backup", key="backup/3")


@pytest.fixture(scope="session")
def jobs_estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeServer]:
    # Pods end when a test says so, and not by themselves.
    delays = Delays(run_job=10.0**9)
    with PracticeServer.start(state=tmp_path_factory.mktemp("jobs"), speed=50.0, delays=delays) as server:
        yield server


@pytest.fixture(params=["practice", NAMED])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    if request.param == "practice":
        server: PracticeServer = request.getfixturevalue("jobs_estate")
        yield from _ground(parse_kubeconfig(server.kubeconfig.read_text()), server=server)
        server.call(lambda world: world.faults.clear())
    elif (node := request.getfixturevalue("named_node")) is None:
        pytest.skip(HAS_NODES)
    else:
        yield from _ground(parse_kubeconfig(named_kubeconfig()), node=node)


def _ground(
    access: ClusterAccess, *, server: PracticeServer | None = None, node: Node | None = None
) -> Iterator[Ground]:
    admin = Transport(lambda: access, connect_seconds=5, read_seconds=20)
    namespace = f"jobs-{next(_NUMBERS)}-{uuid.uuid4().hex[:6]}"
    for name in (HOME, namespace):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
        admin.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": HOME}}
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts"
    admin.call("POST", path, doing="make an account", body=account)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = admin.call("POST", f"{path}/{ACCOUNT}/token", doing="get a token", body=request).body["status"]["token"]
    text = kubeconfig(url=access.server, authority=access.ca_pem, token=token)
    kubernetes = open_cluster(credential=f"env:{namespace}", secrets=FakeSecrets({f"env:{namespace}": text}))
    made = Ground(server, node, admin, kubernetes, text, replace(PLACE, namespace=namespace))
    plurals = {"ServiceAccount": "/api/v1", "Role": ROLES, "RoleBinding": ROLES}
    for body in yaml.safe_load_all(RBAC.read_text()):
        body["metadata"]["namespace"] = namespace
        made.apply(made.path(f"{body['kind'].lower()}s", base=plurals[body["kind"]]), body)
    # What a server goes by is a moment behind what it has stored.
    ends_at = time.monotonic() + WAIT_SECONDS
    while made.runner.observe_obstacles() and time.monotonic() < ends_at:
        time.sleep(0.05)
    yield made
    admin.call("DELETE", f"/api/v1/namespaces/{namespace}", doing="remove the namespace")
