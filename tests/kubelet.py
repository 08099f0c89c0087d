"""A node for tests: it runs the command of each pod as a process of this machine, and says how that ended.

The practice estate, and `Node` in a cluster without nodes, start pods and wait; this plays what they leave out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from changecontrol.adapters.kubernetes.transport import Transport
from changecontrol.errors import Transient
from tests.node import Node, listed
from tests.plugin import ROOT

LOOK_SECONDS = 0.1
MERGE_PATCH = "application/merge-patch+json"


class Kubelet:
    """Runs the pods of one namespace. `environment` stands for what their Secret holds.

    A `node` that tests play leaves it to this when those pods end.
    """

    def __init__(
        self, admin: Transport, *, namespace: str, environment: Mapping[str, str], node: Node | None = None
    ) -> None:
        self._admin = admin
        self._lent = node.lent if node is not None else set[str]()
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._environment = environment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet")
        self.begun: dict[str, subprocess.Popen[bytes]] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        self._lent.add(self._namespace)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for child in self.begun.values():
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._lent.discard(self._namespace)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            # A server that is away for a while is asked again; the pods go on meanwhile.
            with suppress(Transient):
                self._look_at_all()

    def _look_at_all(self) -> None:
        pods = listed(self._admin, self._path)
        for pod in pods:
            self._look(pod)
        # The practice estate does not wait for its nodes: a pod that is gone has been told to end.
        for name in set(self.begun) - {pod["metadata"]["name"] for pod in pods}:
            self._end(name)

    def _look(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if pod["status"].get("phase") != "Running":
            return
        if name not in self.begun:
            self.begun[name] = self._begin(pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._end(name)
        if (code := self.begun[name].poll()) is not None:
            self._tell(name, code=code)

    def _end(self, name: str) -> None:
        if name not in self._told and self.begun[name].poll() is None:
            self._told.add(name)
            self.begun[name].terminate()

    def _begin(self, pod: dict[str, Any]) -> subprocess.Popen[bytes]:
        container = pod["spec"]["containers"][0]
        assert container["command"][0] == "python"
        told = {one["name"]: one["value"] for one in container["env"] if one["name"] != "RECOVERY_SANDBOXES"}
        environment = {**os.environ, **told, **self._environment}
        command = [sys.executable, *container["command"][1:]]
        return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)

    def _tell(self, name: str, *, code: int) -> None:
        is_killed = code < 0
        ended = {"exitCode": 128 - code if is_killed else code, "reason": "Completed" if code == 0 else "Error"}
        if is_killed:
            ended["reason"] = "OOMKilled"
        status = {
            "phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [
                {
                    "name": "job",
                    "image": "job",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": ended},
                }
            ],
        }
        self._admin.call(
            "PATCH", f"{self._path}/{name}/status", doing="tell", body={"status": status}, content_type=MERGE_PATCH
        )
