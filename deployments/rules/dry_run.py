"""What a server's dry run does not say, or says without a way out. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from changecontrol.ports import ObjectRef
from deployments.rules.rollback_class import RUNS_ONCE

Json = Mapping[str, Any]

_WAYS_OUT: Mapping[str, str] = {
    "Job": "A Job cannot be changed once it exists: give every version a name of its own, such as one that ends in the "
    "release. One that has ended may also be deleted first.",
    "PersistentVolumeClaim": "Of a claim only the size may grow: leave the rest as it is, or make a claim by another "
    "name and move the data.",
    "StatefulSet": "Of a StatefulSet only replicas, template, strategy and a few more may change: make one by another "
    "name and move the data.",
}
_OTHERWISE = "This cannot be changed once the object exists: give it another name."
_IMMUTABLE = ("field is immutable", "is immutable after creation", "is immutable", "updates to statefulset spec")


def way_out(ref: ObjectRef, refusal: str) -> str:
    """Return the refusal of an immutable field with what helps; any other refusal as it is.

    The server quotes the whole template it was sent, which tells nobody anything: the name of the field stays.
    """
    if not any(words in refusal for words in _IMMUTABLE):
        return refusal
    help_ = _WAYS_OUT.get(ref.kind, _OTHERWISE)
    if ref.kind in RUNS_ONCE:
        return f"{ref} is there already with another template. {help_}"
    return f"{refusal} {help_}"


def findings_of(manifest: Json, *, before: Json | None, after: Json) -> list[str]:
    """Name what would be accepted and still go wrong. `before` is what is there, `after` what would be."""
    ref = ObjectRef.of(manifest)
    found: list[str] = []
    if ref.kind == "Deployment" and _spec(after).get("paused") is True:
        found.append(f"{ref} is paused, so nothing of it would be rolled out. Resume it (spec.paused) first.")
    had, has = _spec(before or {}).get("replicas"), _spec(after).get("replicas")
    if "replicas" not in _spec(manifest) and isinstance(had, int) and isinstance(has, int) and has < had:
        # Left out, a field that nobody else owns goes back to its default.
        found.append(
            f"{ref} would go from {had} replicas to {has}, because spec.replicas is left out and nobody else sets it. "
            "Keep it until an autoscaler has scaled the workload once."
        )
    return found


def fights_of(manifests: Iterable[Json]) -> list[str]:
    """Name the workloads whose replicas are set by their manifest and by an autoscaler."""
    everything = list(manifests)
    targets = {target: ObjectRef.of(one) for one in everything if (target := target_of(one)) is not None}
    return [
        f"{ref} sets spec.replicas, and {autoscaler} sets them too. Leave them out of {ref.kind} {ref.name}."
        for one in everything
        for ref in [ObjectRef.of(one)]
        for autoscaler in [targets.get((ref.kind, ref.name))]
        if autoscaler is not None and _spec(one).get("replicas") is not None
    ]


def target_of(manifest: Json) -> tuple[str, str] | None:
    """Return kind and name of what a HorizontalPodAutoscaler scales; None for any other object."""
    if manifest.get("kind") != "HorizontalPodAutoscaler":
        return None
    target = _spec(manifest).get("scaleTargetRef") or {}
    return str(target.get("kind", "")), str(target.get("name", ""))


def _spec(thing: Json) -> Json:
    found = thing.get("spec")
    return found if isinstance(found, Mapping) else {}
