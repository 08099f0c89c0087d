"""Looks at workloads. One look at a namespace serves all its targets for a moment: a wave of hundreds must not list it
hundreds of times.

A look that is a moment old cannot pass for news: health asks for the applied generation and the planned digest, which
a status from before the apply does not show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from changecontrol.errors import Transient
from changecontrol.models import Environment, RunTarget
from changecontrol.ports import Kubernetes, ObjectRef, WorkloadStatus
from deployments import doors
from deployments.rendering import Manifests
from deployments.rules.health import WorkloadHealth, judge_target, judge_workload
from deployments.rules.manifests import RenderedObject, images_of

FRESH_FOR = timedelta(seconds=1.5)
THREADS = 8
ANSWERS_WITHIN_SECONDS = 12.0
"""How long one step waits for all that it asks at the same time."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")

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


def workloads_of_all(environments: Sequence[Environment]) -> dict[int, Statuses]:
    """Look at several environments at the same time. Raises `Transient` where one step is too short for all of them."""
    doors_to = [(doors.open_cluster(one.cluster), one) for one in environments]
    found = at_once(
        lambda pair: pair[0].observe_workloads(namespace=pair[1].namespace, inventory=pair[1].inventory), doors_to
    )
    statuses: dict[int, Statuses] = {
        one.pk: answer for one, answer in zip(environments, found, strict=True) if answer is not None
    }
    if len(statuses) < len(environments):
        raise Transient("The clusters answer too slowly to look at all environments of the wave.")
    return statuses


def at_once(work: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer | None]:
    """Do the same for all items at the same time; None stands for an answer that did not come while a step may wait.

    `work` must not use the database: its threads would open connections that nobody closes.
    """
    if len(items) == 1:
        return [work(items[0])]
    pool = ThreadPoolExecutor(max_workers=THREADS)
    try:
        asked = [pool.submit(work, item) for item in items]
        wait(asked, timeout=ANSWERS_WITHIN_SECONDS)
        return [one.result() if one.done() else None for one in asked]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
