"""Database clusters on a cluster with CloudNativePG: the practice estate, reached with the least rights."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.kubeconfig import ClusterAccess, parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, Transport
from changecontrol.ports import INVENTORY_LABEL, Kubernetes
from deployments.practice.behaviour import ANNOTATION
from deployments.practice.cloudnativepg.install import install
from deployments.practice.server import PracticeServer
from deployments.practice.tls import kubeconfig
from recovery.adapters.cloudnativepg import open_clusters
from recovery.adapters.cloudnativepg.manifests import PLUGIN
from recovery.ports.clusters import (
    ClusterBackupMethod,
    DatabaseCluster,
    DatabaseClusters,
    PluginSource,
    RecoveryCluster,
)
from recovery.ports.postgres import Consistent, RestoreTo

RBAC = Path(__file__).resolve().parents[3] / "deploy" / "rbac-cloudnativepg.yaml"
ACCOUNT = "changecontrol-executor"
HOME = "changecontrol"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
WAIT_SECONDS = 120.0
_NUMBERS = itertools.count(1)
Found = TypeVar("Found")


def eventually(ask: Callable[[], Found], *, holds: Callable[[Found], bool]) -> Found:
    """Ask until it is as wanted, as ticks do; return the last answer either way."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        found = ask()
        if holds(found) or time.monotonic() > until:
            assert holds(found), found
            return found
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Space:
    """A namespace of a cluster with the operator's kinds, and the port as the executor may use it."""

    admin: Transport
    kubernetes: Kubernetes
    clusters: DatabaseClusters
    namespace: str

    @property
    def origin(self) -> DatabaseCluster:
        return DatabaseCluster(self.namespace, "odoo-db")

    def path(self, plural: str) -> str:
        group = "barmancloud.cnpg.io" if plural == "objectstores" else "postgresql.cnpg.io"
        return f"/apis/{group}/v1/namespaces/{self.namespace}/{plural}"

    def apply(self, path: str, body: dict[str, Any], *, manager: str = "administrator") -> None:
        answer = self.admin.call(
            "PATCH",
            f"{path}/{body['metadata']['name']}",
            doing="prepare",
            body=body,
            params={"fieldManager": manager, "force": "true"},
            content_type=APPLY_PATCH,
        )
        assert answer.status in (200, 201), answer.body

    def recovery(self, *, to: RestoreTo | Consistent, run: str = "drill-7", name: str = "") -> RecoveryCluster:
        return RecoveryCluster(
            run=run,
            cluster=DatabaseCluster(self.namespace, name or run),
            origin="odoo-db",
            source=PluginSource(object_store="read-only", server_name="odoo-db"),
            to=to,
            image="ghcr.io/cloudnative-pg/postgresql:17.2",
            size="20Gi",
        )


@dataclass(frozen=True, slots=True)
class Estate(Space):
    """A namespace of the practice estate with a database that is backed up."""

    server: PracticeServer

    def hold(self, pod: str, finalizers: list[str]) -> None:
        """Keep a pod from going, as one whose server takes its time to end does."""
        path, body = f"/api/v1/namespaces/{self.namespace}/pods/{pod}", {"metadata": {"finalizers": finalizers}}
        answer = self.admin.call("PATCH", path, doing="hold", body=body, content_type="application/merge-patch+json")
        assert answer.status == 200, answer.body

    def database(
        self,
        *,
        method: ClusterBackupMethod = ClusterBackupMethod.PLUGIN,
        behaviour: str = "nothing",
        more: dict[str, Any] | None = None,
    ) -> DatabaseCluster:
        """Have a production database, backed up by this method. `behaviour` is the practice estate's word.

        `more` is added to its definition.
        """
        # The same place twice: production writes with one credential, recoveries read with another.
        for name in ("store", "read-only"):
            place = (
                f"s3://backups/{self.namespace}"
                if method is ClusterBackupMethod.PLUGIN
                else f"s3://in/{self.namespace}"
            )
            spec = {"configuration": {"destinationPath": place}}
            metadata: dict[str, Any] = {"name": name, "namespace": self.namespace}
            if name == "read-only":
                metadata["labels"] = {INVENTORY_LABEL: self.namespace}
            body = {"apiVersion": "barmancloud.cnpg.io/v1", "kind": "ObjectStore", "metadata": metadata, "spec": spec}
            self.apply(self.path("objectstores"), body)
        backed_up: dict[str, Any] = {"backup": {"barmanObjectStore": {"destinationPath": f"s3://in/{self.namespace}"}}}
        if method is ClusterBackupMethod.PLUGIN:
            parameters = {"barmanObjectName": "store"}
            backed_up = {"plugins": [{"name": PLUGIN, "isWALArchiver": True, "parameters": parameters}]}
        image = "ghcr.io/cloudnative-pg/postgresql:17.2"
        storage = {"size": "20Gi", "storageClass": "fast"}
        wanted: dict[str, Any] = {"instances": 3, "imageName": image, "storage": storage, **backed_up, **(more or {})}
        about: dict[str, Any] = {"name": "odoo-db", "namespace": self.namespace, "annotations": {ANNOTATION: behaviour}}
        about["labels"] = {INVENTORY_LABEL: self.namespace}
        body = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": about, "spec": wanted}
        self.apply(self.path("clusters"), body)
        return self.origin


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeServer]:
    with PracticeServer.start(state=tmp_path_factory.mktemp("operated"), speed=50.0, seed=install) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: PracticeServer) -> Transport:
    access = parse_kubeconfig(server.kubeconfig.read_text())
    transport = Transport(lambda: access, connect_seconds=5, read_seconds=10)
    make_account(transport)
    return transport


def make_account(transport: Transport) -> None:
    make_namespace(transport, HOME)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": HOME}}
    transport.call("POST", f"/api/v1/namespaces/{HOME}/serviceaccounts", doing="make an account", body=account)


def make_namespace(transport: Transport, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    transport.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)


@pytest.fixture
def estate(server: PracticeServer, admin: Transport) -> Iterator[Estate]:
    access = parse_kubeconfig(server.kubeconfig.read_text())
    space = open_space(admin, access, namespace=f"shop-{next(_NUMBERS)}")
    yield Estate(admin, space.kubernetes, space.clusters, space.namespace, server)
    server.call(lambda world: world.faults.clear())
    admin.call("DELETE", f"/api/v1/namespaces/{space.namespace}", doing="remove the namespace")


def open_space(admin: Transport, access: ClusterAccess, *, namespace: str) -> Space:
    """Make a namespace in which the executor has the rights of `deploy/rbac-cloudnativepg.yaml`, and no other."""
    make_namespace(admin, namespace)
    path = f"/api/v1/namespaces/{HOME}/serviceaccounts/{ACCOUNT}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = admin.call("POST", path, doing="get a token", body=request).body["status"]["token"]
    text = kubeconfig(url=access.server, authority=access.ca_pem, token=token)
    kubernetes = open_cluster(credential=f"env:{namespace}", secrets=FakeSecrets({f"env:{namespace}": text}))
    made = Space(admin, kubernetes, open_clusters(kubernetes), namespace)
    role, binding = yaml.safe_load_all(RBAC.read_text())
    for body, plural in ((role, "roles"), (binding, "rolebindings")):
        body["metadata"]["namespace"] = namespace
        made.apply(f"{ROLES}/namespaces/{namespace}/{plural}", body)
    # What a server goes by is a moment behind what it has stored.
    eventually(lambda: made.clusters.observe_rights(namespace=namespace), holds=lambda lacking: lacking == ())
    return made


def now() -> datetime:
    return datetime.now(UTC)
