"""Looks at workloads. One look at a namespace serves all its targets for a moment: a wave of hundreds must not list it
hundreds of times.

A look that is a moment old cannot pass for news: health asks for the applied generation and the planned digest, which
a status from before the apply does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from changecontrol.models import Environment, RunTarget
from changecontrol.ports import Kubernetes, ObjectRef, WorkloadStatus
from deployments import doors
from deployments.rendering import Manifests
from deployments.rules.health import WorkloadHealth, judge_target, judge_workload
from deployments.rules.manifests import RenderedObject, images_of

FRESH_FOR = timedelta(seconds=1.5)

Statuses = Mapping[ObjectRef, WorkloadStatus]

_looks: WeakKeyDictionary[Any, dict[tuple[str, str], tuple[datetime, Statuses]]] = WeakKeyDictionary()


def workloads_of(cluster: Kubernetes, environment: Environment, *, at: datetime) -> Statuses:
    """Return the workloads of an environment as they were at most a moment ago."""
    looks = _looks.setdefault(cluster, {})
    key = (environment.namespace, environment.inventory)
    known = looks.get(key)
    if known is not None and timedelta() <= at - known[0] < FRESH_FOR:
        return known[1]
    found = cluster.observe_workloads(namespace=environment.namespace, inventory=environment.inventory)
    looks[key] = (at, found)
    return found


def health_of(
    row: RunTarget, manifests: Manifests, *, key: str, since: datetime, deadline: timedelta, at: datetime
) -> tuple[WorkloadHealth, int, int]:
    """Judge a target on what was applied to it; return its health, and how many pods run that, of how many.

    `key` is where its entries hold the generation that the apply made; `since` is when the last object was applied.
    """
    statuses = workloads_of(doors.open_cluster(row.environment.cluster), row.environment, at=at)
    judged, ready, desired = [], 0, 0
    for one in manifests.of(row.workload):
        status = statuses.get(one.ref)
        if status is None:
            continue
        generation = next((int(entry.get(key) or 0) for entry in row.applied if entry.get("ref") == str(one.ref)), 0)
        judged.append(judge_workload(status, applied_generation=generation, planned_digests=digests_of(one)))
        ready, desired = ready + min(status.updated_count, status.ready_count), desired + status.desired_count
    return judge_target(judged, updated_at=since, deadline=deadline, at=at), ready, desired


def digests_of(one: RenderedObject) -> frozenset[str]:
    """Return the digests that the pods of a workload must run."""
    return frozenset(use.digest for use in images_of(one.manifest) if use.digest)
