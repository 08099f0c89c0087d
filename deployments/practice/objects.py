"""Create, replace, patch and apply objects as the API server does, for requests and controllers alike.

Every write goes through here: decoding, defaults, validation, ownership, generation, optimistic locking, dry run.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from deployments.practice import (
    admission,
    decoding,
    defaults,
    fields,
    managed,
    patches,
    status,
    structural,
    validation,
)
from deployments.practice.clock import PracticeClock, stamp
from deployments.practice.kinds import Kind
from deployments.practice.registry import Registry
from deployments.practice.schema import Node
from deployments.practice.store import Body, Item, Store, cloned

EFFECTS_KEPT = 20_000
"""Objects whose writes are counted; the oldest are forgotten first."""

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_FROM_LIVE = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "name",
    "namespace",
)


@dataclass(slots=True)
class Options:
    """How a write is asked for."""

    manager: str = "unknown"
    is_dry_run: bool = False
    is_forced: bool = False
    field_validation: str = "Warn"
    has_manager: bool = True
    warnings: list[str] = field(default_factory=list)


def random_suffix() -> str:
    return "".join(random.choices(_ALPHABET, k=5))  # noqa: S311 - a name, not a secret


class Objects:
    """The write half of the API. `effects` counts the requests that changed something, per verb and object."""

    def __init__(self, store: Store, registry: Registry, clock: PracticeClock) -> None:
        self.store = store
        self.registry = registry
        self.clock = clock
        self.effects: Counter[str] = Counter()

    def existing(self, kind: Kind, namespace: str, name: str) -> Item:
        item = self.store.get(kind, namespace, name)
        if item is None:
            raise status.not_found(kind, name)
        return item

    def create(self, kind: Kind, namespace: str, body: Any, options: Options) -> Body:
        """Store a new object and return it. Raises `ApiError`."""
        node = self.registry.type_of(kind)
        self._check_kind(kind, body)
        new = cloned(self._decoded(kind, node, body, options))
        metadata = new.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        return self._born(kind, node, namespace, new, options, None)

    def apply(self, kind: Kind, namespace: str, name: str, body: Any, options: Options) -> tuple[Body, bool]:
        """Apply a configuration; return the object and whether it was created."""
        if not options.has_manager:
            causes = [("FieldValueRequired", "fieldManager", "Required value: is required for apply patch")]
            raise status.invalid_options("PatchOptions", causes)
        node = self.registry.type_of(kind)
        self._check_kind(kind, body)
        config = decoding.checked_configuration(kind, node, body, namespace=namespace, name=name)
        self._check_named(kind, namespace, name, config)
        if (config.get("metadata") or {}).get("managedFields"):
            raise status.bad_request("metadata.managedFields must be nil")
        live = self.store.get(kind, namespace, name)
        writer = self._writer(kind, options, "")
        if live is None:
            if (config.get("metadata") or {}).get("resourceVersion"):
                raise status.not_found(kind, name)
            config.setdefault("metadata", {}).update({"name": name} | ({"namespace": namespace} if namespace else {}))
            applied = managed.apply(
                node, live={}, config=config, entries=None, writer=writer, is_forced=True, is_ours=_owned_by_main(kind)
            )
            return self._born(kind, node, namespace, cloned(applied.body), options, applied), True
        self._check_version(kind, name, live, (config.get("metadata") or {}).get("resourceVersion"))
        before = {key: value for key, value in live.body.items() if key != "metadata"}
        before["metadata"] = {key: value for key, value in live.metadata.items() if key != "managedFields"}
        applied = managed.apply(
            node, live=before, config=config, entries=live.metadata.get("managedFields"), writer=writer,
            is_forced=options.is_forced, is_ours=_owned_by_main(kind),
        )  # fmt: skip
        new = cloned(applied.body)
        is_changed = self._settled(kind, live, new, "")
        owner = writer.owner("Apply")
        entries = managed.write(applied.sets, applied.times)
        if is_changed or _without_times(entries) != _without_times(live.metadata.get("managedFields")):
            applied.times[owner] = writer.at
            entries = managed.write(applied.sets, applied.times)
        return self._stored(kind, live, new, entries, options, "apply"), False

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Any, options: Options, *, subresource: str = ""
    ) -> Body:
        """Replace an object, or its status."""
        node = self.registry.type_of(kind)
        self._check_kind(kind, body)
        new = cloned(self._decoded(kind, node, body, options))
        self._check_named(kind, namespace, name, new)
        live = self.existing(kind, namespace, name)
        return self._updated(kind, node, live, new, options, subresource, "update")

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch_type: str,
        patch: Any,
        options: Options,
        *,
        subresource: str = "",
    ) -> Body:
        """Patch an object, or its status, by a merge, strategic merge or JSON patch."""
        node = self.registry.type_of(kind)
        live = self.existing(kind, namespace, name)
        base = cloned(live.body)
        if patch_type == "application/merge-patch+json":
            new = patches.merge(base, patch)
        elif patch_type == "application/json-patch+json":
            new = patches.json_patch(base, patch)
        else:
            new = patches.strategic(node, base, patch)
        new = cloned(self._decoded(kind, node, new, options))
        self._check_named(kind, namespace, name, new)
        return self._updated(kind, node, live, new, options, subresource, "patch")

    def set_status(self, item: Item, new_status: Body, *, manager: str, annotations: Body | None = None) -> Item:
        """Write a controller's status; nothing is stored where nothing differs."""
        live = self.store.get(item.kind, item.namespace, item.name)
        if live is None or live.metadata["uid"] != item.metadata["uid"]:
            return item
        if live.body.get("status") == new_status and annotations is None:
            return live
        metadata = dict(live.metadata)
        if annotations is not None:
            metadata["annotations"] = annotations
        new = {**live.body, "metadata": metadata, "status": new_status}
        entries = managed.after_update(
            self.registry.type_of(live.kind), old=live.body, new=new, entries=live.metadata.get("managedFields"),
            writer=self._writer(live.kind, Options(manager=manager), "status"), is_ours=_owned_by_status,
        )  # fmt: skip
        self._stored(live.kind, live, new, entries, Options(manager=manager), "")
        return self.store.get(live.kind, live.namespace, live.name) or live

    def adjust(self, item: Item, body: Body, *, manager: str) -> Body:
        """Write a controller's change to a spec or to metadata."""
        live = self.existing(item.kind, item.namespace, item.name)
        node = self.registry.type_of(item.kind)
        return self._updated(item.kind, node, live, cloned(body), Options(manager=manager), "", "")

    def count_effect(self, verb: str, kind: Kind, namespace: str, name: str) -> None:
        """Count a request that changed something."""
        if not verb:
            return
        where = f"{namespace}/{name}" if namespace else name
        self.effects[f"{verb} {kind.resource} {where}"] += 1
        if len(self.effects) > EFFECTS_KEPT:
            del self.effects[next(iter(self.effects))]

    def _born(
        self, kind: Kind, node: Node, namespace: str, new: Body, options: Options, applied: managed.AppliedFields | None
    ) -> Body:
        metadata = new["metadata"]
        if kind.is_namespaced:
            if metadata.setdefault("namespace", namespace) != namespace:
                raise status.bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            metadata.pop("namespace", None)
        if not metadata.get("name"):
            causes = [("FieldValueRequired", "metadata.name", "Required value: name or generateName is required")]
            raise status.invalid(kind, "", causes)
        if metadata.get("resourceVersion"):
            raise status.bad_request("resourceVersion should not be set on objects to be created")
        self._check_namespace(kind, namespace, metadata["name"])
        for key in ("uid", "creationTimestamp", "deletionTimestamp", "generation", "selfLink", "managedFields"):
            metadata.pop(key, None)
        if "status" in kind.subresources or kind.kind == "Pod":
            new.pop("status", None)
        self._fill(kind, new)
        writer = self._writer(kind, options, "")
        if applied is None:
            entries = managed.after_update(
                node, old=managed.blank(kind.kind), new=new, entries=None, writer=writer, is_ours=_owned_by_main(kind)
            )
        else:
            entries = managed.write(applied.sets, applied.times)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = writer.at
        if kind.has_generation:
            metadata["generation"] = 1
        admission.admit(kind, new)
        if (kind.group in ("apps", "batch") and "status" in kind.subresources) or kind.kind == "ResourceQuota":
            new.setdefault("status", {})
        self._validate(kind, new, None)
        if kind.is_namespaced:
            self._check_quota(kind, namespace, new)
        if self.store.get(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
            raise status.already_exists(kind, metadata["name"])
        if entries:
            metadata["managedFields"] = entries
        new = _ordered(kind, new)
        if not options.is_dry_run:
            self.store.put(kind, new)
            self.count_effect("create" if applied is None else "apply", kind, namespace, metadata["name"])
        return new

    def _updated(
        self, kind: Kind, node: Node, live: Item, new: Body, options: Options, subresource: str, verb: str
    ) -> Body:
        metadata = new.setdefault("metadata", {})
        self._check_version(kind, live.name, live, metadata.get("resourceVersion"))
        if metadata.get("uid", live.metadata["uid"]) != live.metadata["uid"]:
            uids = metadata["uid"], live.metadata["uid"]
            why = "Precondition failed: UID in precondition: {}, UID in object meta: {}".format(*uids)
            raise status.conflict(kind, live.name, why)
        entries = live.metadata.get("managedFields")
        if isinstance(metadata.get("managedFields"), list) and metadata["managedFields"] in ([], [{}]):
            entries = []
        self._settled(kind, live, new, subresource)
        entries = managed.after_update(
            node, old=live.body, new=new, entries=entries, writer=self._writer(kind, options, subresource),
            is_ours=_owned_by_status if subresource == "status" else _owned_by_main(kind),
        )  # fmt: skip
        return self._stored(kind, live, new, entries, options, verb)

    def _settled(self, kind: Kind, live: Item, new: Body, subresource: str) -> bool:
        """Carry over what a request cannot set, fill defaults, count the generation, validate; say if content "
        "differs."""
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        metadata = new.setdefault("metadata", {})
        for key in _FROM_LIVE:
            if key in live.metadata:
                metadata[key] = live.metadata[key]
            else:
                metadata.pop(key, None)
        metadata.pop("selfLink", None)
        metadata["resourceVersion"] = live.metadata["resourceVersion"]
        for key in ("labels", "annotations", "finalizers", "ownerReferences"):
            if metadata.get(key) in ({}, [], None):
                metadata.pop(key, None)
        if subresource == "status":
            for key in set(new) | set(live.body):
                if key not in ("metadata", "status", "apiVersion", "kind"):
                    new.pop(key, None)
                    if key in live.body:
                        new[key] = live.body[key]
            for key in ("labels", "ownerReferences", "finalizers"):
                metadata.pop(key, None)
                if key in live.metadata:
                    metadata[key] = live.metadata[key]
        else:
            if "status" in kind.subresources:
                new.pop("status", None)
                if "status" in live.body:
                    new["status"] = live.body["status"]
            self._fill(kind, new)
            if kind.kind == "Service":
                for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                    if key in live.body["spec"]:
                        new["spec"].setdefault(key, live.body["spec"][key])
            if kind.has_generation and _content(kind, new) != _content(kind, live.body):
                metadata["generation"] = int(live.metadata.get("generation", 0)) + 1
            self._validate(kind, new, live.body)
        return _compared(new) != _compared(live.body)

    def _stored(
        self, kind: Kind, live: Item, new: Body, entries: list[dict[str, Any]], options: Options, verb: str
    ) -> Body:
        metadata = new["metadata"]
        metadata.pop("managedFields", None)
        if entries:
            metadata["managedFields"] = entries
        is_same = _compared(new) == _compared(live.body)
        if is_same and _without_times(entries) == _without_times(live.metadata.get("managedFields")):
            return live.body
        new = _ordered(kind, new)
        if options.is_dry_run:
            return new
        item = self.store.put(kind, new)
        self.count_effect(verb, kind, live.namespace, live.name)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and not _has_other_end(kind, new):
            self.store.remove(item)
        return new

    def _writer(self, kind: Kind, options: Options, subresource: str) -> managed.Writer:
        return managed.Writer(options.manager, kind.api_version, stamp(self.clock.now()), subresource)

    def _decoded(self, kind: Kind, node: Node, body: Any, options: Options) -> Body:
        new, unknown = decoding.decoded(kind, node, body)
        if unknown and options.field_validation == "Strict":
            raise decoding.strict_error(kind, unknown)
        if unknown and options.field_validation != "Ignore":
            options.warnings += [f'unknown field "{path}"' for path in unknown]
        new["apiVersion"], new["kind"] = kind.api_version, kind.kind
        return new

    def _check_kind(self, kind: Kind, body: Any) -> None:
        if not isinstance(body, dict):
            return
        version, name = body.get("apiVersion", kind.api_version), body.get("kind", kind.kind)
        if version != kind.api_version:
            raise status.bad_request(
                f"the API version in the data ({version}) does not match the expected API version ({kind.api_version})"
            )
        if name != kind.kind:
            shown = f"{kind.api_version}, Kind={name}"
            raise status.bad_request(
                f'{name} in version "{kind.version}" cannot be handled as a {kind.kind}: converting ({shown})'
            )

    def _check_named(self, kind: Kind, namespace: str, name: str, body: Body) -> None:
        metadata = body.get("metadata") or {}
        if metadata.get("name", name) != name:
            raise status.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
            )
        if kind.is_namespaced and metadata.get("namespace", namespace) != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _check_version(self, kind: Kind, name: str, live: Item, version: Any) -> None:
        if version and str(version) != live.metadata["resourceVersion"]:
            raise status.modified(kind, name)

    def _check_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.is_namespaced:
            return
        holder = self.registry.of("Namespace")
        item = self.store.get(holder, "", namespace)
        if item is None:
            raise status.not_found(holder, namespace)
        if item.metadata.get("deletionTimestamp") and kind.kind != "Event":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            message = f"namespace {namespace} is being terminated"
            causes = [{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]
            raise status.forbidden(kind, name, why, causes=causes)

    def _check_quota(self, kind: Kind, namespace: str, new: Body) -> None:
        quotas = list(self.store.items(self.registry.of("ResourceQuota"), namespace))
        if quotas and kind.kind not in ("Event", "ResourceQuota"):
            admission.refuse_over_quota(kind, new, quotas, list(self.store.items(kind, namespace)))

    def _fill(self, kind: Kind, new: Body) -> None:
        if kind.is_custom:
            structural.fill(self.registry.schema_of(kind), new)
        else:
            defaults.fill(kind.kind, new)

    def _validate(self, kind: Kind, new: Body, old: Body | None) -> None:
        causes = validation.causes_against(kind, new, old)
        if kind.is_custom:
            causes += structural.causes(self.registry.schema_of(kind), new)
        if causes:
            raise status.invalid(kind, new["metadata"]["name"], causes)


def _owned_by_main(kind: Kind) -> Any:
    if "status" in kind.subresources:
        return lambda path: path[0] != "f:status"
    return lambda path: True


def _owned_by_status(path: fields.Path) -> bool:
    return path[0] == "f:status" or path[:2] == ("f:metadata", "f:annotations")


def _content(kind: Kind, body: Body) -> Any:
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status", "kind", "apiVersion")}
    if kind.kind == "Deployment":
        # A deployment counts a new annotation as a new generation; other kinds do not.
        return rest, body["metadata"].get("annotations") or {}
    if kind.kind == "EndpointSlice":
        return rest, body["metadata"].get("labels") or {}
    return rest


def _compared(body: Body) -> Body:
    metadata = {
        key: value for key, value in body["metadata"].items() if key not in ("managedFields", "resourceVersion")
    }
    return {**body, "metadata": metadata}


def _without_times(entries: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries or ()]


def _has_other_end(kind: Kind, body: Body) -> bool:
    # Pods end when their node says so, namespaces when they are empty.
    return kind.kind in ("Pod", "Namespace") and not kind.group


def _ordered(kind: Kind, body: Body) -> Body:
    rest = {key: value for key, value in body.items() if key not in ("kind", "apiVersion", "metadata")}
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": body["metadata"], **rest}
