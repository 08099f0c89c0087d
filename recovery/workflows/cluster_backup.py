"""The part of a backup that an operator in Kubernetes does: it is asked once, watched, and believed when it says all.

Each call is one tick: observe, decide, perhaps one `ensure_…`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from changecontrol.errors import Permanent, UnderWay
from changecontrol.models import Environment, Job
from changecontrol.ports import INVENTORY_LABEL
from recovery import doors
from recovery.models import BackupRun
from recovery.ports.clusters import (
    ClusterBackupStanding,
    DatabaseCluster,
    DatabaseClusters,
    DatabaseClusterState,
    facts_of,
)
from recovery.queries.progress import key_of

LOOK = timedelta(seconds=5)
"""How often the operator is asked how far it is."""
KIND = "cluster_backup"
"""The job that makes a point of what the operator took."""


@dataclass(frozen=True, slots=True)
class Taking:
    """How far the operator is. `order` is None until it is done; then it is what the job needs to know besides."""

    order: dict[str, Any] | None
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class ToldCoverage:
    """Which times the operator says it can restore of one server."""

    system_identifier: str
    starts_at: datetime
    ends_at: datetime


def take(run: BackupRun, *, at: datetime, within: timedelta) -> Taking:
    """Have the operator take the backup of a run. Nothing is asked any more once the job is ordered.

    Raises `UnderWay` where something keeps it from going on, `Permanent` where it failed or took longer than `within`.
    """
    if Job.objects.filter(key=key_of(run)).exists():
        return Taking(order={})
    clusters, environment = doors.open_database_clusters(run.environment), run.environment
    database = _state(clusters, namespace=environment.namespace, inventory=environment.inventory)
    if database.method is None:
        raise Permanent(database.findings[0])
    backup = clusters.ensure_backup(run=name_of(run), cluster=database.cluster, method=database.method)
    if backup.standing is ClusterBackupStanding.FAILED:
        raise Permanent(backup.sentence)
    if backup.standing is ClusterBackupStanding.COMPLETED:
        return Taking(order={"cluster": facts_of(backup, database)})
    if run.started_at is not None and at - run.started_at > within:
        hours = round(within.total_seconds() / 3600)
        raise Permanent(f"The operator did not complete the backup within {hours} hours. {backup.sentence}")
    if database.archiving is not None and database.archiving.is_true is False:
        raise UnderWay(f"{backup.sentence} {database.findings[0]}")
    return Taking(order=None, sentence=backup.sentence)


def name_of(run: BackupRun) -> str:
    """Return the name of a run's `Backup`. Its time is in it: a number alone may have been another installation's."""
    return f"backup-{run.pk}-{run.created_at:%Y%m%d%H%M%S}"


def check_archiving(clusters: DatabaseClusters, *, namespace: str, inventory: str) -> None:
    """Return where the operator says that it archives the WAL of an environment; else raise, with its words."""
    database = _state(clusters, namespace=namespace, inventory=inventory)
    if not database.is_up:
        raise Permanent(f"{database.trouble} It archives no WAL, whatever it said last.")
    if database.archiving is None or not database.archiving.is_true:
        raise Permanent(database.findings[0])


def told_coverage(environment: Environment, *, at: datetime) -> ToldCoverage | None:
    """Ask the operator which times it can restore; None where it does not say: what it said before may still hold."""
    clusters = doors.open_database_clusters(environment)
    database = _state(clusters, namespace=environment.namespace, inventory=environment.inventory)
    # Without a base backup in its store no time can be restored, whatever it said before.
    covered = (at, at) if database.window.first_at is None else database.covered(at)
    return ToldCoverage(database.system_identifier, *covered) if covered is not None else None


def _state(clusters: DatabaseClusters, *, namespace: str, inventory: str) -> DatabaseClusterState:
    found = clusters.observe_clusters(namespace=namespace, inventory=inventory)
    label = f"{INVENTORY_LABEL}={inventory}"
    if not found:
        raise Permanent(f"No database cluster in {namespace} carries the label {label}: label the one.")
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        raise Permanent(f"More than one database cluster in {namespace} carries {label}: {names}.")
    return _observed(clusters, found[0])


def _observed(clusters: DatabaseClusters, cluster: DatabaseCluster) -> DatabaseClusterState:
    state = clusters.observe_cluster(cluster)
    if state is None:
        raise Permanent(f"The database cluster {cluster} is no longer there.")
    return state
