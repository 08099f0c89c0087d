"""Server-side apply on plain dictionaries: who owns which leaf, what is merged, what conflicts. Pure.

A list whose items all have a `name` merges by name, as containers do; every other list is one leaf.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from changecontrol.ports import FieldConflict

Path = tuple[str, ...]
_ITEM = "\0"


@dataclass(slots=True)
class Ownership:
    """The leaves each manager applied last, of one object."""

    leaves: dict[str, dict[Path, Any]] = field(default_factory=dict)

    def conflicts_of(self, manager: str, manifest: Mapping[str, Any]) -> tuple[FieldConflict, ...]:
        """Return the leaves that another manager owns with another value."""
        wanted = leaves_of(manifest)
        return tuple(
            FieldConflict(manager=other, path=words_of(path))
            for other, owned in sorted(self.leaves.items())
            if other != manager
            for path, value in sorted(wanted.items(), key=lambda item: item[0])
            if path in owned and owned[path] != value
        )

    def apply(self, manager: str, manifest: Mapping[str, Any]) -> None:
        """Make the manager own exactly the leaves of the manifest, taking those that others own with other values."""
        wanted = leaves_of(manifest)
        for other, owned in self.leaves.items():
            if other != manager:
                for path in [path for path in owned if path in wanted and owned[path] != wanted[path]]:
                    del owned[path]
        self.leaves[manager] = wanted

    def merged(self) -> dict[str, Any]:
        """Return the object that all managers together describe."""
        merged: dict[str, Any] = {}
        for owned in self.leaves.values():
            for path, value in owned.items():
                _put(merged, path, value)
        return merged


def leaves_of(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the leaves of an object by their path. An empty mapping is a leaf."""
    if isinstance(value, Mapping) and value:
        return {p: leaf for key, entry in value.items() for p, leaf in leaves_of(entry, (*path, str(key))).items()}
    if _is_keyed(value):
        return {p: leaf for item in value for p, leaf in leaves_of(item, (*path, f"{_ITEM}{item['name']}")).items()}
    return {path: copy.deepcopy(value)}


def words_of(path: Path) -> str:
    """Return the path as an API server words it: `.spec.template.spec.containers[name="odoo"].image`."""
    return "".join(f'[name="{step[1:]}"]' if step.startswith(_ITEM) else f".{step}" for step in path)


def _is_keyed(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and "name" in item for item in value)
    )


def _put(target: dict[str, Any], path: Path, value: Any) -> None:
    here: Any = target
    for step, following in zip(path, (*path[1:], None), strict=True):
        if step.startswith(_ITEM):
            # Never the last step: an item's own name is one of its leaves.
            here = _item(here, step[1:])
        elif following is None:
            here[step] = copy.deepcopy(value)
        else:
            empty: Any = [] if following.startswith(_ITEM) else {}
            if not isinstance(here.get(step), type(empty)):
                here[step] = empty
            here = here[step]


def _item(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item.get("name") == name:
            return item
    items.append({"name": name})
    return items[-1]
