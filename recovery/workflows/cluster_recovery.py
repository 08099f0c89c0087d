"""The part of a restore or a drill that an operator in Kubernetes does: it recovers a cluster beside its source.

Each call is one tick: observe, decide, perhaps one `ensure_…`. What is made carries the run's name, and goes by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from changecontrol.errors import Permanent
from changecontrol.models import Job
from changecontrol.ports import INVENTORY_LABEL
from recovery import doors
from recovery.actions.recoveries import CLUSTER
from recovery.models import Drill, RecoveryPoint, Restore
from recovery.models.policy import Engine
from recovery.ports.clusters import DatabaseCluster, DatabaseClusters, PluginSource, RecoveryCluster, RecoveryStanding
from recovery.ports.postgres import Consistent
from recovery.queries.progress import key_of

LOOK = timedelta(seconds=5)
"""How often the operator is asked how far it is."""
GONE_WITHIN = timedelta(minutes=10)
"""How long a cluster may take to go before what is there of it counts as left behind."""


@dataclass(frozen=True, slots=True)
class Recovering:
    """How far the operator is. `order` is None until it is done; then it is what the job needs to know besides."""

    order: dict[str, Any] | None
    sentence: str = ""
    has_begun: bool = False


def is_by_operator(row: Restore | Drill) -> bool:
    return row.point.policy.engine == Engine.CLOUDNATIVEPG


def run_of(row: Restore | Drill) -> str:
    """Return the name of a run: no other installation has one of the same in the same namespace."""
    return f"drill-{row.key}" if isinstance(row, Drill) else f"restore-{row.pk}-{int(row.declared_at.timestamp())}"


def namespace_of(point: RecoveryPoint) -> str:
    return str(_facts(point)["name"]).partition("/")[0]


def recover(row: Restore | Drill, *, at: datetime, within: timedelta) -> Recovering:
    """Have the operator recover a cluster for a row that has noted it. Nothing is asked once its job is ordered.

    Raises `Permanent` where nothing could be asked for, it failed, or it took longer than `within` since it was asked
    for. The operator does not say whether the backup is why, so no failure says anything of the point.
    """
    if Job.objects.filter(key=key_of(row)).exists():
        return Recovering(order={})
    run, namespace = run_of(row), namespace_of(row.point)
    clusters = doors.open_database_clusters(row.environment)
    state = clusters.observe_recovery_cluster(run=run, namespace=namespace)
    # An incident may have been declared days before, and a safety backup taken since.
    is_late = at - row.decided_at > within
    if state is None:
        if is_late:
            raise Permanent(_too_late(within, row.trouble))
        state = clusters.ensure_recovery_cluster(_wish(row, clusters))
    if state.standing is RecoveryStanding.FAILED:
        raise Permanent(state.sentence)
    if state.standing is RecoveryStanding.READY:
        return Recovering(order={"recovery": {"run": run, "namespace": namespace}}, has_begun=True)
    if is_late:
        raise Permanent(_too_late(within, state.sentence))
    return Recovering(order=None, sentence=state.sentence, has_begun=bool(state.phase))


def _too_late(within: timedelta, why: str) -> str:
    hours = round(within.total_seconds() / 3600)
    return f"The operator did not recover a cluster within {hours} hours. {why}".strip()


def remaining(row: Restore | Drill) -> str:
    """Remove the cluster of a row; return in a sentence what is there of it, to be asked again until nothing is."""
    place = row.data.get(CLUSTER)
    if place is None:
        return ""
    clusters = doors.open_database_clusters(row.environment)
    left = clusters.ensure_recovery_cluster_absent(run=place["run"], namespace=place["namespace"])
    return f"In the cluster there is still: {', '.join(left)}." if left else ""


def _wish(row: Restore | Drill, clusters: DatabaseClusters) -> RecoveryCluster:
    facts = _facts(row.point)
    namespace, _, name = str(facts["name"]).partition("/")
    # As the source is now: it may have grown since. Where it is gone, as it was.
    source = clusters.observe_cluster(DatabaseCluster(namespace, name))
    reader = _reader(
        row, clusters, namespace=namespace, writer=source.object_store if source else facts["object_store"]
    )
    kind = "drill" if isinstance(row, Drill) else "restore"
    return RecoveryCluster(
        run=run_of(row),
        # One name of each kind: rights to its Secret can be given by name, and to no other.
        cluster=DatabaseCluster(namespace, f"changecontrol-{kind}"),
        origin=name,
        source=PluginSource(object_store=reader, server_name=facts["server_name"]),
        to=Consistent.CONSISTENT if row.target_at == row.point.consistent_at else row.target_at,
        image=facts["image"],
        size=(source.storage_size if source else "") or facts["storage_size"],
        storage_class=source.storage_class if source else facts["storage_class"],
        backup_id=facts["backup_id"],
        # Points of before they were kept do not say them.
        pod_needs=source.pod_needs if source else facts.get("pod_needs", {}),
    )


def _reader(row: Restore | Drill, clusters: DatabaseClusters, *, namespace: str, writer: str) -> str:
    """Return the object store to read from: one that is labelled for it, and is not the one written through."""
    inventory = row.environment.inventory
    labelled = clusters.observe_object_stores(namespace=namespace, inventory=inventory)
    # Where Git delivers the one that is written through, a rollout has labelled it, too.
    found = [name for name in labelled if name != writer]
    label = f"{INVENTORY_LABEL}={inventory}"
    if not labelled:
        raise Permanent(
            f"No ObjectStore in {namespace} carries the label {label}: label one whose credentials can only read."
        )
    if not found:
        raise Permanent(
            f"The ObjectStore {writer} is the one that is archived to: label another, whose credentials can only read."
        )
    if len(found) > 1:
        raise Permanent(f"More than one ObjectStore in {namespace} carries {label}: {', '.join(found)}.")
    return found[0]


def _facts(point: RecoveryPoint) -> dict[str, Any]:
    # Nothing is asked of a point without them: actions refuse it.
    assert point.cluster_facts is not None
    facts: dict[str, Any] = point.cluster_facts
    return facts
