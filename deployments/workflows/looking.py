"""One look at a namespace serves all its targets for a moment: a wave of hundreds must not list it hundreds of times.

A look that is a moment old cannot pass for news: health asks for the applied generation and the planned digest, which
a status from before the apply does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from changecontrol.models import Environment
from changecontrol.ports import Kubernetes, ObjectRef, WorkloadStatus

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
