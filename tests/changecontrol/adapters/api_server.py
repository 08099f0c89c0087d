"""An API server of a few lines for the scripted HTTPS server: it stores objects, discovers kinds, fails when told to.

It judges nothing. What a real API server answers is replayed from the recorded transcripts, or asked of the practice
estate.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from changecontrol.ports import SUPPORTED_KINDS
from tests.changecontrol.adapters.https_server import Reply, Request

EXTRA = {
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("apps/v1", "ControllerRevision"): "controllerrevisions",
}


def status_answer(code: int, *, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> Reply:
    body: dict[str, Any] = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    if causes is not None:
        body["details"] = {"causes": causes}
    return Reply(code, body)


@dataclass(slots=True)
class ApiServer:
    """Answers requests from `objects`; `fault` looks at each request first and may answer instead."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    fault: Callable[[Request], Reply | None] = lambda request: None
    rights: list[dict[str, Any]] = field(default_factory=list)
    reviews: Callable[[dict[str, Any]], bool] = lambda attributes: False
    page_size: int = 500
    version: int = 100

    def __call__(self, request: Request) -> Reply:
        return self.fault(request) or self.act(request)

    def act(self, request: Request) -> Reply:
        parts = [part for part in request.path.split("/") if part]
        if request.path == "/readyz":
            return Reply(200, "ok")
        if request.path == "/version":
            return Reply(200, {"gitVersion": "v1.36.2"})
        if parts[-1] in ("selfsubjectrulesreviews", "selfsubjectaccessreviews"):
            return self._review(request)
        if (parts[0], len(parts)) in (("api", 2), ("apis", 3)):
            return _discovery("/".join(parts[1:]))
        return self._object(request, is_list=len(parts) == (5 if parts[0] == "api" else 6))

    def put(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Store an object as it is, with a uid and a version."""
        self.version += 1
        stored = copy.deepcopy(manifest)
        stored["metadata"] |= {"resourceVersion": str(self.version)}
        stored["metadata"].setdefault("uid", f"uid-{self.version}")
        stored["metadata"].setdefault("generation", 1)
        self.objects[path] = stored
        return stored

    def _object(self, request: Request, *, is_list: bool) -> Reply:
        if is_list:
            return self._list(request)
        known = self.objects.get(request.path)
        if request.method == "PATCH" and "dryRun" in request.params:
            return Reply(200, known or request.body)
        if request.method == "PATCH":
            return Reply(200 if known else 201, self.put(request.path, request.body))
        if known is None:
            return status_answer(404, reason="NotFound", message="not found", causes=[])
        if request.method == "DELETE":
            del self.objects[request.path]
        return Reply(200, known)

    def _list(self, request: Request) -> Reply:
        name, _, value = request.params.get("labelSelector", "").partition("=")
        items = [
            {key: entry for key, entry in item.items() if key not in ("apiVersion", "kind")}
            for path, item in sorted(self.objects.items())
            if path.rpartition("/")[0] == request.path
            and (not name or item["metadata"].get("labels", {}).get(name) == value)
        ]
        start = int(request.params.get("continue", "0"))
        end = start + min(self.page_size, int(request.params["limit"]))
        following = str(end) if end < len(items) else ""
        return Reply(200, {"kind": "List", "items": items[start:end], "metadata": {"continue": following}})

    def _review(self, request: Request) -> Reply:
        if request.path.endswith("selfsubjectrulesreviews"):
            return Reply(201, {**request.body, "status": {"incomplete": False, "resourceRules": self.rights}})
        allowed = self.reviews(request.body["spec"]["resourceAttributes"])
        return Reply(201, {**request.body, "status": {"allowed": allowed}})


def _discovery(api_version: str) -> Reply:
    served = {**SUPPORTED_KINDS, **EXTRA}
    resources = [
        {"kind": kind, "name": name, "namespaced": True}
        for (version, kind), name in served.items()
        if version == api_version
    ]
    if api_version == "v1":
        resources += [{"kind": "Namespace", "name": "namespaces", "namespaced": False}]
    if not resources:
        return Reply(404, "404 page not found\n")
    return Reply(200, {"kind": "APIResourceList", "groupVersion": api_version, "resources": resources})


def recorded(case: str, note: str) -> dict[str, Any]:
    """Return one request and answer of the recorded API server."""
    path = Path(__file__).resolve().parents[2] / "contracts" / "adapters" / "answers.jsonl"
    for line in path.read_text().splitlines():
        transcript: dict[str, Any] = json.loads(line)
        if transcript["case"] == case and transcript["note"] == note:
            return transcript
    raise LookupError(f"No transcript of {case}: {note}.")
