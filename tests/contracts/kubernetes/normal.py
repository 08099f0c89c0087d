"""Takes out of an answer what no two clusters share: uids, times, versions, hashes, addresses, a vendor's own."""

from __future__ import annotations

import json
import re
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_HASHED = re.compile(r"(odoo-(?:web|green|warn))-[a-z0-9]{8,10}(?:-[a-z0-9]{5})?(\.[0-9a-z]+)?")
_TOKEN_VOLUME = re.compile(r"kube-api-access-[a-z0-9]{5}")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+(:\d+)?")
_NOBODYS = ("uid", "resourceVersion", "creationTimestamp", "time", "deletionTimestamp", "selfLink")
_VARYING = (
    "pod-template-hash",
    "nodeName",
    "token",
    "expirationTimestamp",
    "storageVersionHash",
    "continue",
    "containerID",
    "ca.crt",
)
_VENDOR = "openshift"


def normal(value: Any) -> Any:
    """Return the comparable part of an answer's body; a watch's lines are left to `of_interest`."""
    if isinstance(value, str) and value.startswith('{"type"'):
        return value
    if isinstance(value, dict):
        out: dict[str, Any] = {}
        for key, entry in value.items():
            if key in _NOBODYS:
                continue
            if key == "managedFields":
                out[key] = _owners(entry)
            elif key in _VARYING:
                out[key] = "<varies>"
            else:
                out[key] = normal(entry)
        return out
    if isinstance(value, list):
        return [normal(entry) for entry in value if not _is_vendors(entry)]
    return _plain(value) if isinstance(value, str) else value


def _is_vendors(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return isinstance(entry, str) and ".well-known" in entry
    named = entry.get("configMap") or (entry.get("object") or {}).get("metadata") or entry.get("metadata") or {}
    return _VENDOR in str(named.get("name", "")) if isinstance(named, dict) else False


def _plain(text: str) -> str:
    text = _UUID.sub("<uid>", text)
    text = _TIME.sub("<time>", text)
    text = _HASHED.sub(r"\1-<hash>", text)
    text = _TOKEN_VOLUME.sub("kube-api-access-<x>", text)
    return _ADDRESS.sub("<address>", text)


def _owners(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return who owns what, without times and in an order that times do not decide."""
    out = []
    for entry in entries:
        kept = {key: value for key, value in entry.items() if key != "time"}
        kept["manager"] = "kubelet" if "kubelet" in entry["manager"] else entry["manager"]
        kept["fieldsV1"] = json.loads(_plain_fields(json.dumps(entry["fieldsV1"])))
        out.append(kept)
    return sorted(out, key=lambda entry: (entry["operation"], entry["manager"], entry.get("subresource", "")))


def _plain_fields(text: str) -> str:
    return _ADDRESS.sub("<address>", _UUID.sub("<uid>", text))


_RACING = frozenset({25, 30, 32, 33, 38, 39, 54, 66, 68, 69, 70, 74, 75, 114})
"""Answers to a write whose status is the one of that very moment."""
_POD_FACTS = ("phase", "qosClass")


def of_interest(number: int, body: Any) -> Any:
    """Return what of a normalised answer must be equal; `number` is its place in the recording."""
    if isinstance(body, str) and body.startswith('{"type"'):
        body = [json.loads(line) for line in body.splitlines()]
    if isinstance(body, list):
        kept = [event for event in body if event["type"] != "BOOKMARK" and not _is_vendors(event)]
        return [normal(event) for event in kept]
    if not isinstance(body, dict):
        return body
    if body.get("kind") == "EventList":
        return sorted({_event(item) for item in body["items"]})
    if body.get("kind") == "SelfSubjectRulesReview":
        return sorted(body["status"]["resourceRules"], key=json.dumps)
    if number in _RACING:
        body = {**body, "status": "<then>"}
        # Whether the controllers' entry is there yet, and what it holds, is that moment's too.
        entries = [entry for entry in body["metadata"].get("managedFields", ()) if entry.get("subresource") != "status"]
        metadata = {**body["metadata"], "managedFields": entries}
        notes = {key: value for key, value in metadata.get("annotations", {}).items() if "revision" not in key}
        body["metadata"] = {**metadata, "annotations": notes}
        return body
    if body.get("kind") == "PodList":
        return [_pod(item) for item in body["items"]]
    if body.get("kind") == "ReplicaSetList":
        # How often a set was rescaled on the way depends on who was quicker.
        return sorted((_unscaled(item) for item in body["items"]), key=lambda item: json.dumps(item, sort_keys=True))
    if body.get("kind") == "EndpointSliceList":
        return [_slice(item) for item in body["items"]]
    if body.get("kind") == "Deployment" and body.get("status", {}).get("conditions"):
        conditions = sorted(body["status"]["conditions"], key=lambda entry: entry["type"])
        return {**body, "status": {**body["status"], "conditions": conditions}}
    return body


def _event(item: dict[str, Any]) -> tuple[str, ...]:
    message = re.sub(r"node-\d", "<node>", item["message"])
    return item["involvedObject"]["kind"], item["type"], item["reason"], item["reportingComponent"], message


def _slice(item: dict[str, Any]) -> dict[str, Any]:
    endpoints = sorted(item["endpoints"], key=lambda entry: json.dumps(entry, sort_keys=True))
    metadata = {key: value for key, value in item["metadata"].items() if key not in ("name", "generation")}
    return {**item, "endpoints": endpoints, "metadata": metadata}


def _unscaled(item: dict[str, Any]) -> dict[str, Any]:
    item = {**item, "status": dict(item["status"])}
    item["metadata"] = {key: value for key, value in item["metadata"].items() if key != "generation"}
    item["status"].pop("observedGeneration", None)
    return item


def _pod(item: dict[str, Any]) -> dict[str, Any]:
    status = item["status"]
    containers = [
        {key: entry[key] for key in ("name", "image", "imageID", "ready", "restartCount", "lastState", "state")}
        for entry in status.get("containerStatuses", ())
    ]
    conditions = sorted(
        (
            {key: value for key, value in entry.items() if key != "lastProbeTime"}
            for entry in status.get("conditions", ())
        ),
        key=lambda entry: str(entry["type"]),
    )
    owned = [entry for entry in item["metadata"]["managedFields"] if entry["manager"] == "kube-controller-manager"]
    managers = sorted(entry["manager"] for entry in item["metadata"]["managedFields"])
    return {
        "metadata": {**item["metadata"], "managedFields": owned, "managers": managers},
        "spec": item["spec"],
        "status": {key: status.get(key) for key in _POD_FACTS} | {"containers": containers, "conditions": conditions},
    }
