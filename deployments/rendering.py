"""From a commit and an environment's path to the objects that belong there: plain YAML, or Kustomize where configured.

What a commit renders to never changes, so it is remembered in memory; losing that costs rendering it again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from changecontrol.errors import Permanent
from changecontrol.models import Environment
from changecontrol.ports import ObjectRef
from deployments import doors, kustomize
from deployments.ports import GitRepository
from deployments.rules import redaction
from deployments.rules.manifests import Place, Rendered, RenderedObject, has_kustomization, render
from deployments.rules.policy import WORKLOADS

MAX_REMEMBERED = 128
MAX_REFUSALS_SHOWN = 5

_remembered: OrderedDict[tuple[Any, ...], Rendered] = OrderedDict()
_lock = threading.Lock()


class Unresolvable(Permanent):
    """What was asked for cannot become a plan; the sentence tells the requester what to mend."""


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of one environment at one commit, in the order of applying."""

    commit: str
    objects: tuple[RenderedObject, ...]

    @property
    def shared(self) -> tuple[RenderedObject, ...]:
        """What the workloads have in common."""
        return tuple(one for one in self.objects if one.ref.kind not in WORKLOADS)

    @property
    def workloads(self) -> tuple[RenderedObject, ...]:
        return tuple(one for one in self.objects if one.ref.kind in WORKLOADS)

    def of(self, workload: str) -> tuple[RenderedObject, ...]:
        """Return what one target applies: the workload called `Kind/name`, or for an empty name the shared objects."""
        if not workload:
            return self.shared
        return tuple(one for one in self.workloads if name_of(one.ref) == workload)

    def holds(self, ref: ObjectRef) -> bool:
        return any(one.ref == ref for one in self.objects)


def name_of(ref: ObjectRef) -> str:
    """Return how a target names its workload."""
    return f"{ref.kind}/{ref.name}"


def manifests_at(environment: Environment, commit: str, *, repository: GitRepository | None = None) -> Manifests:
    """Render an environment at a commit. Raises `Unresolvable` with file and document for what may not be applied."""
    place = Place(
        namespace=environment.namespace,
        inventory=environment.inventory,
        allowed_kinds=frozenset(environment.cluster_scoped_kinds),
    )
    return manifests_in(place, environment, commit, path=environment.path, repository=repository)


def manifests_in(
    place: Place, environment: Environment, commit: str, *, path: str, repository: GitRepository | None = None
) -> Manifests:
    """Render a path of an environment's source for a place, which may be another than its own."""
    rendered = _rendered(environment, commit, repository, path=path, place=place)
    if rendered.refusals:
        said = "; ".join(str(refusal) for refusal in rendered.refusals[:MAX_REFUSALS_SHOWN])
        more = len(rendered.refusals) - MAX_REFUSALS_SHOWN
        also = f" (and {more} more)" if more > 0 else ""
        raise Unresolvable(f"{environment.slug} cannot be rendered at {commit[:8]}. {said}{also}")
    return Manifests(commit, rendered.objects)


def previous_manifests(environment: Environment, commit: str | None) -> Manifests:
    """Render what runs there now, as far as the environment's ref tells; nothing where it never had a path."""
    if not commit:
        return Manifests("", ())
    repository = doors.open_source(environment.source)
    try:
        return manifests_at(environment, commit, repository=repository)
    except Permanent:
        prefix = environment.path.strip("/") + "/"
        if any(name.startswith(prefix) for name in repository.observe_tree(sha=commit, path="")):
            raise
        return Manifests(commit, ())


def safe(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest as it may be stored and shown: secret values are replaced by keyed hashes."""
    return redaction.redact(manifest, key=redaction_key())


def redaction_key() -> bytes:
    return hashlib.sha256(b"changecontrol redaction\0" + settings.SECRET_KEY.encode()).digest()


def _rendered(
    environment: Environment, commit: str, repository: GitRepository | None, *, path: str, place: Place
) -> Rendered:
    key = (environment.source_id, environment.source.url, commit, path, place, tuple(settings.KUSTOMIZE_COMMAND))
    with _lock:
        if key in _remembered:
            _remembered.move_to_end(key)
            return _remembered[key]
    repository = repository or doors.open_source(environment.source)
    repository.observe_commit(commit)  # fetches what a fresh mirror lacks
    files = repository.observe_tree(sha=commit, path=path)
    if has_kustomization(files.keys()):
        files = {"kustomize build": _kustomize(repository, commit, path) + b"\n"}
        found = render({"kustomization.yaml": files["kustomize build"]}, place=place)
    else:
        found = render(files, place=place)
    with _lock:
        _remembered[key] = found
        while len(_remembered) > MAX_REMEMBERED:
            _remembered.popitem(last=False)
    return found


def _kustomize(repository: GitRepository, commit: str, path: str) -> bytes:
    if not settings.KUSTOMIZE_COMMAND:
        raise Unresolvable(
            f"{path} holds a kustomization, and no program renders one here. Set KUSTOMIZE_COMMAND, such as "
            "kubectl,kustomize, or commit the rendered manifests."
        )
    try:
        return kustomize.build(
            repository.observe_tree(sha=commit, path=""), path=path, command=settings.KUSTOMIZE_COMMAND
        )
    except Permanent as refusal:
        raise Unresolvable(str(refusal)) from None


def stored_form(objects: Iterable[RenderedObject]) -> list[dict[str, Any]]:
    """Return the objects as they are kept as evidence."""
    return [safe(one.manifest) for one in objects]
