"""How a fake workload comes to life: what its status says at a moment, from the releases applied so far. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from changecontrol.adapters.kubernetes.workloads import digest_of
from changecontrol.ports import Manifest, ObjectRef, PodProblem, Rejected, WorkloadStatus

DEFAULT_DEADLINE_SECONDS = 600
CONTAINER_FIELDS = {
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
    "workingDir",
}


@dataclass(frozen=True, slots=True)
class Release:
    """One pod template with its replicas, applied at a moment. `spoiled` maps words of an image to its failure."""

    template: Mapping[str, Any]
    replicas: int
    at: datetime
    ready_at: datetime
    spoiled: Mapping[str, str] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        spec = self.template.get("spec") or {}
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        return tuple(sorted({str(container.get("image", "")) for container in containers}))

    @property
    def spoiled_by(self) -> str:
        """Return why its pods never become ready, or an empty string."""
        return next((why for image in self.images for words, why in self.spoiled.items() if words in image), "")

    def is_ready(self, at: datetime) -> bool:
        return not self.spoiled_by and at >= self.ready_at


def resolve_digest(image: str) -> str:
    """Return the digest an image runs as: its own where it is pinned, else one that its name alone decides."""
    return digest_of(image) or f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def status_of(
    ref: ObjectRef,
    *,
    uid: str,
    generation: int,
    spec: Mapping[str, Any],
    releases: Sequence[Release],
    at: datetime,
) -> WorkloadStatus:
    """Return the status at a moment. Until the newest release is ready, the last one that was stays available."""
    newest = releases[-1]
    is_ready = newest.is_ready(at)
    before = next((release for release in reversed(releases[:-1]) if release.is_ready(newest.at)), None)
    available = newest.replicas if is_ready else before.replicas if before else 0
    deadline = timedelta(seconds=int(spec.get("progressDeadlineSeconds") or DEFAULT_DEADLINE_SECONDS))
    is_late = ref.kind == "Deployment" and not is_ready and at - newest.at >= deadline
    pod = f"{ref.name}-{len(releases)}-0"
    is_pulled = is_ready or newest.spoiled_by == "CrashLoopBackOff"
    return WorkloadStatus(
        ref=ref,
        uid=uid,
        generation=generation,
        observed_generation=generation,
        desired_count=newest.replicas,
        updated_count=newest.replicas if is_ready else min(1, newest.replicas),
        ready_count=available,
        available_count=available,
        total_count=newest.replicas if is_ready else available + min(1, newest.replicas),
        is_deadline_exceeded=is_late,
        message=f'ReplicaSet "{ref.name}" has timed out progressing.' if is_late else "",
        image_ids=tuple(sorted({resolve_digest(image) for image in newest.images})) if is_pulled else (),
        pod_images=newest.images if newest.replicas else (),
        problems=(PodProblem(pod, newest.spoiled_by, f"{newest.spoiled_by}: {newest.images[0]}"),)
        if newest.spoiled_by and newest.replicas
        else (),
        restart_count=3 if newest.spoiled_by == "CrashLoopBackOff" else 0,
    )


def check_manifest(
    ref: ObjectRef,
    manifest: Manifest,
    *,
    kinds: Collection[tuple[str, str]],
    namespaces: Collection[str],
    cluster_scoped: Collection[tuple[str, str]],
) -> None:
    """Refuse what an API server refuses: unknown kinds, absent namespaces, misspelt fields, wrong selectors."""
    if not (ref.api_version and ref.kind and ref.name):
        raise Rejected("An object of the definition has no apiVersion, kind or name.")
    kind = (ref.api_version, ref.kind)
    if kind not in kinds:
        raise Rejected(f"The cluster does not know the kind {ref.kind} of {ref.api_version}.")
    if kind not in cluster_scoped:
        if not ref.namespace:
            raise Rejected(f"{ref} names no namespace.")
        if ref.namespace not in namespaces:
            raise Rejected(f"The cluster has no namespace {ref.namespace}, so it cannot apply {ref}.")
    template = (manifest.get("spec") or {}).get("template") or {}
    for container in (template.get("spec") or {}).get("containers") or ():
        if unknown := sorted(set(container) - CONTAINER_FIELDS):
            raise Rejected(f"The cluster refused to apply {ref}: .{unknown[0]}: field not declared in schema.")
    selector = ((manifest.get("spec") or {}).get("selector") or {}).get("matchLabels")
    labels = (template.get("metadata") or {}).get("labels") or {}
    if ref.kind in ("DaemonSet", "Deployment", "StatefulSet") and (
        not selector or any(labels.get(key) != value for key, value in selector.items())
    ):
        raise Rejected(f"The cluster refused to apply {ref}: `selector` does not match template `labels`.")
