"""Writes `schema.json`, the table of types that `schema.py` reads. A development tool; the server never runs it.

The source is the published OpenAPI definitions of Kubernetes (Apache-2.0) as the `kubernetes-validate` package carries
them. Run `python -m deployments.practice.make_schema` after raising `KUBERNETES_MINOR`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from deployments.practice.kinds import BUILT_IN

KUBERNETES_MINOR = "1.36"
TARGET = Path(__file__).with_name("schema.json")
_EXTRA_KINDS = (
    ("autoscaling", "v1", "Scale"),
    ("authentication.k8s.io", "v1", "TokenRequest"),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "SelfSubjectRulesReview"),
    ("policy", "v1", "Eviction"),
)


def published_definitions() -> dict[str, Any]:
    """Read the definitions that `kubernetes-validate` carries. Raises `ModuleNotFoundError` where it is missing."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("Install the development packages: kubernetes-validate is missing.")
    folder = Path(spec.origin).parent / "kubernetes-json-schema" / f"v{KUBERNETES_MINOR}.0-local"
    definitions: dict[str, Any] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return definitions


def compact_table(definitions: dict[str, Any]) -> dict[str, Any]:
    """Return `{"roots": {"group/version/Kind": type}, "types": {...}}` for the kinds the practice estate serves."""
    wanted = {(kind.group, kind.version, kind.kind) for kind in BUILT_IN} | set(_EXTRA_KINDS)
    roots: dict[str, str] = {}
    for name, definition in sorted(definitions.items()):
        for gvk in definition.get("x-kubernetes-group-version-kind") or ():
            key = (gvk["group"], gvk["version"], gvk["kind"])
            if key in wanted and not name.endswith("DeleteOptions"):
                roots["/".join(key)] = name
    types: dict[str, Any] = {}
    pending = sorted(roots.values())
    while pending:
        name = pending.pop()
        if name not in types:
            found: list[str] = []
            types[name] = _compact(definitions[name], found)
            pending += found
    return {"roots": roots, "types": dict(sorted(types.items()))}


def _compact(node: dict[str, Any], found: list[str]) -> Any:
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        found.append(name)
        return {"r": name, "a": 1} if node.get("x-kubernetes-map-type") == "atomic" else {"r": name}
    if node.get("x-kubernetes-preserve-unknown-fields"):
        return "any"
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        return _compact_list(node, found)
    if "properties" in node:
        fields = {key: _compact(value, found) for key, value in sorted(node["properties"].items())}
        return _marked({"f": fields, "q": node.get("required", [])}, node)
    if "additionalProperties" in node:
        return _marked({"m": _compact(node["additionalProperties"], found)}, node)
    if "oneOf" in node or kinds == [None]:
        return "scalar" if "oneOf" in node else "any"
    return "any" if "object" in kinds else next(kind for kind in kinds if kind != "null")


def _compact_list(node: dict[str, Any], found: list[str]) -> dict[str, Any]:
    shape = node.get("x-kubernetes-list-type", "atomic")
    table: dict[str, Any] = {"l": _compact(node["items"], found)}
    if shape == "map":
        table["k"] = node["x-kubernetes-list-map-keys"]
    elif shape == "set":
        table["k"] = []
    if "merge" in node.get("x-kubernetes-patch-strategy", ""):
        table["p"] = node.get("x-kubernetes-patch-merge-key", "")
    return table


def _marked(table: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if node.get("x-kubernetes-map-type") == "atomic":
        table["a"] = 1
    return table


if __name__ == "__main__":
    TARGET.write_text(json.dumps(compact_table(published_definitions()), separators=(",", ":"), sort_keys=True) + "\n")
