"""Types of the served kinds, from `schema.json`: fields, the keys lists merge by, what is atomic.

Field management, strategic merge and strict decoding walk these nodes. A custom kind is typed by its definition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

LIST_KEY_DEFAULTS = {"protocol": "TCP"}
"""The published definitions leave out the default of a list key; the API server's own do not."""

Shape = Literal["scalar", "any", "struct", "map", "list"]


@dataclass(slots=True, eq=False)
class Node:
    """One type. `keys` of a list: None is atomic, empty is a set, else the fields that name an item."""

    shape: Shape
    scalar: str = ""
    fields: dict[str, Node] = field(default_factory=dict)
    element: Node | None = None
    is_atomic: bool = False
    keys: tuple[str, ...] | None = None
    merge_key: str | None = None
    required: tuple[str, ...] = ()
    name: str = ""

    def child(self, key: str) -> Node | None:
        """Return the type of a map's or struct's entry; None where a struct declares no such field."""
        if self.shape == "struct":
            return self.fields.get(key)
        return self.element if self.shape == "map" else ANY


ANY = Node("any")


class _Table:
    """Resolves names to nodes once each; a node may contain itself, so it is kept before it is filled."""

    def __init__(self) -> None:
        raw = json.loads(Path(__file__).with_name("schema.json").read_text())
        self.roots: dict[str, str] = raw["roots"]
        self._raw: dict[str, Any] = raw["types"]
        self._nodes: dict[str, Node] = {}

    def named(self, name: str) -> Node:
        if name not in self._nodes:
            node = self._nodes[name] = Node("any")
            node.name = name.rpartition(".")[2]
            self._fill(node, self._raw[name])
        return self._nodes[name]

    def _build(self, raw: Any) -> Node:
        if isinstance(raw, dict) and "r" in raw:
            node = self.named(raw["r"])
            if not raw.get("a"):
                return node
            return Node(node.shape, node.scalar, node.fields, node.element, True, node.keys, node.merge_key)
        node = Node("any")
        self._fill(node, raw)
        return node

    def _fill(self, node: Node, raw: Any) -> None:
        if isinstance(raw, str):
            node.shape, node.scalar = ("any", "") if raw == "any" else ("scalar", raw)
            return
        node.is_atomic = bool(raw.get("a"))
        if "f" in raw:
            node.shape, node.required = "struct", tuple(raw["q"])
            node.fields = {key: self._build(value) for key, value in raw["f"].items()}
        elif "m" in raw:
            node.shape, node.element = "map", self._build(raw["m"])
        else:
            node.shape, node.element = "list", self._build(raw["l"])
            node.keys = tuple(raw["k"]) if "k" in raw else None
            node.merge_key = raw.get("p")


@cache
def _table() -> _Table:
    return _Table()


@cache
def type_of(group: str, version: str, kind: str) -> Node:
    """Return the type of a built-in kind. Raises `KeyError` for one this table does not hold."""
    table = _table()
    return table.named(table.roots[f"{group}/{version}/{kind}"])


def custom_type(open_api: dict[str, Any] | None) -> Node:
    """Type a custom kind by the `openAPIV3Schema` of its definition; metadata is always that of Kubernetes."""
    body = _from_open_api(open_api or {"x-kubernetes-preserve-unknown-fields": True})
    metadata = type_of("", "v1", "ConfigMap").fields["metadata"]
    fixed = {"apiVersion": Node("scalar", "string"), "kind": Node("scalar", "string"), "metadata": metadata}
    if body.shape != "struct":
        return Node("map", element=ANY, fields=fixed, name="custom")
    body.fields.update(fixed)
    return body


def child_of(node: Node, key: str) -> Node | None:
    """Return the entry's type; a custom kind that keeps unknown fields still has typed metadata."""
    if node.name == "custom":
        return node.fields.get(key, ANY)
    return node.child(key)


def _from_open_api(raw: dict[str, Any]) -> Node:
    if raw.get("x-kubernetes-preserve-unknown-fields") or raw.get("x-kubernetes-int-or-string"):
        return Node("any") if "x-kubernetes-int-or-string" not in raw else Node("scalar", "scalar")
    atomic = raw.get("x-kubernetes-map-type") == "atomic"
    if "properties" in raw:
        fields = {key: _from_open_api(value) for key, value in raw["properties"].items()}
        return Node("struct", fields=fields, is_atomic=atomic, required=tuple(raw.get("required", ())))
    if isinstance(raw.get("additionalProperties"), dict):
        return Node("map", element=_from_open_api(raw["additionalProperties"]), is_atomic=atomic)
    if raw.get("type") == "array":
        keys: tuple[str, ...] | None = None
        if raw.get("x-kubernetes-list-type") == "map":
            keys = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        elif raw.get("x-kubernetes-list-type") == "set":
            keys = ()
        return Node("list", element=_from_open_api(raw.get("items") or {}), keys=keys)
    if raw.get("type") in ("string", "integer", "number", "boolean"):
        return Node("scalar", raw["type"])
    return Node("struct", is_atomic=atomic) if raw.get("type") == "object" else Node("any")
