"""Evictions: a pod goes unless a disruption budget needs it."""

from __future__ import annotations

import math
from typing import Any

from deployments.practice import selectors, status
from deployments.practice.deletion import Deletions
from deployments.practice.objects import Objects
from deployments.practice.store import Body, Item


def is_ready(pod: Item) -> bool:
    """Say whether a pod is ready and not going."""
    conditions = (pod.body.get("status") or {}).get("conditions") or ()
    ready = any(entry.get("type") == "Ready" and entry.get("status") == "True" for entry in conditions)
    return ready and not pod.metadata.get("deletionTimestamp")


def share(value: Any, total: int, *, rounds_up: bool) -> int:
    """Return how many of `total` a count or a percentage means."""
    if isinstance(value, str) and value.endswith("%"):
        exact = total * int(value[:-1]) / 100
        return math.ceil(exact) if rounds_up else math.floor(exact)
    return int(value)


def evict(objects: Objects, deletions: Deletions, namespace: str, name: str) -> Body:
    """Delete the pod. Raises the 429 of the first budget that needs it."""
    pods = objects.registry.of("Pod")
    pod = objects.existing(pods, namespace, name)
    for budget in objects.store.items(objects.registry.of("PodDisruptionBudget", "policy"), namespace):
        spec = budget.body.get("spec") or {}
        if not selectors.matches(spec.get("selector"), pod.labels):
            continue
        covered = [
            item for item in objects.store.items(pods, namespace) if selectors.matches(spec["selector"], item.labels)
        ]
        healthy = sum(is_ready(item) for item in covered)
        if "maxUnavailable" in spec:
            needed = len(covered) - share(spec["maxUnavailable"], len(covered), rounds_up=True)
        else:
            needed = share(spec.get("minAvailable", 0), len(covered), rounds_up=True)
        if is_ready(pod) and healthy - 1 < needed:
            why = f"The disruption budget {budget.name} needs {needed} healthy pods and has {healthy} currently"
            raise status.ApiError(
                429,
                "TooManyRequests",
                "Cannot evict pod as it would violate the pod's disruption budget.",
                details={"causes": [{"reason": "DisruptionBudget", "message": why}]},
            )
    deletions.delete(pods, namespace, name, {}, is_dry_run=False)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
