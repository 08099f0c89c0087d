"""What both the practice estate and a real cluster must answer: run against the estate, and against `TEST_KUBECONFIG`.

The cluster's credential must be a token or a client certificate inline. Everything happens in one namespace, which is
deleted afterwards.
"""

from __future__ import annotations

import base64
import os
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contracts.kubernetes.client import MERGE, Client
from tests.contracts.kubernetes.normal import normal
from tests.contracts.kubernetes.replay import RECORDED
from tests.contracts.named import NAMED, named_kubeconfig

_IMAGE = os.environ.get("TEST_IMAGE", "registry.k8s.io/pause:3.10")


def _client_from(text: str, folder: Path) -> Client:
    document = yaml.safe_load(text)
    context = next(entry["context"] for entry in document["contexts"] if entry["name"] == document["current-context"])
    cluster = next(entry["cluster"] for entry in document["clusters"] if entry["name"] == context["cluster"])
    user = next(entry["user"] for entry in document["users"] if entry["name"] == context["user"])
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    trust = ssl.create_default_context(cadata=authority)
    # A certificate goes before a token: who presents another token must not present it.
    bare = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        pair = folder / "client.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(base64.b64decode(user["client-key-data"]) + base64.b64decode(user["client-certificate-data"]))
        trust.load_cert_chain(pair)
    return Client(cluster["server"], trust, user.get("token"), bare)


@pytest.fixture(
    scope="module",
    params=["practice", NAMED],
)
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, str]]:
    """Yield a client and a namespace of its own."""
    if request.param == "practice":
        client: Client = request.getfixturevalue("practice_client")
    else:
        request.getfixturevalue("named_node")
        client = _client_from(named_kubeconfig(), tmp_path_factory.mktemp("cluster"))
    namespace = f"changecontrol-contract-{uuid.uuid4().hex[:8]}"
    made = client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert made.status == 201, made.body
    client.until(f"/api/v1/namespaces/{namespace}/serviceaccounts/default", lambda answer: answer.status == 200)
    yield client, namespace
    client.ask("DELETE", f"/api/v1/namespaces/{namespace}")
    client.close()


def _deployment(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "odoo", "image": _IMAGE, "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
    }


def _path(namespace: str, name: str = "") -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments" + (f"/{name}" if name else "")


# Recorded requests that refuse, read or rehearse only, and need nothing but the deployment `odoo-web`.
_HARMLESS = (16, 20, 21, 22, 23, 34, 35, 36)


@pytest.mark.parametrize("number", _HARMLESS)
def test_harmless_recorded_request_is_answered_as_recorded(space: tuple[Client, str], number: int) -> None:
    client, namespace = space
    entry = RECORDED[number]
    request = entry["request"]
    body = request["body"]
    if body is not None and "namespace" in body["metadata"]:
        body = {**body, "metadata": {**body["metadata"], "namespace": namespace}}
    token = {"admin": "", "limited": "no-such-token"}[entry["as"]]

    answer = client.ask(
        request["method"], request["path"].replace("/shop/", f"/{namespace}/"), body,
        content_type=request["content_type"] or "application/json", token=token, **request["params"],
    )  # fmt: skip

    assert answer.status == entry["response"]["status"]
    expected = normal(entry["response"]["body"])
    observed = normal(answer.body)
    if answer.status >= 400:
        assert {key: observed.get(key) for key in ("reason", "code", "details")} == {
            key: expected.get(key) for key in ("reason", "code", "details")
        }
        assert observed["message"].replace(namespace, "shop") == expected["message"]
    else:
        assert observed["spec"] == expected["spec"]
        assert observed["metadata"]["managedFields"] == expected["metadata"]["managedFields"]


def test_second_manager_conflicts_until_it_forces(space: tuple[Client, str]) -> None:
    client, namespace = space
    path = _path(namespace, "owned")
    client.apply(path, _deployment("owned", namespace, replicas=0))

    refused = client.apply(path, _deployment("owned", namespace, replicas=1), manager="other")
    forced = client.apply(path, _deployment("owned", namespace, replicas=1), manager="other", force="true")

    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert [cause["field"] for cause in refused.body["details"]["causes"]] == [".spec.replicas"]
    owners = {
        entry["manager"]: "f:replicas" in entry["fieldsV1"]["f:spec"]
        for entry in forced.body["metadata"]["managedFields"]
        if entry["operation"] == "Apply"
    }
    assert owners == {"changecontrol": False, "other": True}


def test_deployment_becomes_available_with_its_generation_observed(space: tuple[Client, str]) -> None:
    client, namespace = space
    path = _path(namespace, "runs")
    client.apply(path, _deployment("runs", namespace))

    answer = client.until(path, lambda answer: answer.body.get("status", {}).get("availableReplicas") == 1, seconds=90)

    status = answer.body["status"]
    assert status["observedGeneration"] == answer.body["metadata"]["generation"]
    assert (status["replicas"], status["updatedReplicas"], status["readyReplicas"]) == (1, 1, 1)
    assert {entry["type"]: entry["status"] for entry in status["conditions"]} == {
        "Available": "True",
        "Progressing": "True",
    }


def test_stale_version_is_refused(space: tuple[Client, str]) -> None:
    client, namespace = space
    path = _path(namespace, "stale")
    body = client.apply(path, _deployment("stale", namespace, replicas=0)).body
    client.ask("PATCH", path, {"metadata": {"annotations": {"a": "1"}}}, content_type=MERGE)

    answer = client.ask("PUT", path, body)

    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in answer.body["message"]


def test_account_may_do_what_its_role_says_and_no_more(space: tuple[Client, str]) -> None:
    client, namespace = space
    core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    client.ask("POST", f"{core}/serviceaccounts", {"metadata": {"name": "executor"}})
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list", "patch"]}]
    client.ask("POST", f"{rbac}/roles", {"metadata": {"name": "executor"}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "executor"}
    subjects = [{"kind": "ServiceAccount", "name": "executor", "namespace": namespace}]
    client.ask(
        "POST", f"{rbac}/rolebindings", {"metadata": {"name": "executor"}, "roleRef": reference, "subjects": subjects}
    )
    asked = client.ask("POST", f"{core}/serviceaccounts/executor/token", {"spec": {"expirationSeconds": 600}})
    token = asked.body["status"]["token"]

    listed = client.ask("GET", _path(namespace), token=token)
    refused = client.ask("GET", f"{core}/secrets", token=token)

    assert listed.status == 200
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["message"] == (
        f'secrets is forbidden: User "system:serviceaccount:{namespace}:executor" cannot list resource "secrets" '
        f'in API group "" in the namespace "{namespace}"'
    )
    for verb, allowed in (("patch", True), ("delete", False)):
        attributes = {"group": "apps", "resource": "deployments", "verb": verb, "namespace": namespace}
        review = client.ask(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
            token=token,
        )  # fmt: skip
        assert review.body["status"]["allowed"] is allowed
