"""Sends the recorded requests again, in their order, and pairs each answer with the recorded one.

What nobody recorded but the recording shows the effect of (waiting, a second client's write, a pod ended by hand) is
done between the requests, in `_BEFORE`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contracts.kubernetes.client import MERGE, Answer, Client
from tests.contracts.kubernetes.normal import normal, of_interest

RECORDED = [json.loads(line) for line in Path(__file__).with_name("transcripts.jsonl").read_text().splitlines()]
_DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/odoo-web"
_CONFIG = "/api/v1/namespaces/shop/configmaps"
_JOBS = "/apis/batch/v1/namespaces/shop/jobs"
_PODS = "/api/v1/namespaces/shop/pods"

SAMPLES = range(40, 52)
"""Statuses seen while one rollout went on: which of them a replay catches is chance, what holds for all is tested."""
_POLLED = frozenset(
    {26, 27, 28, 52, 53, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 67, 73, 77, 80, 83, 89, 90, 92, 110, 115}
)
"""Answers that come true after a while."""


@dataclass(slots=True)
class Replay:
    """The answers so far, by their place in the recording, and what a watch saw meanwhile."""

    client: Client
    answers: dict[int, Answer] = field(default_factory=dict)
    rollout: list[dict[str, Any]] = field(default_factory=list)
    failing_job: list[dict[str, Any]] = field(default_factory=list)
    raw_events: list[dict[str, Any]] = field(default_factory=list)
    limited_token: str = "none"
    list_version: str = ""

    def run(self) -> None:
        for number in range(len(RECORDED)):
            if number in _BEFORE:
                _BEFORE[number](self)
            self.answers[number] = self._send(number)

    def _send(self, number: int) -> Answer:
        request = RECORDED[number]["request"]
        path, body, params = request["path"], request["body"], dict(request["params"])
        who = RECORDED[number]["as"]
        token = {"admin": "", "anonymous": None, "limited": self.limited_token}[who]
        if number == 72:
            body = self.answers[70].body
        if number == 85:
            name = self._pod_named("odoo-web-")
            path, body = f"{_PODS}/{name}/eviction", {**body, "metadata": {"name": name, "namespace": "shop"}}
        if number == 96:
            params["continue"] = self.answers[95].body["metadata"]["continue"]
        if number == 99:
            params["resourceVersion"] = self.list_version
        kind = request["content_type"] or "application/json"
        if number in _POLLED:
            wanted = of_interest(number, normal(RECORDED[number]["response"]["body"]))
            return self.client.until(
                path, lambda answer: of_interest(number, normal(answer.body)) == wanted, seconds=6, **params
            )
        answer = self.client.ask(request["method"], path, body, content_type=kind, token=token, **params)
        if number == 103:
            self.limited_token = answer.body["status"]["token"]
        return answer

    def _pod_named(self, prefix: str) -> str:
        pods = self.client.ask("GET", _PODS).body["items"]
        return next(str(pod["metadata"]["name"]) for pod in pods if pod["metadata"]["name"].startswith(prefix))

    def settled(self, name: str) -> None:
        """Wait until a deployment has reached what it was told."""

        def holds(answer: Answer) -> bool:
            status, wanted = answer.body["status"], answer.body["spec"]["replicas"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            is_observed = status.get("observedGeneration") == answer.body["metadata"]["generation"]
            return is_observed and counts == [wanted] * 3 and status.get("terminatingReplicas") == 0

        self.client.until(_DEPLOYMENT.replace("odoo-web", name), holds)

    def tidy(self) -> None:
        """Take away what only a warning was wanted from."""
        path = _DEPLOYMENT.replace("odoo-web", "odoo-warn")
        self.settled("odoo-warn")
        self.client.ask("DELETE", path, propagationPolicy="Foreground")
        self.client.until(path, lambda answer: answer.status == 404)
        self.settled("odoo-web")

    def read_events(self) -> None:
        """Keep every event there is when the recording asked for the first page of them."""
        self.raw_events = self.client.ask("GET", "/api/v1/namespaces/shop/events").body["items"]

    @property
    def events(self) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = of_interest(65, normal({"kind": "EventList", "items": self.raw_events}))
        return found

    def watch_rollout(self) -> None:
        """Collect every status of the rollout that request 39 began."""
        version = self.answers[39].body["metadata"]["resourceVersion"]
        self.settled("odoo-web")
        self.rollout = self._watched(f"{_DEPLOYMENT.rpartition('/')[0]}", "odoo-web", version)

    def _watched(self, path: str, name: str, version: str) -> list[dict[str, Any]]:
        text = self.client.ask(
            "GET", path, watch="1", resourceVersion=version, timeoutSeconds="1", fieldSelector=f"metadata.name={name}"
        ).body
        return [json.loads(line)["object"] for line in text.splitlines()]

    def finish_pod(self, job: str, phase: str) -> None:
        """End a job's pod by hand: nothing schedules it, as in the recording."""
        pods = self.client.until(
            _PODS, lambda answer: bool(answer.body["items"]), labelSelector=f"job-name={job}"
        ).body["items"]
        path = f"{_PODS}/{pods[0]['metadata']['name']}/status"
        self.client.ask("PATCH", path, {"status": {"phase": phase}}, content_type=MERGE)

    def fail_job(self) -> None:
        version = self.answers[92].body["metadata"]["resourceVersion"]
        self.finish_pod("migrate-bad", "Failed")
        self.client.until(f"{_JOBS}/migrate-bad", lambda answer: answer.body["status"].get("failed") == 1)
        self.failing_job = self._watched(_JOBS, "migrate-bad", version)

    def annotate(self) -> None:
        """Write as a second client does, so that the next writer's version is stale."""
        self.client.ask("PATCH", _DEPLOYMENT, {"metadata": {"annotations": {"b": "1"}}}, content_type=MERGE)

    def lift_quota(self) -> None:
        self.client.ask("DELETE", "/api/v1/namespaces/shop/resourcequotas/tenant")

    def make_configs(self) -> None:
        for number in range(5):
            body = {"metadata": {"name": f"c{number}", "labels": {"set": "x"}}, "data": {"k": str(number)}}
            self.client.ask("POST", _CONFIG, body)

    def change_configs(self) -> None:
        self.list_version = self.answers[96].body["metadata"]["resourceVersion"]
        self.client.ask("PATCH", f"{_CONFIG}/c0", {"data": {"k": "z"}}, content_type=MERGE)
        self.client.ask("DELETE", f"{_CONFIG}/c1")


_BEFORE: dict[int, Callable[[Replay], None]] = {
    30: lambda replay: replay.settled("odoo-web"),
    39: lambda replay: replay.tidy(),
    52: lambda replay: replay.watch_rollout(),
    65: lambda replay: replay.read_events(),
    72: lambda replay: replay.annotate(),
    76: lambda replay: replay.settled("odoo-web"),
    79: lambda replay: replay.settled("odoo-green"),
    88: lambda replay: replay.lift_quota(),
    90: lambda replay: replay.finish_pod("migrate-ok", "Succeeded"),
    93: lambda replay: replay.fail_job(),
    95: lambda replay: replay.make_configs(),
    99: lambda replay: replay.change_configs(),
}  # fmt: skip
