"""Requests for resources: from a path and a method to a right, a verb and an answer."""

from __future__ import annotations

import json
from typing import Any

from deployments.practice import decoding, listing, patches, status
from deployments.practice.clock import stamp
from deployments.practice.deletion import Deletions
from deployments.practice.eviction import evict
from deployments.practice.http import Request, Response
from deployments.practice.kinds import CREATE_ONLY, Kind
from deployments.practice.managed import Writer, after_update
from deployments.practice.objects import Objects, Options
from deployments.practice.rbac import Access, Asked, User
from deployments.practice.schema import type_of
from deployments.practice.selectors import shown
from deployments.practice.store import Body
from deployments.practice.watch import Watches, check_query

_TRUE = ("true", "1", "True")
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = "application/strategic-merge-patch+json"
_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def answered(body: Body, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(
        code, json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n", headers=headers or {}
    )


class Rest:
    """Answers everything below `/api/v1` and `/apis/<group>/<version>` that names a resource."""

    def __init__(self, objects: Objects, deletions: Deletions, access: Access, watches: Watches) -> None:
        self._objects = objects
        self._deletions = deletions
        self._access = access
        self._watches = watches

    def handle(self, request: Request, user: User, group: str, version: str, rest: list[str]) -> Response:
        """Answer one request. `rest` is the path below the group and version. Raises `ApiError`."""
        review = next((entry for entry in CREATE_ONLY if (entry[0], "v1", [entry[2]]) == (group, version, rest)), None)
        if review is not None:
            return self._review(request, user, review)
        namespace = ""
        if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        kind = self._objects.registry.find(group, version, rest[0])
        if kind is None or len(rest) > 3:
            raise status.page_not_found()
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        if subresource and subresource not in kind.subresources:
            raise status.page_not_found()
        verb = _verb(request, name)
        asked = Asked(
            verb, group, kind.plural, subresource, namespace or (name if kind.plural == "namespaces" else ""), name
        )
        self._access.require(user, asked, kind)
        if subresource:
            return self._subresource(request, kind, namespace, name, subresource)
        if verb == "watch":
            return self._watch(request, kind, namespace)
        if verb == "list":
            items, metadata = listing.page(self._objects.store, kind, namespace or None, request.query)
            return Response(200, listing.rendered(kind, items, metadata))
        if verb == "get":
            return Response(200, self._objects.existing(kind, namespace, name).full().encode() + b"\n")
        if verb == "deletecollection":
            return self._delete_all(request, kind, namespace)
        if verb == "delete":
            wishes = _wishes(request)
            is_dry_run = bool(_dry_run(request) or wishes.get("dryRun"))
            return answered(self._deletions.delete(kind, namespace, name, wishes, is_dry_run=is_dry_run))
        return self._write(request, kind, namespace, name)

    def _write(self, request: Request, kind: Kind, namespace: str, name: str) -> Response:
        options = _options(request)
        code = 200
        if request.method != "PATCH":
            _check_body_type(request)
        if request.method == "POST":
            if name:
                raise status.method_not_allowed()
            body, code = self._objects.create(kind, namespace, decoding.parsed(request.body), options), 201
        elif request.method == "PUT":
            body = self._objects.replace(kind, namespace, name, decoding.parsed(request.body), options)
        else:
            patch_type = self._patch_type(request, kind)
            patch = decoding.parsed(request.body)
            if patch_type == _PATCHES[2]:
                body, is_new = self._objects.apply(kind, namespace, name, patch, options)
                code = 201 if is_new else 200
            else:
                body = self._objects.patch(kind, namespace, name, patch_type, patch, options)
        return answered(body, code, _warnings(options))

    def _patch_type(self, request: Request, kind: Kind) -> str:
        found = request.headers.get("content-type", "").partition(";")[0].strip()
        accepted = [*_PATCHES[:2], _PATCHES[2]] if kind.is_custom else [*_PATCHES[:2], _STRATEGIC, _PATCHES[2]]
        if found not in accepted:
            raise status.unsupported_media_type(accepted)
        return found

    def _watch(self, request: Request, kind: Kind, namespace: str) -> Response:
        check_query(kind, request.query)
        query = dict(request.query)
        stream = self._watches.stream(kind, namespace or None, query)
        return Response(200, stream=stream)

    def _delete_all(self, request: Request, kind: Kind, namespace: str) -> Response:
        items, metadata = listing.page(self._objects.store, kind, namespace or None, request.query)
        wishes = _wishes(request)
        is_dry_run = bool(_dry_run(request) or wishes.get("dryRun"))
        for item in items:
            self._deletions.delete(kind, item.namespace, item.name, wishes, is_dry_run=is_dry_run)
        return Response(200, listing.rendered(kind, items, metadata))

    def _subresource(self, request: Request, kind: Kind, namespace: str, name: str, subresource: str) -> Response:
        if subresource == "scale":
            return self._scale(request, kind, namespace, name)
        if subresource == "token" and request.method == "POST":
            return self._token(request, namespace, name)
        if subresource == "eviction" and request.method == "POST":
            return answered(evict(self._objects, self._deletions, namespace, name), 201)
        if subresource == "log" and request.method == "GET":
            item = self._objects.existing(kind, namespace, name)
            line = f"{stamp(self._objects.clock.now())} practice pod {item.name} says nothing more\n"
            return Response(200, line.encode(), "text/plain")
        if subresource in ("status", "finalize"):
            return self._status(request, kind, namespace, name)
        raise status.method_not_allowed()

    def _status(self, request: Request, kind: Kind, namespace: str, name: str) -> Response:
        if request.method == "GET":
            return Response(200, self._objects.existing(kind, namespace, name).full().encode() + b"\n")
        options = _options(request)
        body = decoding.parsed(request.body)
        if request.method == "PUT":
            return answered(self._objects.replace(kind, namespace, name, body, options, subresource="status"))
        patch_type = self._patch_type(request, kind)
        if patch_type == _PATCHES[2]:
            raise status.unsupported_media_type([*_PATCHES[:2], _STRATEGIC])
        return answered(self._objects.patch(kind, namespace, name, patch_type, body, options, subresource="status"))

    def _scale(self, request: Request, kind: Kind, namespace: str, name: str) -> Response:
        item = self._objects.existing(kind, namespace, name)
        if request.method != "GET":
            body = decoding.parsed(request.body)
            if request.method == "PATCH":
                patch_type = self._patch_type(request, kind)
                scale = _scale_of(item.body)
                if patch_type == _PATCHES[0]:
                    body = patches.json_patch(scale, body)
            replicas = (body.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or replicas < 0:
                why = "must be greater than or equal to 0"
                causes = [("FieldValueInvalid", "spec.replicas", f"Invalid value: {json.dumps(replicas)}: {why}")]
                raise status.invalid(kind, name, causes)
            version = (body.get("metadata") or {}).get("resourceVersion")
            patch: Body = {"spec": {"replicas": replicas}}
            if version:
                patch["metadata"] = {"resourceVersion": version}
            merge = "application/merge-patch+json"
            self._objects.patch(kind, namespace, name, merge, patch, _options(request), subresource="scale")
            item = self._objects.existing(kind, namespace, name)
        return answered(_scale_of(item.body))

    def _token(self, request: Request, namespace: str, name: str) -> Response:
        _check_body_type(request)
        body = decoding.parsed(request.body) if request.body else {}
        seconds = int((body.get("spec") or {}).get("expirationSeconds") or 3600)
        if seconds < 600:
            message = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            raise status.ApiError(
                422,
                "Invalid",
                f'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: {message}',
                details={"group": "authentication.k8s.io", "kind": "TokenRequest"},
            )
        token, expires_at = self._access.token_for(namespace, name, seconds=seconds)
        now = stamp(self._objects.clock.now())
        spec = {"expirationSeconds": seconds}
        writer = Writer(_options(request).manager, "authentication.k8s.io/v1", now, "token")
        entries = after_update(
            type_of("authentication.k8s.io", "v1", "TokenRequest"), old={"spec": {}}, new={"spec": spec}, entries=None,
            writer=writer, is_ours=lambda path: True,
        )  # fmt: skip
        metadata = {"name": name, "namespace": namespace, "creationTimestamp": now, "managedFields": entries}
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": {"audiences": ["https://kubernetes.default.svc"], **spec, "boundObjectRef": None},
            "status": {"token": token, "expirationTimestamp": stamp(expires_at)},
        }
        return answered(answer, 201)

    def _review(self, request: Request, user: User, entry: tuple[str, str, str]) -> Response:
        group, kind_name, plural = entry
        _check_body_type(request)
        kind = Kind(group=group, version="v1", kind=kind_name, plural=plural, is_namespaced=False)
        self._access.require(user, Asked(_verb(request, ""), group, plural), kind)
        if request.method != "POST":
            raise status.method_not_allowed()
        body = decoding.parsed(request.body)
        spec = body.get("spec") or {}
        answer: Body = {"kind": kind_name, "apiVersion": f"{group}/v1", "metadata": {"creationTimestamp": None}}
        if kind_name == "SelfSubjectAccessReview":
            writer = Writer(_options(request).manager, f"{group}/v1", stamp(self._objects.clock.now()))
            node = type_of(group, "v1", kind_name)
            entries = after_update(
                node, old={"spec": {}}, new={"spec": spec}, entries=None, writer=writer, is_ours=lambda path: True
            )
            answer["metadata"] = {"managedFields": entries} if entries else {}
            answer |= {"spec": spec, "status": self._access.access_review(user, spec)}
        elif kind_name == "SelfSubjectRulesReview":
            answer |= {"metadata": {}, "spec": {}, "status": self._access.rules_review(user, spec.get("namespace", ""))}
        else:
            answer["status"] = {"userInfo": {"username": user.name, "uid": user.uid, "groups": list(user.groups)}}
        return answered(answer, 201)


def _scale_of(body: Body) -> Body:
    metadata = body["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": kept,
        "spec": {"replicas": body["spec"].get("replicas", 0)},
        "status": {
            "replicas": (body.get("status") or {}).get("replicas", 0),
            "selector": shown(body["spec"].get("selector")),
        },
    }


def _verb(request: Request, name: str) -> str:
    if request.method in ("GET", "HEAD"):
        if request.query.get("watch") in _TRUE:
            return "watch"
        return "get" if name else "list"
    if request.method == "DELETE":
        return "delete" if name else "deletecollection"
    if request.method in _WRITES:
        return _WRITES[request.method]
    raise status.method_not_allowed()


def _check_body_type(request: Request) -> None:
    if "protobuf" in request.headers.get("content-type", "") or "cbor" in request.headers.get("content-type", ""):
        raise status.unsupported_media_type(["application/json", "application/yaml"])


def _dry_run(request: Request) -> bool:
    asked = request.query.get("dryRun")
    if asked not in (None, "", "All"):
        causes = [
            ("FieldValueNotSupported", "dryRun", f'Unsupported value: {json.dumps(asked)}: supported values: "All"')
        ]
        raise status.invalid_options("CreateOptions", causes)
    return asked == "All"


def _options(request: Request) -> Options:
    manager = request.query.get("fieldManager", "")
    agent = request.headers.get("user-agent", "unknown").partition("/")[0]
    validation = request.query.get("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        causes = [
            (
                "FieldValueNotSupported",
                "fieldValidation",
                f'Unsupported value: {json.dumps(validation)}: supported values: "", "Ignore", "Strict", "Warn"',
            )
        ]
        raise status.invalid_options("PatchOptions", causes)
    return Options(
        manager=manager or agent,
        is_dry_run=_dry_run(request),
        is_forced=request.query.get("force") in _TRUE,
        field_validation=validation,
        has_manager=bool(manager),
    )


def _wishes(request: Request) -> dict[str, Any]:
    wishes: dict[str, Any] = {}
    if request.body:
        body = decoding.parsed(request.body)
        wishes = dict(body) if isinstance(body, dict) else {}
    for key in ("propagationPolicy", "gracePeriodSeconds"):
        if key in request.query:
            wishes[key] = request.query[key]
    policy = wishes.get("propagationPolicy")
    if policy not in (None, "", "Foreground", "Background", "Orphan"):
        causes = [
            (
                "FieldValueInvalid",
                "propagationPolicy",
                f'Invalid value: {json.dumps(policy)}: must be one of "Background", "Foreground" or "Orphan"',
            )
        ]
        raise status.invalid_options("DeleteOptions", causes)
    return wishes


def _warnings(options: Options) -> dict[str, str]:
    quoted = [warning.replace("\\", "\\\\").replace('"', '\\"') for warning in options.warnings]
    return {"Warning": ", ".join(f'299 - "{warning}"' for warning in quoted)} if quoted else {}
