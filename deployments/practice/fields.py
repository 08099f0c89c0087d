"""Sets of field paths, as server-side apply sees them: what a configuration names, what differs, what to take out.

A path is a tuple of FieldsV1 elements (`f:spec`, `k:{"name":"odoo"}`, `v:"x"`). The rules are those of Kubernetes'
structured merge: https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from deployments.practice.schema import ANY, LIST_KEY_DEFAULTS, Node, child_of

Path = tuple[str, ...]
Paths = set[Path] | frozenset[Path]

_STRIPPED: frozenset[Path] = frozenset(
    [("f:apiVersion",), ("f:kind",), ("f:metadata",)]
    + [
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields",
            "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds",
        )
    ]
)  # fmt: skip
"""Nobody owns these."""


@dataclass(slots=True)
class Difference:
    """How a new object differs from an old one."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


def without_identity(paths: Paths) -> set[Path]:
    """Leave out what nobody owns: names, times, versions, managed fields."""
    return {path for path in paths if path not in _STRIPPED and path[:2] != ("f:metadata", "f:managedFields")}


def item_element(node: Node, item: Any) -> str:
    """Name a list item as FieldsV1 does: by its keys, or by its value in a set."""
    if not node.keys:
        return "v:" + json.dumps(item, sort_keys=True, separators=(",", ":"))
    entry = item if isinstance(item, dict) else {}
    return _key_element(node.keys, tuple(entry.get(key, LIST_KEY_DEFAULTS.get(key)) for key in node.keys))


@lru_cache(8192)
def _key_element(keys: tuple[str, ...], values: tuple[Any, ...]) -> str:
    kept = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
    return "k:" + json.dumps(kept, sort_keys=True, separators=(",", ":"))


def is_leaf(node: Node, value: Any) -> bool:
    """Say whether the value is owned as one: scalars, what is atomic, and what is not of its declared shape."""
    if node.is_atomic or node.shape == "scalar":
        return True
    if isinstance(value, dict):
        return node.shape == "list"
    if isinstance(value, list):
        return node.shape != "list" or node.keys is None
    return True


def named_paths(node: Node, value: Any) -> Paths:
    """Return the paths that an applied configuration names."""
    out: set[Path] = set()
    _name(node, value, (), out)
    return out


def _name(node: Node, value: Any, path: Path, out: set[Path]) -> None:
    if is_leaf(node, value):
        out.add(path)
    elif isinstance(value, dict):
        for key, entry in value.items():
            child = child_of(node, key)
            below = (*path, f"f:{key}")
            _name(child or ANY, entry, below, out)
            if entry is None or entry == {} or node.shape != "struct":
                out.add(below)
    else:
        for item in value:
            below = (*path, item_element(node, item))
            _name(node.element or ANY, item, below, out)
            out.add(below)


def compare(node: Node, old: Any, new: Any) -> Difference:
    """Compare two objects of one type."""
    difference = Difference()
    _compare(node, old, new, (), difference)
    return difference


def _compare(node: Node, old: Any, new: Any, path: Path, out: Difference) -> None:
    if old == new:
        return
    granular_old = old is None or not is_leaf(node, old)
    if not granular_old or new is None or is_leaf(node, new):
        out.modified.add(path)
        return
    if isinstance(new, dict):
        before, after = old or {}, new
        nodes = {key: child_of(node, key) or ANY for key in {**before, **after}}
        pairs = [(f"f:{key}", child, key) for key, child in nodes.items()]
    else:
        before = {item_element(node, item): item for item in old or ()}
        after = {item_element(node, item): item for item in new}
        element = node.element or ANY
        pairs = [(key, element, key) for key in {**before, **after}]
    for element_name, child, key in pairs:
        below = (*path, element_name)
        if key not in before:
            _every(child, after[key], below, out.added)
        elif key not in after:
            _every(child, before[key], below, out.removed)
        else:
            _compare(child, before[key], after[key], below, out)


def _every(node: Node, value: Any, path: Path, out: set[Path]) -> None:
    out.add(path)
    if is_leaf(node, value):
        return
    if isinstance(value, dict):
        for key, entry in value.items():
            _every(child_of(node, key) or ANY, entry, (*path, f"f:{key}"), out)
    else:
        for item in value:
            _every(node.element or ANY, item, (*path, item_element(node, item)), out)


def merged(node: Node, live: Any, config: Any) -> Any:
    """Merge an applied configuration over the live value; neither is altered, parts may be shared."""
    if live is None or is_leaf(node, config) or is_leaf(node, live):
        return config
    if isinstance(config, dict):
        out = dict(live)
        for key, entry in config.items():
            out[key] = merged(child_of(node, key) or ANY, out.get(key), entry)
        return out
    element = node.element or ANY
    before = {item_element(node, item): item for item in live}
    after = {item_element(node, item): item for item in config}
    order = list(after) if before.keys() <= after.keys() else [*before, *(key for key in after if key not in before)]
    return [merged(element, before.get(key), after[key]) if key in after else before[key] for key in order]


def without(node: Node, value: Any, path: Path) -> Any:
    """Return the value without what the path names, and everything below it."""
    head, rest = path[0], path[1:]
    if isinstance(value, dict):
        key = head.removeprefix("f:")
        if key not in value:
            return value
        out = dict(value)
        if rest:
            out[key] = without(child_of(node, key) or ANY, value[key], rest)
        else:
            del out[key]
        return out
    if isinstance(value, list):
        element = node.element or ANY
        kept = []
        for item in value:
            if item_element(node, item) != head:
                kept.append(item)
            elif rest:
                kept.append(without(element, item, rest))
        return kept
    return value


def prefixes(sets: Iterable[Paths]) -> Paths:
    """Return every path and every part of a path on the way to it."""
    out: set[Path] = set()
    for paths in sets:
        for path in paths:
            for length in range(len(path), 0, -1):
                head = path[:length]
                if head in out:
                    break
                out.add(head)
    return out


def encoded(paths: Paths) -> dict[str, Any]:
    """Write the paths as FieldsV1. The result is shared: it must not be altered."""
    return _encoded(frozenset(paths))


@lru_cache(4096)
def _encoded(paths: frozenset[Path]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    members: list[dict[str, Any]] = []
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        members.append(node)
    for node in members:
        if node:
            node["."] = {}
    return root


def decoded(fields: dict[str, Any]) -> frozenset[Path]:
    """Read FieldsV1."""
    # The same few sets come again with every write; reading them once is enough.
    return _decoded(marshal.dumps(fields, 2))


@lru_cache(4096)
def _decoded(data: bytes) -> frozenset[Path]:
    return frozenset(_decode(marshal.loads(data), ()))  # noqa: S302 - bytes made above


def _decode(fields: dict[str, Any], path: Path) -> Iterator[Path]:
    for element, below in fields.items():
        if element == ".":
            yield path
        elif below:
            yield from _decode(below, (*path, element))
        else:
            yield (*path, element)


def shown(path: Path) -> str:
    """Write a path as conflict messages do: `.spec.template.spec.containers[name="odoo"].image`."""
    out = ""
    for element in path:
        mark, _, rest = element.partition(":")
        if mark == "f":
            out += f".{rest}"
        elif mark == "k":
            keys = ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(rest).items())
            out += f"[{keys}]"
        else:
            out += f"[={rest}]"
    return out
