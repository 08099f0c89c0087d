"""A practice estate for the tests of this folder, and a namespace of its own for each."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from deployments.practice.server import PracticeServer
from tests.contracts.kubernetes.client import Answer, Client

_NUMBERS = itertools.count(1)
SPEED = 20.0


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A namespace of a running practice estate."""

    server: PracticeServer
    client: Client
    namespace: str

    def path(self, plural: str, name: str = "", *, group: str = "apps/v1") -> str:
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def deployment(
        self, name: str = "odoo", *, image: str = "registry.example/odoo:19.0-1", **spec: Any
    ) -> dict[str, Any]:
        """Return a manifest; `spec` is merged over the usual one."""
        labels = {"app": name, "changecontrol.io/cohort": "north"}
        container = {"name": "odoo", "image": image, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                **spec,
            },
        }

    def apply(self, manifest: dict[str, Any], *, manager: str = "changecontrol", **params: str) -> Answer:
        name = manifest["metadata"]["name"]
        return self.client.apply(self.path("deployments", name), manifest, manager=manager, **params)

    def settled(self, name: str = "odoo", *, seconds: float = 60) -> dict[str, Any]:
        """Wait until the deployment is what it was told to be; return it."""

        def holds(answer: Answer) -> bool:
            status, wanted = answer.body["status"], answer.body["spec"]["replicas"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            return counts == [wanted] * 3 and status["observedGeneration"] == answer.body["metadata"]["generation"]

        answer = self.client.until(self.path("deployments", name), holds, seconds=seconds)
        assert holds(answer), answer.body["status"]
        body: dict[str, Any] = answer.body
        return body

    def pods(self, **params: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.client.ask("GET", self.path("pods", group="v1"), **params).body["items"]
        return items

    def until_pods(self, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        answer = self.client.until(self.path("pods", group="v1"), lambda found: holds(found.body["items"]))
        items: list[dict[str, Any]] = answer.body["items"]
        assert holds(items), [pod["status"] for pod in items]
        return items


@pytest.fixture(scope="session")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeServer]:
    with PracticeServer.start(state=tmp_path_factory.mktemp("estate"), speed=SPEED) as server:
        yield server


def client_of(server: PracticeServer) -> Client:
    return Client(server.url, ssl.create_default_context(cafile=str(server.state / "ca.crt")), server.admin_token)


@contextmanager
def rehearsal_on(server: PracticeServer) -> Iterator[Rehearsal]:
    """Make a namespace of its own on a running estate; faults and namespace go at the end."""
    client = client_of(server)
    namespace = f"shop-{next(_NUMBERS)}"
    client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    bundle = f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt"
    client.until(bundle, lambda answer: answer.status == 200)
    yield Rehearsal(server, client, namespace)
    client.ask("DELETE", "/practice/faults")
    client.ask("DELETE", f"/api/v1/namespaces/{namespace}")
    client.close()


@pytest.fixture
def rehearsal(practice: PracticeServer) -> Iterator[Rehearsal]:
    with rehearsal_on(practice) as made:
        yield made
