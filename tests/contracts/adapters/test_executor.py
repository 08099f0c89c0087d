"""The executor of `deploy/rbac.yaml` against the practice estate: what it may, may not, and what failures look like."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.cluster import Cluster
from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, Transport
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import INVENTORY_LABEL, SUPPORTED_KINDS, NotAllowed, ObjectRef, Rejected, Right, rights_for
from deployments.adapters.prometheus import open_indicators
from deployments.practice.server import PracticeServer

RBAC = Path(__file__).resolve().parents[3] / "deploy" / "rbac.yaml"
NAMESPACE = "acme-production"
INVENTORY = "acme.production"
ACCOUNT = "/api/v1/namespaces/changecontrol/serviceaccounts/changecontrol-executor"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
PATHS = {
    "ServiceAccount": ACCOUNT,
    "ClusterRole": f"{ROLES}/clusterroles/changecontrol-executor",
    "RoleBinding": f"{ROLES}/namespaces/{NAMESPACE}/rolebindings/changecontrol-executor",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeServer]:
    with PracticeServer.start(state=tmp_path_factory.mktemp("practice"), speed=50.0) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: PracticeServer) -> Transport:
    access = parse_kubeconfig(server.kubeconfig.read_text())
    transport = Transport(lambda: access, connect_seconds=5, read_seconds=10)
    for name in ("changecontrol", NAMESPACE):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        transport.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)
    for document in yaml.safe_load_all(RBAC.read_text()):
        answer = transport.call(
            "PATCH",
            PATHS[document["kind"]],
            doing="grant",
            body=document,
            params={"fieldManager": "owner"},
            content_type=APPLY_PATCH,
        )
        assert answer.status in (200, 201), answer.body
    return transport


@pytest.fixture
def new_kubeconfig(server: PracticeServer, admin: Transport) -> Callable[[], str]:
    """Return a kubeconfig with a token of the executor, fresh each time."""

    def make() -> str:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        token = admin.call("POST", f"{ACCOUNT}/token", doing="get a token", body=request).body["status"]["token"]
        authority = base64.b64encode(server.credentials.authority.encode()).decode()
        return yaml.safe_dump(
            {
                "kind": "Config",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [
                    {"name": "it", "cluster": {"server": server.url, "certificate-authority-data": authority}}
                ],
                "users": [{"name": "it", "user": {"token": token}}],
            }
        )

    return make


@pytest.fixture
def secrets(new_kubeconfig: Callable[[], str]) -> FakeSecrets:
    return FakeSecrets({"env:KUBECONFIG": new_kubeconfig()})


@pytest.fixture
def cluster(secrets: FakeSecrets, server: PracticeServer) -> Iterator[Cluster]:
    yield open_cluster(credential="env:KUBECONFIG", secrets=secrets, read_seconds=1)
    server.call(lambda estate: estate.faults.clear())


def manifest(name: str = "settings", *, kind: str = "ConfigMap", **data: str) -> dict[str, Any]:
    labels = {INVENTORY_LABEL: INVENTORY}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data or {"workers": "NA=="}}


def everything() -> tuple[Right, ...]:
    return rights_for(written=SUPPORTED_KINDS, deleted=SUPPORTED_KINDS, listed=SUPPORTED_KINDS)


def break_next(server: PracticeServer, kind: str, *, method: str = "PATCH", **words: Any) -> None:
    server.call(lambda estate: estate.faults.add({"kind": kind, "method": method, **words}))


def test_executor_has_every_right_it_needs_and_no_other(cluster: Cluster) -> None:
    others = [Right("get", "", "secrets"), Right("create", "", "pods"), Right("update", "apps", "deployments")]

    lacked = cluster.observe_rights(namespace=NAMESPACE, rights=[*everything(), *others])
    elsewhere = cluster.observe_rights(namespace="default", rights=[Right("get", "", "configmaps")])

    assert set(lacked) == set(others)
    assert elsewhere == (Right("get", "", "configmaps"),)


def test_executor_can_apply_look_and_prune(cluster: Cluster) -> None:
    ref = cluster.ensure_applied(manifest()).ref

    assert cluster.observe_object(ref) is not None
    assert cluster.observe_workloads(namespace=NAMESPACE, inventory=INVENTORY) == {}
    assert ref in cluster.observe_inventory(namespace=NAMESPACE, inventory=INVENTORY, kinds=SUPPORTED_KINDS)
    assert cluster.ensure_deleted(ref, inventory=INVENTORY)


def test_what_is_not_granted_is_not_allowed(cluster: Cluster) -> None:  # RUN-8
    with pytest.raises(NotAllowed) as raised:
        cluster.ensure_applied(manifest(kind="Secret"))

    assert raised.value.reason == (
        f"The executor may not apply Secret {NAMESPACE}/settings: "
        "system:serviceaccount:changecontrol:changecontrol-executor lacks the right to patch secrets. "
        "Grant it as deploy/rbac.yaml does."
    )


def test_too_many_requests_say_how_long_to_wait(cluster: Cluster, server: PracticeServer) -> None:  # RUN-8
    break_next(server, "429", seconds=7)

    with pytest.raises(Transient, match="asks for fewer requests") as raised:
        cluster.ensure_applied(manifest())

    assert raised.value.after == 7.0


@pytest.mark.parametrize("kind", ["500", "503", "cut-before"])
def test_failure_before_acting_leaves_nothing(cluster: Cluster, server: PracticeServer, kind: str) -> None:  # RUN-8
    break_next(server, kind)

    with pytest.raises(Transient):
        cluster.ensure_applied(manifest(f"broken-{kind}"))

    assert cluster.observe_object(ObjectRef("v1", "ConfigMap", NAMESPACE, f"broken-{kind}")) is None


def test_cut_after_acting_is_found_done(cluster: Cluster, server: PracticeServer) -> None:  # RUN-8
    break_next(server, "cut-after")
    with pytest.raises(Transient, match="it may have done it"):
        cluster.ensure_applied(manifest("cut"))

    live = cluster.observe_object(ObjectRef("v1", "ConfigMap", NAMESPACE, "cut"))
    again = cluster.ensure_applied(manifest("cut"))

    assert live is not None
    assert live["metadata"]["resourceVersion"] == again.resource_version


def test_slow_server_is_transient(cluster: Cluster, server: PracticeServer) -> None:  # RUN-8
    break_next(server, "slow", seconds=1.5)

    with pytest.raises(Transient, match="did not answer in time"):
        cluster.ensure_applied(manifest("slow"))


def test_expired_token_is_renewed_where_the_reference_holds_a_new_one(
    cluster: Cluster, server: PracticeServer, secrets: FakeSecrets, new_kubeconfig: Callable[[], str]
) -> None:  # RUN-8
    server.expire_tokens()
    with pytest.raises(NotAllowed, match="no longer accepts this credential"):
        cluster.ensure_applied(manifest("late"))
    secrets.values["env:KUBECONFIG"] = new_kubeconfig()

    applied = cluster.ensure_applied(manifest("late"))

    assert applied.ref.name == "late"


def test_namespace_being_deleted_is_rejected(server: PracticeServer, admin: Transport) -> None:  # RUN-8
    admin.call("POST", "/api/v1/namespaces", doing="make a namespace", body={"metadata": {"name": "closing"}})
    held = manifest("held") | {"metadata": {"name": "held", "namespace": "closing", "finalizers": ["example.com/hold"]}}
    admin.call("POST", "/api/v1/namespaces/closing/configmaps", doing="hold the namespace", body=held)
    admin.call("DELETE", "/api/v1/namespaces/closing", doing="delete the namespace")
    owner = open_cluster(credential="env:X", secrets=FakeSecrets({"env:X": server.kubeconfig.read_text()}))
    late = manifest("late")
    late["metadata"]["namespace"] = "closing"

    with pytest.raises(Rejected, match="its namespace is being deleted"):
        owner.ensure_applied(late)


def test_practice_metrics_are_read_over_the_same_port(server: PracticeServer) -> None:
    secrets = FakeSecrets({"env:CA": server.credentials.authority, "env:TOKEN": server.admin_token})
    indicators = open_indicators(url=server.prometheus_url, credential="env:TOKEN", authority="env:CA", secrets=secrets)
    now = datetime.now(UTC)

    assert indicators.observe_query("nosuch_metric", at=now) == ()
    with pytest.raises(Permanent, match="cannot evaluate this query"):
        indicators.observe_query("sum(", at=now)
