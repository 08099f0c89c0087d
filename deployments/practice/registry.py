"""Which kinds are served just now: the built-in ones and those that custom resource definitions brought."""

from __future__ import annotations

from typing import Any

from deployments.practice.kinds import BUILT_IN, Kind
from deployments.practice.schema import Node, custom_type, type_of


class Registry:
    """Kinds by group, version and plural, each with its type."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {
            (kind.group, kind.version, kind.plural): kind for kind in BUILT_IN
        }
        self._custom_types: dict[tuple[str, str], Node] = {}
        self._custom_schemas: dict[tuple[str, str], dict[str, Any]] = {}
        self._by_kind: dict[tuple[str, str], Kind] = {(kind.group, kind.kind): kind for kind in BUILT_IN}

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._kinds.get((group, version, plural))

    def of(self, name: str, group: str = "") -> Kind:
        """Return a served kind by its name, such as `Deployment` of `apps`. Raises `KeyError`."""
        return self._by_kind[group, name]

    def of_manifest(self, body: dict[str, Any]) -> Kind | None:
        group, _, version = str(body.get("apiVersion", "")).rpartition("/")
        kind = self._by_kind.get((group, str(body.get("kind", ""))))
        return kind if kind is not None and kind.version == version else None

    def type_of(self, kind: Kind) -> Node:
        if kind.is_custom:
            return self._custom_types[kind.group, kind.kind]
        return type_of(kind.group, kind.version, kind.kind)

    def schema_of(self, kind: Kind) -> dict[str, Any]:
        """Return the `openAPIV3Schema` of a custom kind, empty where its definition has none."""
        return self._custom_schemas.get((kind.group, kind.kind)) or {}

    def all(self) -> list[Kind]:
        return list(self._kinds.values())

    def groups(self) -> dict[str, list[str]]:
        """Return the versions of every named group, the preferred one first."""
        out: dict[str, list[str]] = {}
        for group, version, _ in self._kinds:
            if group and version not in out.setdefault(group, []):
                out[group].append(version)
        return out

    def define(self, definition: dict[str, Any]) -> list[Kind]:
        """Serve what a custom resource definition describes."""
        self.withdraw(definition)
        spec, names = definition["spec"], definition["spec"]["names"]
        defined = []
        for version in spec.get("versions") or ():
            if not version.get("served"):
                continue
            subresources = tuple(sorted(set(version.get("subresources") or ()) & {"status", "scale"}))
            kind = Kind(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                singular=names.get("singular", ""),
                is_namespaced=spec.get("scope") == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=subresources,
                list_kind=names.get("listKind", ""),
                is_custom=True,
                has_generation=True,
            )
            self._kinds[kind.group, kind.version, kind.plural] = kind
            self._by_kind[kind.group, kind.kind] = kind
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            self._custom_schemas[kind.group, kind.kind] = schema or {}
            self._custom_types[kind.group, kind.kind] = custom_type(schema)
            defined.append(kind)
        return defined

    def withdraw(self, definition: dict[str, Any]) -> list[Kind]:
        """Stop serving what a definition described; return the kinds that are gone."""
        group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
        gone = [kind for kind in self._kinds.values() if kind.is_custom and kind.key == (group, plural)]
        for kind in gone:
            del self._kinds[kind.group, kind.version, kind.plural]
            self._by_kind.pop((kind.group, kind.kind), None)
        return gone
