"""The practice estate as one application: requests in, answers out. It knows no sockets; `server.py` gives it one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from deployments.practice import decoding, discovery, status
from deployments.practice.clock import PracticeClock
from deployments.practice.controllers.manager import Manager
from deployments.practice.controllers.nodes import node_bodies
from deployments.practice.controllers.world import Delays, World
from deployments.practice.deletion import Deletions
from deployments.practice.faults import Fault, Faults
from deployments.practice.http import Answer, Request, Response
from deployments.practice.metrics import Metrics
from deployments.practice.objects import Objects, Options
from deployments.practice.prometheus import answer_query
from deployments.practice.rbac import Access, Asked, User
from deployments.practice.registry import Registry
from deployments.practice.rest import Rest, answered
from deployments.practice.status import ApiError
from deployments.practice.store import Body, Store
from deployments.practice.watch import Watches

log = logging.getLogger(__name__)

_PLAIN = "text/plain; charset=utf-8"
_SYSTEM_NAMESPACES = ("default", "kube-system")


class Estate:
    """Store, controllers, access, faults and metrics behind one `handle`."""

    def __init__(
        self, *, admin_token: str, clock: PracticeClock, delays: Delays, authority: str, address: str = ""
    ) -> None:
        self.store = Store()
        self.registry = Registry()
        self.clock = clock
        self.address = address
        self.objects = Objects(self.store, self.registry, clock)
        self.deletions = Deletions(self.objects)
        self.access = Access(self.store, self.registry, clock, admin_token)
        self.watches = Watches(self.store)
        self.world = World(self.objects, self.deletions, delays, authority=authority)
        self.manager = Manager(self.world)
        self.metrics = Metrics(self.store, self.registry, clock)
        self.faults = Faults()
        self.requests: Counter[str] = Counter()
        self._rest = Rest(self.objects, self.deletions, self.access, self.watches)

    def prepare(self) -> None:
        """Make what every cluster has: its nodes and system namespaces."""
        for body in node_bodies():
            if self.store.get(self.registry.of("Node"), "", body["metadata"]["name"]) is None:
                made = self.world.create("Node", "", body)
                self.objects.set_status(made, body["status"], manager="practice-kubelet")
        for name in _SYSTEM_NAMESPACES:
            self.ensure_namespace(name)

    def ensure_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        if self.store.get(self.registry.of("Namespace"), "", name) is None:
            metadata: Body = {"name": name, "labels": dict(labels or {})}
            self.world.create("Namespace", "", {"metadata": metadata})

    def has(self, manifest: Mapping[str, Any]) -> bool:
        """Say whether the object a manifest names exists."""
        kind = self.registry.of_manifest(dict(manifest))
        metadata = manifest.get("metadata") or {}
        namespace = str(metadata.get("namespace") or "default") if kind is not None and kind.is_namespaced else ""
        return kind is not None and self.store.get(kind, namespace, str(metadata.get("name", ""))) is not None

    def ensure_applied(self, manifest: Body, *, manager: str) -> Body:
        """Apply a manifest as a request would, forced: for seeds. Raises `ApiError`."""
        kind = self.registry.of_manifest(manifest)
        if kind is None:
            raise status.bad_request(
                f"no kind {manifest.get('kind')!r} in {manifest.get('apiVersion')!r} is served here"
            )
        metadata = manifest.get("metadata") or {}
        namespace = str(metadata.get("namespace") or "default") if kind.is_namespaced else ""
        config = json.loads(json.dumps(manifest))
        body, _ = self.objects.apply(
            kind, namespace, str(metadata.get("name", "")), config, Options(manager=manager, is_forced=True)
        )
        if kind.kind == "CustomResourceDefinition":
            self.registry.define(body)
        return body

    def handle(self, request: Request) -> Answer:
        """Answer one request; never raises."""
        if self.faults and not request.path.startswith("/practice/"):
            fault = self.faults.strike(request.method, request.path)
            if fault is not None:
                return self._suffer(request, fault)
        return self._respond(request)

    def _suffer(self, request: Request, fault: Fault) -> Answer:
        error = fault.error()
        if error is not None:
            return answered(error.body, error.code, error.headers)
        if fault.kind == "cut-before":
            return Response(is_cut=True)
        if fault.kind == "cut-after":
            self._respond(request)
            return Response(is_cut=True)

        async def later() -> Response:
            await asyncio.sleep(fault.seconds)
            return self._respond(request)

        return later()

    def _respond(self, request: Request) -> Response:
        self.requests[request.method] += 1
        self.manager.note_request()
        try:
            return self._route(request)
        except ApiError as error:
            if error.text is not None:
                return Response(error.code, error.text.encode(), _PLAIN)
            return answered(error.body, error.code, error.headers)
        except Exception:
            log.exception("practice request failed: %s %s", request.method, request.path)
            return answered(status.internal("Internal error occurred: see the practice estate's log").body, 500)

    def _route(self, request: Request) -> Response:
        user = self.access.user_of(request.headers.get("authorization"))
        parts = [part for part in request.path.split("/") if part]
        if parts[:1] == ["practice"]:
            return self._practice(request, user, parts[1:])
        if parts[:3] == ["prometheus", "api", "v1"]:
            self._require_signed_in(user)
            return answer_query(self.metrics, request, parts[3:], now=self.clock.now())
        if parts[:1] == ["api"] and len(parts) > 2 and parts[1] == "v1":
            return self._rest.handle(request, user, "", "v1", parts[2:])
        if parts[:1] == ["apis"] and len(parts) > 3:
            return self._rest.handle(request, user, parts[1], parts[2], parts[3:])
        self.access.require(user, Asked(request.method.lower(), path="/" + "/".join(parts)), None)
        return self._discover(parts)

    def _discover(self, parts: list[str]) -> Response:
        match parts:
            case ["version"]:
                return answered(discovery.VERSION)
            case ["healthz" | "livez" | "readyz"]:
                return Response(200, b"ok", _PLAIN)
            case ["api"]:
                return answered(discovery.versions(self.address))
            case ["apis"]:
                return answered(discovery.groups(self.registry))
            case ["openapi", "v3"]:
                return answered(discovery.open_api_index(self.registry))
            case ["openapi", "v3", *root]:
                found = discovery.open_api(self.registry, "/" + "/".join(root))
            case ["api", "v1"]:
                found = discovery.resources(self.registry, "", "v1")
            case ["apis", group]:
                found = discovery.group(self.registry, group)
            case ["apis", group, version]:
                found = discovery.resources(self.registry, group, version)
            case _:
                found = None
        if found is None:
            raise status.page_not_found()
        return answered(found)

    def _practice(self, request: Request, user: User, parts: list[str]) -> Response:
        if not user.is_admin:
            raise status.ApiError(
                403, "Forbidden", "only the practice estate's admin token may use /practice", details={}
            )
        match (request.method, parts):
            case ("POST", ["faults"]):
                return answered({"faults": self.faults.add(decoding.parsed(request.body))}, 201)
            case ("GET", ["faults"]):
                return answered({"faults": self.faults.shown()})
            case ("DELETE", ["faults"]):
                self.faults.clear()
                return answered({"faults": []})
            case ("GET", ["calls"]):
                return answered({"effects": dict(self.objects.effects), "requests": dict(self.requests)})
            case ("DELETE", ["calls"]):
                self.objects.effects.clear()
                self.requests.clear()
                return answered({"effects": {}, "requests": {}})
            case ("POST", ["tokens", "expire"]):
                self.access.expire_tokens()
                return answered({})
        raise status.page_not_found()

    def _require_signed_in(self, user: User) -> None:
        if user.name == "system:anonymous":
            raise status.unauthorized()

    def snapshot(self) -> str:
        """Return everything worth keeping over a restart, as JSON made of the bytes that objects keep."""
        objects = ",".join(item.full() for item in self.store.every() if item.kind.kind != "Event")
        return f'{{"version":{self.store.version},"objects":[{objects}]}}'

    def restore(self, snapshot: Body) -> None:
        """Take the objects of a snapshot back, definitions first; versions go on from where they were."""
        bodies: list[dict[str, Any]] = snapshot["objects"]
        for body in sorted(bodies, key=lambda body: body["kind"] != "CustomResourceDefinition"):
            version = int(body["metadata"]["resourceVersion"])
            if body["kind"] == "CustomResourceDefinition":
                self.registry.define(body)
            kind = self.registry.of_manifest(body)
            if kind is not None:
                self.store.put(kind, body, version=version)
        self.store.version = int(snapshot["version"])
        self.store.oldest = self.store.version
