"""The `DatabaseClusters` port against CloudNativePG: objects are applied and read, the operator does the rest.

Every write may be asked for again. What somebody else made is never touched: names that are taken are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from changecontrol.adapters.kubernetes.pods import short, why_it_waits
from changecontrol.errors import Permanent, Transient, UnderWay
from changecontrol.ports import Kubernetes, NotAllowed, ObjectRef, Right
from recovery.adapters.cloudnativepg.fields import part_of, text_of
from recovery.adapters.cloudnativepg.manifests import (
    API,
    CLUSTER_LABEL,
    PLUGIN_API,
    RUN_LABEL,
    backup_manifest,
    backup_ref,
    check_recovery,
    cluster_ref,
    object_store_ref,
    recovery_manifest,
    target_of,
)
from recovery.adapters.cloudnativepg.reading import (
    failure_of,
    plugin_of,
    read_backup,
    read_cluster,
    read_recovery,
    run_of,
)
from recovery.ports.clusters import (
    ClusterBackup,
    ClusterBackupMethod,
    DatabaseCluster,
    DatabaseClusterState,
    RecoveryCluster,
    RecoveryClusterState,
    RecoveryStanding,
)

OPERATOR, PLUGIN_GROUP = API.partition("/")[0], PLUGIN_API.partition("/")[0]
KINDS = ((API, "Backup"), (API, "Cluster"))
RIGHTS = tuple(
    sorted(
        Right(verb=verb, group=group, resource=resource)
        for group, resource, verbs in (
            (OPERATOR, "backups", ("create", "get", "patch")),
            (OPERATOR, "clusters", ("create", "delete", "get", "list", "patch")),
            (PLUGIN_GROUP, "objectstores", ("get", "list")),
            ("batch", "jobs", ("list",)),
            ("", "events", ("list",)),
            ("", "persistentvolumeclaims", ("delete", "get", "list")),
            ("", "pods", ("list",)),
        )
        for verb in verbs
    )
)
"""What all of this needs in a namespace, besides reading the Secrets of recovered clusters by their names.

`deploy/rbac-cloudnativepg.yaml` grants exactly these.
"""

_CLUSTERS, _OBJECT_STORES = (API, "Cluster"), (PLUGIN_API, "ObjectStore")
_JOBS, _PODS = ("batch/v1", "Job"), ("v1", "Pod")
_REMOVED = (_CLUSTERS, ("v1", "PersistentVolumeClaim"))
_LEFT_OVER = (*_REMOVED, _JOBS, _PODS)


class OperatorClusters:
    """The database clusters of one Kubernetes cluster, as one credential may use it."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes

    def observe_rights(self, *, namespace: str) -> tuple[Right, ...]:
        return self._kubernetes.observe_rights(namespace=namespace, rights=RIGHTS)

    def observe_missing_kinds(self) -> tuple[str, ...]:
        served = self._kubernetes.observe_served(KINDS)
        return tuple(kind for api_version, kind in KINDS if (api_version, kind) not in served)

    def ensure_backup(self, *, run: str, cluster: DatabaseCluster, method: ClusterBackupMethod) -> ClusterBackup:
        known = self.observe_backup(run=run, namespace=cluster.namespace)
        if known is not None:
            if known.cluster != cluster:
                raise Permanent(f"Backup {run} is already one of {known.cluster}, not of {cluster}.")
            return known
        applied = self._kubernetes.ensure_applied(backup_manifest(run=run, cluster=cluster, method=method))
        return read_backup(applied.live)

    def observe_backup(self, *, run: str, namespace: str) -> ClusterBackup | None:
        ref = backup_ref(run, namespace=namespace)
        live = self._kubernetes.observe_object(ref)
        if live is None:
            return None
        self._check_own(live, ref, run=run)
        return read_backup(live)

    def observe_clusters(self, *, namespace: str, inventory: str) -> tuple[DatabaseCluster, ...]:
        refs = self._kubernetes.observe_inventory(namespace=namespace, inventory=inventory, kinds=(_CLUSTERS,))
        return tuple(DatabaseCluster(ref.namespace, ref.name) for ref in refs)

    def observe_cluster(self, cluster: DatabaseCluster) -> DatabaseClusterState | None:
        live = self._kubernetes.observe_object(cluster_ref(cluster))
        if live is None:
            return None
        store = text_of(plugin_of(live) or {}, "barmanObjectName")
        ref = object_store_ref(store, namespace=cluster.namespace)
        return read_cluster(live, store=self._kubernetes.observe_object(ref) if store else None)

    def observe_object_stores(self, *, namespace: str, inventory: str) -> tuple[str, ...]:
        refs = self._kubernetes.observe_inventory(namespace=namespace, inventory=inventory, kinds=(_OBJECT_STORES,))
        return tuple(ref.name for ref in refs)

    def ensure_recovery_cluster(self, wish: RecoveryCluster) -> RecoveryClusterState:
        check_recovery(wish)
        ref = cluster_ref(wish.cluster)
        known = self._kubernetes.observe_object(ref)
        if known is None:
            self._check_cleared(wish.cluster)
            applied = self._kubernetes.ensure_applied(recovery_manifest(wish))
            return read_recovery(applied.live)
        if run_of(known) not in ("", wish.run):
            raise UnderWay(f"{wish.cluster} is of run {run_of(known)} still: this one waits until it is gone.")
        self._check_own(known, ref, run=wish.run)
        if part_of(known, "metadata").get("deletionTimestamp"):
            raise Transient(f"{wish.cluster} is still being removed.")
        state = self._recovery(known)
        if state.target != target_of(wish):
            raise Permanent(f"{wish.cluster} is already being recovered, but to {state.target or 'all there is'}.")
        return state

    def observe_recovery_cluster(self, *, run: str, namespace: str) -> RecoveryClusterState | None:
        refs = self._marked((_CLUSTERS,), run=run, namespace=namespace)
        if len(refs) > 1:
            raise Permanent(f"More than one database cluster is of run {run}: {', '.join(map(str, refs))}.")
        live = self._kubernetes.observe_object(refs[0]) if refs else None
        return self._recovery(live) if live is not None else None

    def observe_recovery_url(self, *, run: str, namespace: str) -> str:
        state = self.observe_recovery_cluster(run=run, namespace=namespace)
        if state is None:
            raise Permanent(f"The cluster of run {run} in {namespace} is gone.")
        secret = self._kubernetes.observe_secret(namespace=namespace, name=f"{state.cluster.name}-superuser")
        if secret is None or not secret.get("uri"):
            raise Transient(f"The operator has not written yet how {state.cluster} is reached.")
        return secret["uri"]

    def ensure_recovery_cluster_absent(self, *, run: str, namespace: str) -> tuple[str, ...]:
        for ref in self._marked(_REMOVED, run=run, namespace=namespace):
            self._kubernetes.ensure_deleted(ref, inventory=run, label=RUN_LABEL)
        return tuple(str(ref) for ref in self._marked(_LEFT_OVER, run=run, namespace=namespace))

    def _marked(self, kinds: tuple[tuple[str, str], ...], *, run: str, namespace: str) -> tuple[ObjectRef, ...]:
        backup_ref(run, namespace=namespace)  # a run without a proper name would select other things, or all
        return self._kubernetes.observe_inventory(namespace=namespace, inventory=run, kinds=kinds, label=RUN_LABEL)

    def _recovery(self, live: Mapping[str, Any]) -> RecoveryClusterState:
        state = read_recovery(live)
        if state.standing is not RecoveryStanding.SETTING_UP:
            return state
        # Not every version of the operator says in the cluster's phase that its job gave up. One of an earlier run may
        # still be collected: it bears the same name, but its own run's label.
        jobs = self._kubernetes.observe_labelled(
            _JOBS, namespace=state.cluster.namespace, label=RUN_LABEL, value=state.run
        )
        pods = self._kubernetes.observe_labelled(
            _PODS, namespace=state.cluster.namespace, label=CLUSTER_LABEL, value=state.cluster.name
        )
        failure = next(filter(None, map(failure_of, jobs)), "")
        obstacle = why_it_waits(pods) if pods or failure else self._why_without_pod(jobs[0] if jobs else live)
        return read_recovery(live, failure=failure, obstacle=obstacle)

    def _why_without_pod(self, subject: Mapping[str, Any]) -> str:
        """Return what the cluster warns of about what should have made a pod: no quota or policy is told elsewhere."""
        try:
            warnings = self._kubernetes.observe_warnings(ObjectRef.of(subject))
        except NotAllowed:
            # A right that came with a release is no reason to give up a recovery that goes on without it.
            return (
                "It has no pod, and what keeps it away cannot be read: grant the right to list events, as "
                "deploy/rbac-cloudnativepg.yaml does."
            )
        return f"Its pod does not begin: {short(warnings[-1])}" if warnings else ""

    def _check_cleared(self, cluster: DatabaseCluster) -> None:
        """Raise `UnderWay` while anything of an earlier cluster of this name is there.

        A deleted `Cluster` goes at once, its volume only after the pod that uses it: an operator before 1.30 takes that
        volume for the new cluster's, whose pod then never starts (cloudnative-pg #10985).
        """
        left = self._kubernetes.observe_inventory(
            namespace=cluster.namespace, inventory=cluster.name, kinds=_LEFT_OVER, label=CLUSTER_LABEL
        )
        if left:
            names = ", ".join(map(str, left))
            raise UnderWay(f"Of an earlier {cluster} there is still: {names}. This one waits until it is gone.")

    def _check_own(self, live: Mapping[str, Any], ref: ObjectRef, *, run: str) -> None:
        if run_of(live) != run:
            raise Permanent(f"{ref} is there already, and not of run {run}. Choose another name.")
