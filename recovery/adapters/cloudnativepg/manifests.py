"""The objects that the operator is asked for, and the names they may have. Pure; raises `Permanent` for a bad one.

A recovered cluster has neither a backup section nor a plugin of its own: nothing in it archives.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectRef
from recovery.ports.clusters import ClusterBackupMethod, DatabaseCluster, PluginSource, RecoveryCluster
from recovery.ports.postgres import Consistent

API = "postgresql.cnpg.io/v1"
PLUGIN_API = "barmancloud.cnpg.io/v1"
PLUGIN = "barman-cloud.cloudnative-pg.io"
RUN_LABEL = "changecontrol.io/recovery-run"
"""On everything that a run made, in the operator's objects below it too: it alone finds them again."""
CLUSTER_LABEL = "cnpg.io/cluster"
"""The operator's, on what belongs to a cluster of this name."""
LONGEST_NAME = 50
"""The operator allows no longer name of a cluster: it makes longer ones from it."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def backup_ref(run: str, *, namespace: str) -> ObjectRef:
    return ObjectRef(API, "Backup", namespace, _run(run))


def cluster_ref(cluster: DatabaseCluster) -> ObjectRef:
    return ObjectRef(API, "Cluster", cluster.namespace, cluster.name)


def object_store_ref(name: str, *, namespace: str) -> ObjectRef:
    return ObjectRef(PLUGIN_API, "ObjectStore", namespace, name)


def backup_manifest(*, run: str, cluster: DatabaseCluster, method: ClusterBackupMethod) -> dict[str, Any]:
    ref = backup_ref(run, namespace=cluster.namespace)
    return _object(ref, labels={RUN_LABEL: run}, spec={"cluster": {"name": cluster.name}, **_by(method)})


def recovery_manifest(wish: RecoveryCluster) -> dict[str, Any]:
    check_recovery(wish)
    recovery: dict[str, Any] = {"source": wish.origin}
    if target := _target(wish):
        recovery["recoveryTarget"] = target
    storage = {**wish.pod_needs.get("storage", {}), "size": wish.size}
    if wish.storage_class:
        storage["storageClass"] = wish.storage_class
    labels = {RUN_LABEL: wish.run}
    spec: dict[str, Any] = {
        **wish.pod_needs,
        "instances": 1,
        "storage": storage,
        # What is recovered is questioned and carried away whole, whoever owns it.
        "enableSuperuserAccess": True,
        "inheritedMetadata": {"labels": dict(labels)},
        "bootstrap": {"recovery": recovery},
        "externalClusters": [{"name": wish.origin, **_read_from(wish.source)}],
    }
    if wish.image:
        spec["imageName"] = wish.image
    return _object(cluster_ref(wish.cluster), labels=labels, spec=spec)


def check_recovery(wish: RecoveryCluster) -> None:
    """Raise `Permanent` for a recovery that could be taken for, or could overwrite, what it comes from."""
    _run(wish.run)
    name = wish.cluster.name
    if name in (wish.origin, wish.source.server_name):
        raise Permanent(f"{name} is what is recovered. Give the recovered cluster another name.")
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise Permanent(
            f"A database cluster cannot be named {name}: at most {LONGEST_NAME} lower-case letters, digits and "
            "hyphens, a letter first."
        )
    if isinstance(wish.to, datetime) and wish.to.tzinfo is None:
        raise Permanent("Say the time to restore with its zone.")


def target_of(wish: RecoveryCluster) -> str:
    """Return the time to recover to as the operator takes it; empty for all there is, and for a backup alone."""
    if not isinstance(wish.to, datetime):
        return ""
    return wish.to.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _target(wish: RecoveryCluster) -> dict[str, Any]:
    is_alone = isinstance(wish.to, Consistent)
    target = {"targetTime": target_of(wish), "targetImmediate": is_alone, "backupID": wish.backup_id}
    return {key: value for key, value in target.items() if value}


def _read_from(source: PluginSource) -> dict[str, Any]:
    parameters = {"barmanObjectName": source.object_store, "serverName": source.server_name}
    return {"plugin": {"name": PLUGIN, "parameters": parameters}}


def _by(method: ClusterBackupMethod) -> dict[str, Any]:
    if method is ClusterBackupMethod.PLUGIN:
        return {"method": str(method), "pluginConfiguration": {"name": PLUGIN}}
    return {"method": str(method)}


def _run(run: str) -> str:
    if len(run) > LONGEST_NAME or not _NAME.fullmatch(run):
        raise Permanent(f"A run cannot be named {run!r}: lower-case letters, digits and hyphens name objects of it.")
    return run


def _object(ref: ObjectRef, *, labels: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": ref.name, "namespace": ref.namespace}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": metadata, "spec": spec}
