"""Fills an estate at its start: namespaces, then manifests in order. What is there already is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deployments.practice.estate import Estate

MANAGER = "changecontrol"
"""Seeds apply as the manager that later deploys, so that its first rollout finds its own fields, not a stranger's."""


def apply_seed(
    estate: Estate,
    *,
    namespaces: Iterable[Mapping[str, Any]] = (),
    manifests: Iterable[Mapping[str, Any]] = (),
    manager: str = MANAGER,
) -> None:
    """Create the missing namespaces (`{"name": …, "labels": {…}}`), apply the manifests. Raises `ApiError`."""
    for namespace in namespaces:
        estate.ensure_namespace(str(namespace["name"]), dict(namespace.get("labels") or {}))
    for manifest in manifests:
        # What is there already may have been released since: a restart must not take it back.
        if not estate.has(manifest):
            estate.ensure_applied(dict(manifest), manager=manager)


def seed_of(
    *, namespaces: Iterable[Mapping[str, Any]] = (), manifests: Iterable[Mapping[str, Any]] = (), manager: str = MANAGER
) -> Callable[[Estate], None]:
    """Return a seed for `PracticeServer.start(seed=…)`."""
    wanted, objects = list(namespaces), list(manifests)
    return lambda estate: apply_seed(estate, namespaces=wanted, manifests=objects, manager=manager)


def read_manifests(path: Path) -> list[dict[str, Any]]:
    """Read every YAML document of a file, or of the `.yaml` files below a folder in order of their names."""
    files = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    return [document for document in documents if document]


def seed_from(path: Path) -> Callable[[Estate], None]:
    """Return a seed of the manifests below a path; namespaces among them, and those they name, come first."""
    manifests = read_manifests(path)
    spaces: dict[str, Mapping[str, str]] = {}
    for manifest in manifests:
        metadata = manifest.get("metadata") or {}
        if manifest.get("kind") == "Namespace":
            spaces[metadata["name"]] = metadata.get("labels") or {}
        elif metadata.get("namespace"):
            spaces.setdefault(metadata["namespace"], {})
    others = [manifest for manifest in manifests if manifest.get("kind") != "Namespace"]
    return seed_of(namespaces=[{"name": name, "labels": labels} for name, labels in spaces.items()], manifests=others)
