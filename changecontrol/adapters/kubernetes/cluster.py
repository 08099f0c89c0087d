"""The `Kubernetes` port against a real API server: server-side apply, observation, deletion, rights.

Raises only `Transient` and `Permanent`. Every write is safe to ask again; a write whose answer was lost is found done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from changecontrol.adapters.kubernetes.redaction import redact_object, redact_text, text_in
from changecontrol.adapters.kubernetes.refusals import refusal_of
from changecontrol.adapters.kubernetes.transport import APPLY_PATCH, JSON, THREADS, Answer, Transport, path_of, within
from changecontrol.adapters.kubernetes.workloads import WORKLOAD_KINDS, read_workloads, selector_of
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import (
    FIELD_MANAGER,
    INVENTORY_LABEL,
    Applied,
    Manifest,
    ObjectRef,
    Rejected,
    Right,
    WorkloadStatus,
)

PAGE_SIZE = 500
MAX_PAGES = 100
DISCOVERY_REFRESH_SECONDS = 10.0
CALL_SECONDS = 10.0
"""How long one call may take, of however many requests it is made: a tick has seconds."""
RETRY_DELETING_SECONDS = 2.0
RETRY_STARTING_SECONDS = 5.0
DELETE_ATTEMPTS = 3

PARTIAL = f"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,{JSON}"
PARTIAL_LIST = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{JSON}"

# Their pods are theirs alone: wait for the pods before the object counts as gone.
FOREGROUND_KINDS = {"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"}


Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives on this server."""

    name: str
    is_namespaced: bool


class Cluster:
    """One cluster, as one credential may use it. Threads may share it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._server = f"The cluster at {transport.server}"
        self._resources: dict[str, dict[str, Resource]] = {}
        self._discovered_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def observe_version(self) -> str:
        answer = self._ask("GET", "/version", doing="say its version")
        version = answer.body.get("gitVersion") if isinstance(answer.body, Mapping) else None
        if not isinstance(version, str) or not version:
            raise Permanent(f"{self._server} does not answer as a Kubernetes API server.")
        return version

    @within(CALL_SECONDS)
    def ensure_applied(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        ref = ObjectRef.of(manifest)
        if not (ref.api_version and ref.kind and ref.name):
            raise Rejected("An object of the definition has no apiVersion, kind or name.")
        params = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            params["dryRun"] = "All"
        path = self._path(ref)
        answer = self._ask(
            "PATCH",
            path,
            doing=f"apply {ref}",
            kind=ref.kind,
            params=params,
            body=dict(manifest),
            content_type=APPLY_PATCH,
        )
        live = self._object(answer, doing=f"apply {ref}")
        metadata = live["metadata"]
        if metadata.get("deletionTimestamp") and not dry_run:
            # What was written now goes down with the object; only a new one would stay.
            raise Transient(f"{ref} is still being deleted.", after=RETRY_DELETING_SECONDS)
        metadata.pop("managedFields", None)
        return Applied(
            ref=ref,
            uid=str(metadata.get("uid", "")),
            generation=int(metadata.get("generation") or 0),
            resource_version=str(metadata.get("resourceVersion", "")),
            live=redact_object(live),
        )

    @within(CALL_SECONDS)
    def observe_object(self, ref: ObjectRef) -> dict[str, Any] | None:
        live = self._read(ref, accept=JSON)
        return redact_object(live) if live is not None else None

    @within(CALL_SECONDS)
    def observe_secret(self, *, namespace: str, name: str) -> Mapping[str, str] | None:
        live = self._read(ObjectRef("v1", "Secret", namespace, name), accept=JSON)
        return text_in(live) if live is not None else None

    @within(CALL_SECONDS)
    def observe_workloads(self, *, namespace: str, inventory: str) -> dict[ObjectRef, WorkloadStatus]:
        selector = f"{INVENTORY_LABEL}={inventory}"
        listed = _at_once(
            lambda kind: list(self._list("apps/v1", kind, namespace=namespace, selector=selector)), WORKLOAD_KINDS
        )
        workloads = dict(zip(WORKLOAD_KINDS, listed, strict=True))
        if not any(listed):
            return {}
        # Pods and ReplicaSets carry the labels of the pod template, not the inventory label: they are found by owner.
        return read_workloads(
            workloads=[item for items in workloads.values() for item in items],
            pods=self._list("v1", "Pod", namespace=namespace),
            replica_sets=self._list_if(workloads["Deployment"], "ReplicaSet", namespace=namespace),
            controller_revisions=self._list_if(
                workloads["DaemonSet"], "ControllerRevision", namespace=namespace, accept=JSON
            ),
        )

    @within(CALL_SECONDS)
    def observe_workload(self, ref: ObjectRef) -> WorkloadStatus | None:
        if ref.api_version != "apps/v1" or ref.kind not in WORKLOAD_KINDS:
            raise Permanent(f"{ref} is not a workload whose health can be read.")
        live = self._read(ref, accept=JSON)
        if live is None:
            return None
        owners, place = [live], {"namespace": ref.namespace, "selector": selector_of(live)}
        statuses = read_workloads(
            workloads=owners,
            pods=self._list("v1", "Pod", **place),
            replica_sets=self._list_if(owners if ref.kind == "Deployment" else [], "ReplicaSet", **place),
            controller_revisions=self._list_if(
                owners if ref.kind == "DaemonSet" else [], "ControllerRevision", **place, accept=JSON
            ),
        )
        return statuses[ref]

    @within(CALL_SECONDS)
    def observe_inventory(
        self, *, namespace: str, inventory: str, kinds: Iterable[tuple[str, str]], label: str = INVENTORY_LABEL
    ) -> tuple[ObjectRef, ...]:
        def refs_of(pair: tuple[str, str]) -> set[ObjectRef]:
            api_version, kind = pair
            if self._find(api_version, kind) is None:
                # A kind this cluster does not serve has no objects.
                return set()
            items = self._list(
                api_version, kind, namespace=namespace, selector=f"{label}={inventory}", accept=PARTIAL_LIST
            )
            return {ObjectRef.of(item) for item in items}

        return tuple(sorted(set().union(*_at_once(refs_of, sorted(set(kinds))))))

    @within(CALL_SECONDS)
    def observe_labelled(
        self, kind: tuple[str, str], *, namespace: str, label: str, value: str
    ) -> tuple[dict[str, Any], ...]:
        items = self._list(*kind, namespace=namespace, selector=f"{label}={value}")
        return tuple(redact_object(item) for item in items)

    @within(CALL_SECONDS)
    def observe_warnings(self, ref: ObjectRef) -> tuple[str, ...]:
        about = f"involvedObject.kind={ref.kind},involvedObject.name={ref.name},type=Warning"
        events = self._list("v1", "Event", namespace=ref.namespace, fields=about)
        found = sorted((str(one.get("lastTimestamp") or one.get("eventTime") or ""), _words_of(one)) for one in events)
        return tuple(dict.fromkeys(words for _, words in found))

    @within(CALL_SECONDS)
    def observe_served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        return frozenset(
            (api_version, kind) for api_version, kind in kinds if self._find(api_version, kind) is not None
        )

    @within(CALL_SECONDS)
    def ensure_deleted(self, ref: ObjectRef, *, inventory: str, label: str = INVENTORY_LABEL) -> bool:
        doing = f"delete {ref}"
        for _ in range(DELETE_ATTEMPTS):
            live = self._read(ref, accept=PARTIAL)
            if live is None:
                return False
            metadata = live["metadata"]
            if (metadata.get("labels") or {}).get(label) != inventory or metadata.get("deletionTimestamp"):
                return False
            options = _delete_options(ref, metadata)
            answer = self._transport.call("DELETE", self._path(ref), doing=doing, body=options)
            if answer.status == 404:
                return False
            if answer.status != 409:
                break
            # Its status moved on since it was looked at, as that of a busy workload often does: look again.
        self._check(answer, doing=doing, kind=ref.kind)
        return True

    @within(CALL_SECONDS)
    def observe_rights(self, *, namespace: str, rights: Iterable[Right]) -> tuple[Right, ...]:
        asked = sorted(set(rights))
        # The server lists rules for a namespace only. What holds in the whole cluster is asked right by right.
        rules = self._observe_rules(namespace) if namespace else []
        doubtful = [right for right in asked if not any(_grants(rule, right) for rule in rules)]
        # The list of rules may be incomplete (a webhook authorises too), so each gap is asked about by itself.
        verdicts = _at_once(lambda right: self._is_allowed(right, namespace=namespace), doubtful)
        if not all(verdicts):
            self._check_ready()
        return tuple(right for right, is_allowed in zip(doubtful, verdicts, strict=True) if not is_allowed)

    def _observe_rules(self, namespace: str) -> list[Mapping[str, Any]]:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        answer = self._transport.call("POST", path, doing="list the executor's rights", body=body)
        if answer.status in (403, 404):
            return []
        self._check(answer, doing="list the executor's rights")
        status = answer.body.get("status") if isinstance(answer.body, Mapping) else None
        rules = status.get("resourceRules") if isinstance(status, Mapping) else None
        return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []

    def _is_allowed(self, right: Right, *, namespace: str) -> bool:
        attributes = {"namespace": namespace, "verb": right.verb, "group": right.group, "resource": right.resource}
        if right.subresource:
            attributes["subresource"] = right.subresource
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._ask("POST", path, doing="review the executor's rights", body=body)
        status = answer.body.get("status") if isinstance(answer.body, Mapping) else None
        return isinstance(status, Mapping) and status.get("allowed") is True

    def _read(self, ref: ObjectRef, *, accept: str) -> dict[str, Any] | None:
        if self._find(ref.api_version, ref.kind) is None:
            return None
        answer = self._transport.call("GET", self._path(ref), doing=f"read {ref}", accept=accept)
        if answer.status == 404:
            return None
        self._check(answer, doing=f"read {ref}", kind=ref.kind)
        live = self._object(answer, doing=f"read {ref}")
        if live.get("kind") == "PartialObjectMetadata":
            live |= {"apiVersion": ref.api_version, "kind": ref.kind}
        return live

    def _list_if(
        self, owners: list[dict[str, Any]], kind: str, *, namespace: str, selector: str = "", accept: str = PARTIAL_LIST
    ) -> Iterable[dict[str, Any]]:
        return self._list("apps/v1", kind, namespace=namespace, selector=selector, accept=accept) if owners else ()

    def _list(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str,
        selector: str = "",
        fields: str = "",
        accept: str = JSON,
    ) -> Iterator[dict[str, Any]]:
        doing = f"list {kind} in {namespace}"
        resource = self._resource(api_version, kind)
        path = _base(api_version) + path_of(*_place(resource, namespace))
        params = {"limit": str(PAGE_SIZE)}
        if selector:
            params["labelSelector"] = selector
        if fields:
            params["fieldSelector"] = fields
        for _ in range(MAX_PAGES):
            answer = self._ask("GET", path, doing=doing, params=params, accept=accept)
            body = answer.body if isinstance(answer.body, Mapping) else {}
            items = body.get("items")
            if not isinstance(items, list) and not ("items" in body and items is None):
                raise Transient(f"{self._server} answered a list without items when asked to {doing}.")
            for item in items or ():
                # Items of a list carry neither, and partial ones carry the wrong one.
                item |= {"apiVersion": api_version, "kind": kind}
                yield item
            token = (body.get("metadata") or {}).get("continue")
            if not token:
                return
            params["continue"] = str(token)
        raise Permanent(f"{self._server} holds more than {PAGE_SIZE * MAX_PAGES} objects of {kind} in {namespace}.")

    def _path(self, ref: ObjectRef) -> str:
        resource = self._resource(ref.api_version, ref.kind)
        if resource.is_namespaced and not ref.namespace:
            raise Rejected(f"{ref} names no namespace.")
        return _base(ref.api_version) + path_of(*_place(resource, ref.namespace), ref.name)

    def _resource(self, api_version: str, kind: str) -> Resource:
        resource = self._find(api_version, kind)
        if resource is None:
            raise Rejected(
                f"{self._server} does not know the kind {kind} of {api_version}. Install its definition, or "
                "correct the apiVersion."
            )
        return resource

    def _find(self, api_version: str, kind: str) -> Resource | None:
        known = self._resources.get(api_version)
        if known is not None and kind in known:
            return known[kind]
        with self._lock:
            # Another thread may have asked meanwhile.
            known = self._resources.get(api_version)
            age = time.monotonic() - self._discovered_at.get(api_version, float("-inf"))
            if known is None or age > DISCOVERY_REFRESH_SECONDS:
                self._resources[api_version] = self._discover(api_version)
                self._discovered_at[api_version] = time.monotonic()
            return self._resources[api_version].get(kind)

    def _discover(self, api_version: str) -> dict[str, Resource]:
        doing = f"describe {api_version}"
        answer = self._transport.call("GET", _base(api_version), doing=doing)
        if answer.status == 404:
            return {}
        self._check(answer, doing=doing)
        entries = answer.body.get("resources") if isinstance(answer.body, Mapping) else None
        if not isinstance(entries, list):
            # "Nothing there" must never be taken from a broken answer: pruning would believe it.
            raise Transient(f"{self._server} did not {doing}.")
        return {
            str(entry["kind"]): Resource(name=str(entry["name"]), is_namespaced=bool(entry.get("namespaced")))
            for entry in entries
            if "/" not in str(entry["name"])
        }

    def _ask(self, method: str, path: str, *, doing: str, kind: str = "", **words: Any) -> Answer:
        answer = self._transport.call(method, path, doing=doing, **words)
        self._check(answer, doing=doing, kind=kind)
        return answer

    def _check(self, answer: Answer, *, doing: str, kind: str = "") -> None:
        if answer.status == 403:
            self._check_ready()
        if answer.status >= 400:
            raise refusal_of(
                answer.status, answer.body, headers=answer.headers, doing=doing, kind=kind, server=self._server
            )
        if answer.status >= 300:
            raise Permanent(f"{self._server} sends requests elsewhere (HTTP {answer.status}). Name its real address.")

    def _check_ready(self) -> None:
        """Raise `Transient` while the server has not read all it goes by: until then it refuses what is granted."""
        status = self._transport.call("GET", "/readyz", doing="say whether it is ready").status
        if status == 403:
            # Nobody may ask that, or it knows nobody yet: whoever signs in may ask its version.
            status = self._transport.call("GET", "/version", doing="say its version").status
        if status == 403 or status >= 500:
            raise Transient(f"{self._server} has just started, and refuses everybody.", after=RETRY_STARTING_SECONDS)

    def _object(self, answer: Answer, *, doing: str) -> dict[str, Any]:
        if not isinstance(answer.body, dict) or not isinstance(answer.body.get("metadata"), dict):
            raise Transient(f"{self._server} gave no readable answer when asked to {doing}.")
        return answer.body


def _at_once(work: Callable[[Item], Found], items: Iterable[Item]) -> list[Found]:
    """Ask for all of these at the same time, within what is left of the call: one after another they take too long."""
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        return [one.result() for one in [pool.submit(copy_context().run, work, item) for item in items]]


def _words_of(event: Mapping[str, Any]) -> str:
    return redact_text(" ".join(f"{event.get('reason') or 'Warning'}: {event.get('message') or ''}".split()))


def _delete_options(ref: ObjectRef, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground" if ref.kind in FOREGROUND_KINDS else "Background",
        # Delete what was looked at, not what took its place or lost its label since.
        "preconditions": {"uid": metadata.get("uid"), "resourceVersion": metadata.get("resourceVersion")},
    }


def _base(api_version: str) -> str:
    return path_of("api", api_version) if "/" not in api_version else path_of("apis", *api_version.split("/", 1))


def _place(resource: Resource, namespace: str) -> tuple[str, ...]:
    return ("namespaces", namespace, resource.name) if resource.is_namespaced else (resource.name,)


def _grants(rule: Mapping[str, Any], right: Right) -> bool:
    if rule.get("resourceNames"):
        return False
    wanted = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
    resources = rule.get("resources") or ()
    return (
        _has(rule.get("verbs"), right.verb)
        and _has(rule.get("apiGroups"), right.group)
        and (_has(resources, wanted) or (bool(right.subresource) and f"*/{right.subresource}" in resources))
    )


def _has(values: Any, wanted: str) -> bool:
    return isinstance(values, list) and (wanted in values or "*" in values)
