"""The clusters the Kubernetes contract runs against: the fake, the practice estate and, where named, a real one."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from changecontrol.adapters.fakes.kubernetes import FakeKubernetes
from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, Transport
from changecontrol.ports import Kubernetes
from deployments.practice.server import PracticeServer

WAIT_SECONDS = 120.0
PINNED = tuple(f"registry.example/odoo:17.0-r{n}@sha256:{str(n) * 64}" for n in (1, 2))


@dataclass(frozen=True, slots=True)
class World:
    """One cluster with an empty namespace, and what only its owner can do to it."""

    cluster: Kubernetes
    namespace: str
    apply_as: Callable[[str, dict[str, Any]], Any]
    pause: Callable[[], None]
    images: tuple[str, ...] = PINNED
    bad_image: str = "registry.invalid/odoo:bad@sha256:" + "b" * 64

    def eventually(self, is_so: Callable[[], bool]) -> bool:
        """Wait until it is so, or say that it never was."""
        until = time.monotonic() + WAIT_SECONDS
        while not is_so():
            if time.monotonic() > until:
                return False
            self.pause()
        return True


def fake_world() -> World:
    fake = FakeKubernetes(namespaces=("shop",), ready_after=timedelta(seconds=30))
    fake.spoil_image("registry.invalid/")

    def apply_as(manager: str, manifest: dict[str, Any]) -> Any:
        return fake.apply_as(manager, manifest)

    return World(cluster=fake, namespace="shop", apply_as=apply_as, pause=lambda: fake.advance(timedelta(seconds=10)))


@contextmanager
def served_world(text: str, *, images: tuple[str, ...] = PINNED) -> Iterator[World]:
    """Open the real adapter on a kubeconfig, in a namespace made for this test and removed afterwards."""
    transport = Transport(lambda: parse_kubeconfig(text), connect_seconds=5, read_seconds=20)
    namespace = f"contract-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    made = transport.call("POST", "/api/v1/namespaces", doing="make a namespace", body=body)
    assert made.status == 201, made.body

    def apply_as(manager: str, manifest: dict[str, Any]) -> Any:
        group = manifest["apiVersion"]
        base = f"/apis/{group}" if "/" in group else f"/api/{group}"
        path = f"{base}/namespaces/{namespace}/{manifest['kind'].lower()}s/{manifest['metadata']['name']}"
        answer = transport.call(
            "PATCH",
            path,
            doing="apply",
            params={"fieldManager": manager},
            body=manifest,
            content_type=APPLY_PATCH,
        )
        assert answer.status in (200, 201), answer.body
        return answer.body

    cluster = open_cluster(credential="env:KUBECONFIG", secrets=FakeSecrets({"env:KUBECONFIG": text}))
    try:
        yield World(
            cluster=cluster, namespace=namespace, apply_as=apply_as, pause=lambda: time.sleep(0.05), images=images
        )
    finally:
        transport.call("DELETE", f"/api/v1/namespaces/{namespace}", doing="remove the namespace")


@contextmanager
def practice_kubeconfig(folder: Path) -> Iterator[str]:
    with PracticeServer.start(state=folder, speed=50.0) as server:
        yield server.kubeconfig.read_text()


def named_images() -> tuple[str, ...]:
    """Return two images, pinned by digest, that the named cluster can pull: `TEST_IMAGES=one@sha256:…,two@sha256:…`.

    A cluster without nodes pulls none.
    """
    told = os.environ.get("TEST_IMAGES", "")
    return tuple(told.split(",")) if told else PINNED
