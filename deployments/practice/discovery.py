"""What the server says it serves: versions, groups, resources, and enough OpenAPI for kubectl."""

from __future__ import annotations

from typing import Any

from deployments.practice.kinds import CREATE_ONLY, SUBRESOURCE_KINDS, Kind
from deployments.practice.registry import Registry

Body = dict[str, Any]

VERSION: Body = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "practice",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_CUSTOM_VERBS = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
_SUB_VERBS = {
    "status": ["get", "patch", "update"], "scale": ["get", "patch", "update"], "finalize": ["update"], "log": ["get"],
    "eviction": ["create"], "token": ["create"],
}  # fmt: skip


def versions(address: str) -> Body:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def groups(registry: Registry) -> Body:
    served = registry.groups()
    for group, _, _ in CREATE_ONLY:
        served.setdefault(group, ["v1"])
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(name, found) for name, found in served.items()],
    }


def group(registry: Registry, name: str) -> Body | None:
    found = next((entry for entry in groups(registry)["groups"] if entry["name"] == name), None)
    return {"kind": "APIGroup", "apiVersion": "v1", **found} if found else None


def _group(name: str, found: list[str]) -> Body:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in found]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(registry: Registry, group_name: str, version: str) -> Body | None:
    """List the resources of one group and version; None where it is not served."""
    listed: list[Body] = []
    for kind in registry.all():
        if (kind.group, kind.version) == (group_name, version):
            listed += _entries(kind)
    for owner, name, plural in CREATE_ONLY:
        if (owner, "v1") == (group_name, version):
            listed.append(
                {"name": plural, "singularName": name.lower(), "namespaced": False, "kind": name, "verbs": ["create"]}
            )
    if not listed:
        return None
    group_version = f"{group_name}/{version}" if group_name else version
    out: Body = {
        "kind": "APIResourceList",
        "groupVersion": group_version,
        "resources": sorted(listed, key=lambda it: it["name"]),
    }
    return {"apiVersion": "v1", **out} if group_name else out


def _entries(kind: Kind) -> list[Body]:
    verbs = _CUSTOM_VERBS if kind.is_custom else list(kind.verbs)
    entry: Body = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.is_namespaced,
        "kind": kind.kind,
        "verbs": verbs,
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    entry["storageVersionHash"] = kind.storage_hash
    out = [entry]
    for name in kind.subresources:
        below: Body = {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.is_namespaced,
            "kind": kind.kind,
        }
        if name in SUBRESOURCE_KINDS:
            owner, version, sub_kind = SUBRESOURCE_KINDS[name]
            below |= {"group": owner, "version": version, "kind": sub_kind}
        out.append({**below, "verbs": _SUB_VERBS[name]})
    return out


def open_api_index(registry: Registry) -> Body:
    paths = {}
    for kind in registry.all():
        root = _root(kind)
        paths[root.removeprefix("/")] = {"serverRelativeURL": f"/openapi/v3{root}"}
    return {"paths": paths}


def open_api(registry: Registry, root: str) -> Body | None:
    """Describe one group and version: that writes take `fieldValidation`, and which kind each path is."""
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    paths: Body = {}
    schemas: Body = {}
    for kind in registry.all():
        if _root(kind) != root:
            continue
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        where = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.is_namespaced else f"{root}/{kind.plural}"
        paths[where] = {"post": {"parameters": parameters, "x-kubernetes-group-version-kind": gvk}}
        paths[f"{where}/{{name}}"] = {
            "patch": {"parameters": parameters, "x-kubernetes-group-version-kind": gvk},
            "put": {"parameters": parameters, "x-kubernetes-group-version-kind": gvk},
        }
        name = f"practice.{kind.group or 'core'}.{kind.version}.{kind.kind}"
        schemas[name] = {"type": "object", "x-kubernetes-group-version-kind": [gvk]}
    if not paths:
        return None
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _root(kind: Kind) -> str:
    return f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
