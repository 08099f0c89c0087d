"""A whole rehearsal by the executor of `deploy/rbac.yaml` and `deploy/rbac-rehearsal.yaml`, and no other right.

On the practice estate, and in the cluster that `TEST_KUBECONFIG` names where it has no nodes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.kubeconfig import ClusterAccess, parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, Transport
from changecontrol.models import Rehearsal
from changecontrol.ports import Right
from changecontrol.workflow import engine
from deployments.practice.server import PracticeServer
from deployments.practice.tls import kubeconfig
from deployments.workflows.rehearsal import NAMESPACE_RIGHTS, RehearsalRun
from tests.contracts.named import HAS_NODES, NAMED, named_kubeconfig, named_node
from tests.deployments.workflows.rehearsals import CREDENTIAL, Elsewhere, elsewhere_of
from tests.deployments.workflows.scene import Scene

__all__ = ["named_node"]

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
ACCOUNTS = "/api/v1/namespaces/changecontrol/serviceaccounts"
PATHS = {
    "ServiceAccount": ACCOUNTS,
    "ClusterRole": f"{ROLES}/clusterroles",
    "ClusterRoleBinding": f"{ROLES}/clusterrolebindings",
}
WAIT_SECONDS = 150.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeServer]:
    with PracticeServer.start(state=tmp_path_factory.mktemp("elsewhere"), speed=50.0) as server:
        yield server


@pytest.fixture(scope="module", params=["practice", NAMED])
def access(request: pytest.FixtureRequest) -> ClusterAccess:
    if request.param == "practice":
        server: PracticeServer = request.getfixturevalue("server")
        return parse_kubeconfig(server.kubeconfig.read_text())
    if request.getfixturevalue("named_node") is None:
        pytest.skip(HAS_NODES)
    return parse_kubeconfig(named_kubeconfig())


@pytest.fixture(scope="module")
def admin(access: ClusterAccess) -> Iterator[Transport]:
    transport = Transport(lambda: access, connect_seconds=5, read_seconds=20)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "changecontrol"}}
    transport.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)
    granted = [
        (path, document)
        for file in ("rbac.yaml", "rbac-rehearsal.yaml")
        for document in yaml.safe_load_all((DEPLOY / file).read_text())
        if (path := PATHS.get(document["kind"]))
    ]
    for path, document in granted:
        grant(transport, path, document)
    yield transport
    for path, document in granted:
        transport.call("DELETE", f"{path}/{document['metadata']['name']}", doing="take back")


def grant(transport: Transport, path: str, document: dict[str, Any]) -> None:
    answer = transport.call(
        "PATCH",
        f"{path}/{document['metadata']['name']}",
        doing="grant",
        body=document,
        params={"fieldManager": "owner"},
        content_type=APPLY_PATCH,
    )
    assert answer.status in (200, 201), answer.body


@pytest.fixture
def elsewhere(scene: Scene, access: ClusterAccess, admin: Transport) -> Elsewhere:
    """Let the other cluster be a served one, as the executor may use it."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    path = f"{ACCOUNTS}/changecontrol-executor/token"
    token = admin.call("POST", path, doing="get a token", body=request).body["status"]["token"]
    text = kubeconfig(url=access.server, authority=access.ca_pem, token=token)
    found = elsewhere_of(scene)
    opened: Any = open_cluster(credential="env:KUBECONFIG", secrets=FakeSecrets({"env:KUBECONFIG": text}))
    scene.others[CREDENTIAL] = opened
    return found


def until(*states: str) -> Rehearsal:
    """Tick in real time until the newest rehearsal is in one of the states."""
    ends_at = time.monotonic() + WAIT_SECONDS
    while (found := Rehearsal.objects.latest("pk")).state not in states:
        assert time.monotonic() < ends_at, (found.state, found.sentence, found.trouble)
        if not engine.drain(RehearsalRun(), budget_seconds=10):
            time.sleep(0.1)
    return found


def names(admin: Transport, plural: str = "namespaces") -> set[str]:
    answer = admin.call("GET", f"/api/v1/{plural}", doing="list")
    return {item["metadata"]["name"] for item in answer.body["items"]}


def test_the_role_grants_exactly_what_is_asked_for() -> None:
    role = next(yaml.safe_load_all((DEPLOY / "rbac-rehearsal.yaml").read_text()))

    granted = {
        Right(verb=verb, group=group, resource=resource)
        for rule in role["rules"]
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }

    assert granted == set(NAMESPACE_RIGHTS)


@pytest.mark.slow
def test_a_whole_rehearsal_needs_no_other_right(elsewhere: Elsewhere, admin: Transport) -> None:
    before = names(admin)
    rehearsal = elsewhere.ask()

    up = until("up", "failed")
    during = names(admin)

    assert (up.state, up.problem) == ("up", "")
    assert [one["is_healthy"] for one in up.workloads] == [True, True]
    assert during - before == {rehearsal.namespace}

    elsewhere.take_down(up)
    gone = until("gone", "left")

    assert (gone.state, gone.leftovers, names(admin)) == ("gone", "", before)
