"""A node for a cluster that has none: it takes what the scheduler gives it, and says of pods what a kubelet says.

Nothing runs: a pod counts as ready at once, and as ended once it is deleted. Where a `Kubelet` runs a namespace's pods
as processes, that one says how they end.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from changecontrol.adapters.kubernetes.transport import Answer, Transport
from changecontrol.errors import Transient

LABEL = "changecontrol.io/test-node"
LOOK_SECONDS = 0.2
HEARTBEAT_SECONDS = 10.0
NO_REGISTRY = "registry.invalid/"
PODS = "/api/v1/pods"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
ROOM = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "500Gi", "pods": "500"}


class Node:
    """One node, for as long as it is entered. `lent` are the namespaces whose pods a `Kubelet` ends."""

    def __init__(self, admin: Transport) -> None:
        self._admin = admin
        self._name = f"changecontrol-tests-{uuid.uuid4().hex[:8]}"
        self._path = f"/api/v1/nodes/{self._name}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node")
        self._told_at = 0.0
        self.lent: set[str] = set()

    def __enter__(self) -> Self:
        self._clear_away()
        metadata = {"name": self._name, "labels": {LABEL: "true", "kubernetes.io/hostname": self._name}}
        status = {"capacity": ROOM, "allocatable": ROOM, "conditions": [self._ready()]}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status}
        made = self._admin.call("POST", "/api/v1/nodes", doing="join", body=body)
        assert made.status == 201, made.body
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for pod in self._pods():
            self._end(pod)
        self._admin.call("DELETE", self._path, doing="leave")

    def _clear_away(self) -> None:
        """Remove the nodes of tests that were killed: pods given to them never begin."""
        answer = self._admin.call("GET", "/api/v1/nodes", doing="list nodes", params={"labelSelector": LABEL})
        for node in answer.body["items"]:
            told_at = datetime.fromisoformat(node["status"]["conditions"][0]["lastHeartbeatTime"])
            if datetime.now(UTC) - told_at > 3 * timedelta(seconds=HEARTBEAT_SECONDS):
                self._admin.call("DELETE", f"/api/v1/nodes/{node['metadata']['name']}", doing="clear away")

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            # A server that is away for a while is asked again, as every kubelet does.
            with suppress(Transient):
                self._look()

    def _look(self) -> None:
        if time.monotonic() - self._told_at > HEARTBEAT_SECONDS:
            self._patch(self._path, {"conditions": [self._ready()]})
            self._told_at = time.monotonic()
        for pod in self._pods():
            self._look_at(pod)

    def _pods(self) -> list[dict[str, Any]]:
        return listed(self._admin, PODS, fieldSelector=f"spec.nodeName={self._name}")

    def _look_at(self, pod: Mapping[str, Any]) -> None:
        metadata, phase = pod["metadata"], pod["status"].get("phase")
        if metadata.get("deletionTimestamp"):
            if phase in ("Succeeded", "Failed") or metadata["namespace"] not in self.lent:
                self._end(pod)
        elif phase == "Pending" and not pod["status"].get("containerStatuses"):
            self._patch(path_of(pod), started(pod))

    def _end(self, pod: Mapping[str, Any]) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        self._admin.call("DELETE", path_of(pod), doing="end a pod", body=options)

    def _patch(self, path: str, status: Mapping[str, Any]) -> Answer:
        return self._admin.call(
            "PATCH", f"{path}/status", doing="tell", body={"status": status}, content_type=STRATEGIC_PATCH
        )

    def _ready(self) -> dict[str, str]:
        return {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now()}


def listed(admin: Transport, path: str, **params: str) -> list[dict[str, Any]]:
    answer = admin.call("GET", path, doing="list", params=params)
    if answer.status != 200:
        # As one that is just starting does.
        raise Transient(f"The server answered {answer.status}.")
    found: list[dict[str, Any]] = answer.body["items"]
    return found


def path_of(pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def started(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of a pod whose containers run, or whose image is nowhere."""
    containers = [_container(one) for one in pod["spec"]["containers"]]
    is_up = all("running" in one["state"] for one in containers)
    conditions = [
        {"type": name, "status": "True" if is_up or name == "Initialized" else "False", "lastTransitionTime": now()}
        for name in ("Initialized", "ContainersReady", "Ready")
    ]
    return {
        "phase": "Running" if is_up else "Pending",
        "startTime": now(),
        "conditions": conditions,
        "containerStatuses": containers,
    }


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    image = str(container["image"])
    is_up = not image.startswith(NO_REGISTRY)
    state: dict[str, Any] = {"running": {"startedAt": now()}}
    if not is_up:
        state = {"waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}}
    told = {"image": image, "imageID": image if is_up else "", "restartCount": 0}
    return {"name": container["name"], "ready": is_up, "started": is_up, "state": state, **told}
