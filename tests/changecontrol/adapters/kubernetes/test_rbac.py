"""`deploy/rbac.yaml` grants what the adapter calls, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from changecontrol.adapters.kubernetes.cluster import Cluster
from changecontrol.errors import Transient
from changecontrol.ports import INVENTORY_LABEL, SUPPORTED_KINDS, ObjectRef, Right, rights_for
from tests.changecontrol.adapters.api_server import ApiServer
from tests.changecontrol.adapters.https_server import HttpsServer, Reply, Request

RBAC = Path(__file__).resolve().parents[4] / "deploy" / "rbac.yaml"
INVENTORY = "acme.production"
# Open to every signed-in account by the cluster's own roles (system:discovery, system:basic-user).
OPEN_TO_ALL = {"selfsubjectrulesreviews", "selfsubjectaccessreviews"}


def granted() -> set[Right]:
    (role,) = [document for document in yaml.safe_load_all(RBAC.read_text()) if document["kind"] == "ClusterRole"]
    return {
        Right(verb=verb, group=group, resource=resource)
        for rule in role["rules"]
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def called(requests: Iterable[Request], *, created: set[str]) -> Iterator[Right]:
    """Translate requests as an API server authorises them."""
    for request in requests:
        parts = [part for part in request.path.split("/") if part]
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:]) if len(parts) > 3 else ("", [])
        if rest and rest[0] == "namespaces":
            rest = rest[2:]
        if not rest or rest[0] in OPEN_TO_ALL:
            continue
        resource, names = rest[0], rest[1:]
        verb = {"GET": "get" if names else "list", "PATCH": "patch", "DELETE": "delete"}[request.method]
        yield Right(verb, group, resource, "/".join(names[1:]))
        if request.path in created and request.method == "PATCH":
            yield Right("create", group, resource)


def everything() -> tuple[Right, ...]:
    return rights_for(written=SUPPORTED_KINDS, deleted=SUPPORTED_KINDS, listed=SUPPORTED_KINDS)


def drive(cluster: Cluster) -> None:
    """Call every operation of the port with every supported kind."""
    cluster.observe_version()
    for api_version, kind in SUPPORTED_KINDS:
        metadata = {"name": "one", "namespace": "shop", "labels": {INVENTORY_LABEL: INVENTORY}}
        manifest: dict[str, Any] = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
        ref = ObjectRef.of(manifest)
        cluster.ensure_applied(manifest, dry_run=True)
        cluster.ensure_applied(manifest)
        cluster.observe_object(ref)
    cluster.observe_workloads(namespace="shop", inventory=INVENTORY)
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        cluster.observe_workload(ObjectRef("apps/v1", kind, "shop", "one"))
    for ref in cluster.observe_inventory(namespace="shop", inventory=INVENTORY, kinds=SUPPORTED_KINDS):
        cluster.ensure_deleted(ref, inventory=INVENTORY)
    cluster.observe_served(SUPPORTED_KINDS)
    cluster.observe_rights(namespace="shop", rights=everything())


def test_grants_are_exactly_the_calls_made(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    created: set[str] = set()

    def note_what_is_created(request: Request) -> Reply | None:
        if request.method == "PATCH" and request.path not in api.objects:
            created.add(request.path)
        return None

    api.fault = note_what_is_created

    drive(cluster)

    assert set(called(server.requests, created=created)) == granted()
    assert api.objects == {}


def test_preflight_asks_for_exactly_the_grants() -> None:
    assert set(everything()) == granted()


def test_what_is_only_listed_is_not_asked_to_be_written() -> None:
    jobs = [("batch/v1", "Job")]
    watching = set(rights_for())

    def asked(**kinds: Any) -> set[str]:
        return {right.verb for right in set(rights_for(**kinds)) - watching}

    assert asked(listed=jobs) == {"list"}
    assert asked(written=jobs) == {"create", "get", "patch"}
    assert asked(deleted=jobs) == {"delete", "get"}


def test_secrets_and_cluster_scoped_kinds_are_not_granted() -> None:
    resources = {right.resource for right in granted()}

    assert not resources & {"*", "secrets", "namespaces", "nodes", "roles", "rolebindings", "clusterroles"}
    assert {right.verb for right in granted()} <= {"create", "delete", "get", "list", "patch"}


def test_a_kind_outside_the_table_needs_only_what_watching_needs() -> None:
    assert rights_for(written=[("v1", "Secret")]) == rights_for()


def test_500_deployments_are_looked_at_with_few_requests(cluster: Cluster, api: ApiServer, server: HttpsServer) -> None:
    for number in range(500):
        name = f"web-{number}"
        labels = {INVENTORY_LABEL: INVENTORY}
        deployment = {"metadata": {"name": name, "namespace": "shop", "labels": labels, "uid": f"d{number}"}}
        api.put(f"/apis/apps/v1/namespaces/shop/deployments/{name}", {**deployment, "spec": {"replicas": 1}})

    statuses = cluster.observe_workloads(namespace="shop", inventory=INVENTORY)

    assert len(statuses) == 500
    # Two discoveries, one page each of Deployments, StatefulSets, DaemonSets, Pods and ReplicaSets.
    assert len(server.requests) == 7


def test_failed_list_leaves_no_partial_answer(cluster: Cluster, api: ApiServer) -> None:
    api.put(
        "/apis/apps/v1/namespaces/shop/deployments/a", {"metadata": {"name": "a", "labels": {INVENTORY_LABEL: "x"}}}
    )
    api.fault = lambda request: Reply(503, "") if request.path.endswith("/pods") else None

    with pytest.raises(Transient, match=r"could not list Pod in shop now \(HTTP 503\)\."):
        cluster.observe_workloads(namespace="shop", inventory="x")
