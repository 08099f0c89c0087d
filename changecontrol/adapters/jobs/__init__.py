"""Places where jobs are done, behind the `JobRunner` port. Settings name each by its dotted path."""

from __future__ import annotations

from changecontrol.adapters.jobs.cluster import ClusterRunner
from changecontrol.adapters.jobs.local import LocalRunner
from changecontrol.ports import JobCluster, JobRunner, Kubernetes


def open_here(*, grace_seconds: float) -> JobRunner:
    """Return this host, which does each job in a process; as it stops, each has so long to give its job back."""
    return LocalRunner(grace_seconds=grace_seconds)


def open_cluster(kubernetes: Kubernetes, *, place: JobCluster) -> JobRunner:
    """Return a cluster, which does each job as a Kubernetes Job."""
    return ClusterRunner(kubernetes, place=place)
