"""Places for jobs in a cluster: the practice estate, reached with the least rights, and the fake."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.jobs import open_cluster as open_place
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, Transport
from changecontrol.ports import JobCluster, JobRunner, JobSight, Kubernetes, PlacedJob
from deployments.practice.controllers.world import Delays
from deployments.practice.server import PracticeServer
from deployments.practice.tls import kubeconfig

RBAC = Path(__file__).resolve().parents[3] / "deploy" / "rbac-jobs.yaml"
ACCOUNT, HOME = "changecontrol-executor", "changecontrol"
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


@dataclass(frozen=True, slots=True)
class Ground:
    """A namespace for jobs, as its owner and as the executor see it."""

    server: PracticeServer
    admin: Transport
    kubernetes: Kubernetes
    kubeconfig: str
    place: JobCluster

    @property
    def runner(self) -> JobRunner:
        return open_place(self.kubernetes, place=self.place)

    def runner_of(self, **words: Any) -> JobRunner:
        return open_place(self.kubernetes, place=replace(self.place, **words))

    def path(self, plural: str, *, base: str = "/api/v1") -> str:
        return f"{base}/namespaces/{self.place.namespace}/{plural}"

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


@pytest.fixture
def ground(jobs_estate: PracticeServer) -> Iterator[Ground]:
    access = parse_kubeconfig(jobs_estate.kubeconfig.read_text())
    admin = Transport(lambda: access, connect_seconds=5, read_seconds=10)
    namespace = f"jobs-{next(_NUMBERS)}"
    for name in (HOME, namespace):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        admin.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": HOME}}
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts"
    admin.call("POST", path, doing="make an account", body=account)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = admin.call("POST", f"{path}/{ACCOUNT}/token", doing="get a token", body=request).body["status"]["token"]
    text = kubeconfig(url=jobs_estate.url, authority=jobs_estate.credentials.authority, token=token)
    kubernetes = open_cluster(credential=f"env:{namespace}", secrets=FakeSecrets({f"env:{namespace}": text}))
    made = Ground(jobs_estate, admin, kubernetes, text, replace(PLACE, namespace=namespace))
    plurals = {"ServiceAccount": "/api/v1", "Role": ROLES, "RoleBinding": ROLES}
    for body in yaml.safe_load_all(RBAC.read_text()):
        body["metadata"]["namespace"] = namespace
        made.apply(made.path(f"{body['kind'].lower()}s", base=plurals[body["kind"]]), body)
    yield made
    jobs_estate.call(lambda world: world.faults.clear())
    admin.call("DELETE", f"/api/v1/namespaces/{namespace}", doing="remove the namespace")
