"""From files of YAML to the objects of one environment, or to refusals that name file and document.

Nothing is fetched or run here. Whatever could reach beyond the environment's namespace is refused, not mended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import yaml

from changecontrol.ports import INVENTORY_LABEL, ObjectRef
from deployments.rules.images import digest_in

MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_DOCUMENTS = 2000
MAX_ALIASES = 20
"""Aliases multiply: a handful are a convenience, a hundred are a bomb."""
MAX_DEPTH = 60
SUFFIXES = (".yaml", ".yml", ".json")
KUSTOMIZATIONS = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})

CLUSTER_SCOPED = frozenset(
    [
        "APIService",
        "CSIDriver",
        "CSINode",
        "CertificateSigningRequest",
        "ClusterIssuer",
        "ClusterPolicy",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterTrustBundle",
        "ComponentStatus",
        "CustomResourceDefinition",
        "DeviceClass",
        "FlowSchema",
        "GatewayClass",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "RuntimeClass",
        "SelfSubjectAccessReview",
        "SelfSubjectRulesReview",
        "StorageClass",
        "SubjectAccessReview",
        "TokenReview",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
        "VolumeAttributesClass",
        "VolumeSnapshotClass",
        "VolumeSnapshotContent",
    ]
)

_ORDER = [
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "StorageClass",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
    "PodDisruptionBudget",
    "StatefulSet",
    "Deployment",
    "DaemonSet",
    "Job",
    "CronJob",
    "HorizontalPodAutoscaler",
    "Ingress",
]
_RANK = {kind: index for index, kind in enumerate(_ORDER)}
_TEMPLATE_PATHS: Mapping[str, tuple[str, ...]] = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "ReplicaSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects go. `inventory` is the value of the inventory label; `allowed_kinds` are cluster-scoped."""

    namespace: str
    inventory: str
    allowed_kinds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RenderedObject:
    """One object as it will be applied, and where it came from. `document` counts from 1."""

    ref: ObjectRef
    manifest: dict[str, Any]
    file: str
    document: int


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """Why a document cannot be applied. `document` is 0 where the whole file is meant."""

    file: str
    document: int
    sentence: str

    def __str__(self) -> str:
        if not self.file:
            return self.sentence
        where = f"{self.file}, document {self.document}" if self.document else self.file
        return f"{where}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the files amount to, in the order of applying. With a refusal nothing of it may be applied."""

    objects: tuple[RenderedObject, ...]
    refusals: tuple[RefusedDocument, ...]


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image in a pod template. `digest` is `sha256:…`, or empty where only a tag names it."""

    ref: ObjectRef
    container: str
    image: str
    digest: str


class _Refused(Exception):
    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class _Loader(yaml.CSafeLoader):
    """YAML as JSON: dates stay text, and a key said twice is an error instead of a guess."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    said = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    twice = next((key for key in said if said.count(key) > 1), None)
    if twice is not None:
        raise _Refused(f"the key “{twice}” is said twice.")
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def has_kustomization(paths: Set[str]) -> bool:
    """Tell whether the folder itself asks for Kustomize."""
    return bool(KUSTOMIZATIONS & paths)


def render(files: Mapping[str, bytes], *, place: Place) -> Rendered:
    """Read the manifests among the files and put each object into the environment's place."""
    objects: list[RenderedObject] = []
    refusals: list[RefusedDocument] = []
    seen: dict[tuple[str, str, str, str], RenderedObject] = {}
    for file in sorted(one for one in files if one.endswith(SUFFIXES)):
        try:
            documents = _parse(files[file])
        except _Refused as refused:
            refusals.append(RefusedDocument(file, 0, refused.sentence))
            continue
        for number, document in enumerate(documents, start=1):
            try:
                for manifest in _expand(document):
                    placed = _place(manifest, place)
                    found = RenderedObject(ObjectRef.of(placed), placed, file, number)
                    first = seen.setdefault(identity_of(found.ref), found)
                    if first is not found:
                        raise _Refused(f"{found.ref} is in {first.file}, document {first.document}, already.")
                    objects.append(found)
            except _Refused as refused:
                refusals.append(RefusedDocument(file, number, refused.sentence))
    objects.sort(key=lambda one: (_RANK.get(one.ref.kind, len(_RANK)), one.ref))
    if not objects and not refusals:
        refusals.append(RefusedDocument("", 0, "There is no manifest below the environment's path."))
    return Rendered(tuple(objects), tuple(refusals))


def _parse(data: bytes) -> list[Any]:
    """Read the documents of one file; empty ones keep their number. Raises a refusal with a sentence."""
    if len(data) > MAX_FILE_BYTES:
        raise _Refused(f"the file is larger than {MAX_FILE_BYTES // 1024} KiB.")
    try:
        _measure(data)
        documents = list(yaml.load_all(data, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        # The excerpt that PyYAML adds could hold a secret, so only the problem itself is passed on.
        raise _Refused(f"{line}not valid YAML ({getattr(error, 'problem', None) or 'unreadable'}).") from None
    except (UnicodeDecodeError, ValueError, RecursionError, TypeError):
        raise _Refused("not valid YAML (unreadable).") from None
    for document in documents:
        _check_plain(document)
    return documents


def images_of(manifest: Mapping[str, Any]) -> tuple[ImageUse, ...]:
    """List the images of a workload's pod template, init containers included."""
    ref = ObjectRef.of(manifest)
    spec: Any = manifest
    for step in _TEMPLATE_PATHS.get(ref.kind, ("",)):
        spec = spec.get(step) if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping):
        return ()
    return tuple(
        ImageUse(ref, str(container.get("name", "")), str(container["image"]), digest_in(str(container["image"])))
        for group in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(group) or ()
        if isinstance(container, Mapping) and container.get("image")
    )


def resource_of(kind: str) -> str:
    """Return a kind's resource as Kubernetes itself guesses it (`meta.UnsafeGuessKindToResource`)."""
    word = kind.lower()
    if word.endswith("s"):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def identity_of(ref: ObjectRef) -> tuple[str, str, str, str]:
    """Return what tells an object from another: two versions of one group are the same object to the API server."""
    return ref.api_version.rpartition("/")[0], ref.kind, ref.namespace, ref.name


def _measure(data: bytes) -> None:
    aliases = documents = depth = 0
    for event in yaml.parse(data, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if aliases > MAX_ALIASES:
            raise _Refused(f"the file uses more than {MAX_ALIASES} aliases.")
        if documents > MAX_DOCUMENTS:
            raise _Refused(f"the file holds more than {MAX_DOCUMENTS} documents.")
        if depth > MAX_DEPTH:
            raise _Refused(f"the file is nested more than {MAX_DEPTH} deep.")


def _check_plain(value: Any, depth: int = 0) -> None:
    # An alias may name what contains it; the depth ends that walk too.
    if depth > MAX_DEPTH:
        raise _Refused(f"the file is nested more than {MAX_DEPTH} deep.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise _Refused(f"the key {key!r} is not text: put it in quotes.")
            _check_plain(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _Refused("a number is infinite or none.")
    elif not (value is None or isinstance(value, str | int | float)):
        raise _Refused(f"a value of the type {type(value).__name__} is not JSON.")


def _expand(document: Any) -> list[dict[str, Any]]:
    if document is None:
        return []
    if not isinstance(document, dict):
        raise _Refused("this is no Kubernetes object.")
    kind = document.get("kind")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(document.get("items"), list):
        return [inner for item in document["items"] for inner in _expand(item)]
    return [document]


def _place(manifest: dict[str, Any], place: Place) -> dict[str, Any]:
    kind, version = manifest.get("kind"), manifest.get("apiVersion")
    metadata = manifest.get("metadata")
    if not (isinstance(kind, str) and kind and isinstance(version, str) and version and isinstance(metadata, dict)):
        raise _Refused("an object needs apiVersion, kind and metadata.")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not (isinstance(name, str) and name):
        raise _Refused(f"a {kind} has no name; generated names cannot be applied twice.")
    labels = metadata.get("labels") or {}
    if not isinstance(labels, dict):
        raise _Refused(f"the labels of {kind} {name} are no mapping.")
    if labels.get(INVENTORY_LABEL, place.inventory) != place.inventory:
        raise _Refused(f"{kind} {name} claims to belong to another environment.")
    placed = {**metadata, "labels": {**labels, INVENTORY_LABEL: place.inventory}}
    if kind in CLUSTER_SCOPED:
        if kind not in place.allowed_kinds:
            raise _Refused(f"{kind} {name} is cluster-scoped, and this environment has no allowance for that kind.")
        placed.pop("namespace", None)
    elif namespace not in (None, "", place.namespace):
        raise _Refused(f"{kind} {name} names the namespace {namespace}; this environment is {place.namespace}.")
    else:
        placed["namespace"] = place.namespace
    return {**manifest, "metadata": placed}
