"""What is asked of the operator fits its published definitions, and what is read of it is in them.

Against a cluster that `TEST_KUBECONFIG` names, with the definitions of CloudNativePG and of its plugin and without the
operator: the test writes what the operator would, which that server checks as strictly as what we write.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.errors import Permanent
from changecontrol.ports import NotAllowed, ObjectRef
from recovery.adapters.cloudnativepg.manifests import backup_manifest, recovery_manifest
from recovery.ports.clusters import (
    ClusterBackupMethod,
    ClusterBackupStanding,
    DatabaseCluster,
    RecoveryClusterState,
    RecoveryStanding,
    RecoveryWindow,
)
from recovery.ports.postgres import Consistent, Latest
from tests.contracts.cloudnativepg.conftest import Space, eventually, make_account, open_space
from tests.contracts.named import HAS_NODES, NO_CLUSTER, named_admin, named_kubeconfig, named_node
from tests.node import Node

__all__ = ["named_node"]

pytestmark = [pytest.mark.enable_socket, pytest.mark.skipif(not named_kubeconfig(), reason=NO_CLUSTER)]

STORE, READ_ONLY = "store", "read-only"
API, PLUGIN_API = "postgresql.cnpg.io/v1", "barmancloud.cnpg.io/v1"
AT = datetime(2026, 11, 28, 9, 30, 0, 250_000, tzinfo=UTC)
SAID = "2026-11-28T09:30:00Z"
POD_NEEDS: dict[str, Any] = {
    "affinity": {
        "nodeSelector": {"pool": "databases"},
        "tolerations": [{"key": "databases", "operator": "Exists", "effect": "NoSchedule"}],
        "topologyKey": "kubernetes.io/hostname",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "postgresGID": 999,
    "postgresUID": 999,
    "postgresql": {
        "parameters": {"max_connections": "500", "max_wal_senders": "30"},
        "shared_preload_libraries": ["timescaledb"],
        "extensions": [{"name": "timescaledb", "image": {"reference": "registry.example/timescaledb:2.20"}}],
    },
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "serviceAccountTemplate": {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}}},
    "tablespaces": [
        {"name": "archive", "storage": {"size": "50Gi", "storageClass": "slow"}, "owner": {"name": "odoo"}},
        {"name": "scratch", "storage": {"size": "9Gi"}, "temporary": True},
    ],
    "walStorage": {"size": "5Gi", "storageClass": "fast"},
}


@pytest.fixture
def space() -> Iterator[Space]:
    admin, access = named_admin(), parse_kubeconfig(named_kubeconfig())
    make_account(admin)
    made = open_space(admin, access, namespace=f"shop-{uuid.uuid4().hex[:8]}")
    if missing := made.clusters.observe_missing_kinds():
        pytest.skip(f"The cluster of TEST_KUBECONFIG lacks {', '.join(missing)} of {API}.")
    yield made
    admin.call("DELETE", f"/api/v1/namespaces/{made.namespace}", doing="remove the namespace")


@dataclass(frozen=True, slots=True)
class Operator:
    """Writes what CloudNativePG and its plugin write, and nothing that their definitions do not know."""

    space: Space

    def say(self, plural: str, name: str, status: dict[str, Any]) -> None:
        answer = self.space.admin.call(
            "PATCH",
            f"{self.space.path(plural)}/{name}/status",
            doing="say",
            params={"fieldValidation": "Strict"},
            body={"status": status},
            content_type="application/merge-patch+json",
        )
        assert answer.status == 200, answer.body

    def make(self, path: str, body: dict[str, Any]) -> None:
        place = f"{path}/namespaces/{self.space.namespace}/{body['kind'].lower()}s"
        answer = self.space.admin.call("POST", place, doing="make", params={"fieldValidation": "Strict"}, body=body)
        assert answer.status == 201, answer.body

    def production(self) -> DatabaseCluster:
        """Have a cluster that is backed up by the plugin, through one object store, and read through another."""
        for name in (STORE, READ_ONLY):
            metadata = {"name": name, "namespace": self.space.namespace}
            spec = {"configuration": {"destinationPath": "s3://backups/shop"}}
            body = {"apiVersion": PLUGIN_API, "kind": "ObjectStore", "metadata": metadata, "spec": spec}
            self.space.apply(self.space.path("objectstores"), body)
        plugin = {"name": "barman-cloud.cloudnative-pg.io", "isWALArchiver": True}
        wanted: dict[str, Any] = {
            **POD_NEEDS,
            "instances": 3,
            "imageName": "ghcr.io/cloudnative-pg/postgresql:17.2",
            "storage": {"size": "20Gi", "storageClass": "fast"},
            "plugins": [{**plugin, "parameters": {"barmanObjectName": STORE}}],
        }
        metadata = {"name": "odoo-db", "namespace": self.space.namespace}
        body = {"apiVersion": API, "kind": "Cluster", "metadata": metadata, "spec": wanted}
        self.space.apply(self.space.path("clusters"), body)
        return self.space.origin

    def set_up(self, cluster: DatabaseCluster, *, run: str) -> None:
        """Make what the operator makes below a recovered cluster: its volume, its job and the secret."""
        live = self.space.kubernetes.observe_object(ObjectRef(API, "Cluster", cluster.namespace, cluster.name))
        assert live is not None
        owner = {"apiVersion": API, "kind": "Cluster", "name": cluster.name, "uid": live["metadata"]["uid"]}
        labels = {"cnpg.io/cluster": cluster.name, "cnpg.io/instanceName": f"{cluster.name}-1"}
        inherited = {**labels, "changecontrol.io/recovery-run": run}
        about = {"labels": inherited, "ownerReferences": [{**owner, "controller": True}]}
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}}
        claim["storageClassName"] = ""
        name = f"{cluster.name}-1"
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, **about}}
        self.make("/api/v1", {**body, "spec": claim})
        template = {
            # The operator leaves inherited labels away here.
            "metadata": {"labels": {**labels, "cnpg.io/jobRole": "full-recovery"}},
            "spec": {
                "restartPolicy": "Never",
                "nodeSelector": {"pool": "databases"},
                "containers": [{"name": "full-recovery", "image": "x", "command": ["/controller/manager"]}],
                "volumes": [{"name": "pgdata", "persistentVolumeClaim": {"claimName": name}}],
            },
        }
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"{name}-full-recovery", **about}}
        self.make("/apis/batch/v1", {**body, "spec": {"template": template}})
        said = {"username": "postgres", "uri": f"postgresql://postgres:canary@{cluster.name}-rw.{cluster.namespace}/*"}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{cluster.name}-superuser", **about}}
        self.make("/api/v1", {**body, "type": "kubernetes.io/basic-auth", "stringData": {**said, "password": "canary"}})


@pytest.fixture
def operator(space: Space) -> Operator:
    return Operator(space)


def without_defaults(found: Any, *, like: Any) -> Any:
    """Return what was found without what the definition has defaults for and nobody asked for."""
    if isinstance(like, dict) and isinstance(found, dict):
        return {key: without_defaults(value, like=like[key]) for key, value in found.items() if key in like}
    if isinstance(like, list) and isinstance(found, list) and len(found) == len(like):
        return [without_defaults(one, like=other) for one, other in zip(found, like, strict=True)]
    return found


def condition(name: str, value: str, *, reason: str, message: str) -> dict[str, str]:
    return {"type": name, "status": value, "reason": reason, "message": message, "lastTransitionTime": SAID}


def recovering(space: Space, run: str = "drill-7") -> RecoveryClusterState:
    state = space.clusters.observe_recovery_cluster(run=run, namespace=space.namespace)
    assert state is not None
    return state


@pytest.mark.parametrize("method", list(ClusterBackupMethod), ids=["object-store", "plugin"])
def test_backup_is_taken_as_it_is_written(space: Space, method: ClusterBackupMethod) -> None:
    wanted = backup_manifest(run="backup-1", cluster=space.origin, method=method)

    for _ in range(2):
        space.clusters.ensure_backup(run="backup-1", cluster=space.origin, method=method)

    live = space.kubernetes.observe_object(ObjectRef.of(wanted))
    assert live is not None
    assert live["spec"] == wanted["spec"]
    assert live["metadata"]["labels"] == wanted["metadata"]["labels"]
    assert live["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    "words",
    [{"to": AT}, {"to": Latest.LATEST}, {"to": Consistent.CONSISTENT, "backup_id": "20261128T093000"}],
    ids=["time", "latest", "backup-alone"],
)
def test_recovered_cluster_is_taken_as_it_is_written(space: Space, words: dict[str, Any]) -> None:
    wish = replace(space.recovery(to=AT), **words, storage_class="fast", pod_needs=POD_NEEDS)
    wanted = recovery_manifest(wish)

    for _ in range(2):
        space.clusters.ensure_recovery_cluster(wish)

    live = space.kubernetes.observe_object(ObjectRef.of(wanted))
    assert live is not None
    assert without_defaults(live["spec"], like=wanted["spec"]) == wanted["spec"]
    assert (live["metadata"]["generation"], recovering(space).standing) == (1, RecoveryStanding.SETTING_UP)


def test_backup_is_read_as_the_operator_writes_it(space: Space, operator: Operator) -> None:
    space.clusters.ensure_backup(run="backup-1", cluster=space.origin, method=ClusterBackupMethod.PLUGIN)
    positions = {"beginWal": "000000010000000000000005", "endWal": "000000010000000000000006"}
    positions |= {"beginLSN": "0/5000028", "endLSN": "0/6000150"}
    instance = {"podName": "odoo-db-2", "ContainerID": "containerd://x", "sessionID": "x"}

    operator.say("backups", "backup-1", {"phase": "started", "majorVersion": 17, "instanceID": instance})
    running = space.clusters.observe_backup(run="backup-1", namespace=space.namespace)
    done: dict[str, Any] = {
        "phase": "completed",
        "method": "plugin",
        "backupId": "20261128T093000",
        "backupName": "backup-1",
    }
    done |= {"startedAt": SAID, "stoppedAt": "2026-11-28T09:31:00Z", "online": True, **positions}
    operator.say("backups", "backup-1", {**done, "pluginMetadata": {"timeline": "1", "version": "0.8.0"}})
    backup = space.clusters.observe_backup(run="backup-1", namespace=space.namespace)

    assert running is not None
    assert running.standing is ClusterBackupStanding.RUNNING
    assert backup is not None
    assert (backup.standing, backup.backup_id) == (ClusterBackupStanding.COMPLETED, "20261128T093000")
    assert (backup.timeline, backup.major, backup.begin_lsn, backup.end_lsn) == (1, 17, 0x5000028, 0x6000150)
    assert (backup.begin_wal, backup.end_wal) == tuple(positions[key] for key in ("beginWal", "endWal"))
    assert (backup.stopped_at, backup.method) == (datetime(2026, 11, 28, 9, 31, tzinfo=UTC), "plugin")


def test_failed_backup_is_read_as_the_operator_writes_it(space: Space, operator: Operator) -> None:
    space.clusters.ensure_backup(run="backup-1", cluster=space.origin, method=ClusterBackupMethod.PLUGIN)

    operator.say(
        "backups", "backup-1", {"phase": "failed", "error": "exit status 1", "reconciliationTerminatedAt": SAID}
    )
    backup = space.clusters.observe_backup(run="backup-1", namespace=space.namespace)

    assert backup is not None
    assert backup.sentence == f"The backup backup-1 of {space.origin} failed: exit status 1."


def test_cluster_and_its_archive_are_read_as_they_are_written(space: Space, operator: Operator) -> None:
    origin = operator.production()
    conditions = [
        condition("Ready", "True", reason="ClusterIsReady", message="Cluster is Ready"),
        condition("ContinuousArchiving", "True", reason="ContinuousArchivingSuccess", message="It works"),
        condition("LastBackupSucceeded", "False", reason="LastBackupFailed", message="exit status 1"),
    ]
    status = {"phase": "Cluster in healthy state", "readyInstances": 3, "timelineID": 4, "systemID": "7" * 19}
    status |= {"image": "ghcr.io/cloudnative-pg/postgresql:17.2", "conditions": conditions}
    pods = ["odoo-db-1", "odoo-db-2", "odoo-db-3"]
    status |= {"currentPrimary": pods[0], "targetPrimary": pods[0], "instancesStatus": {"healthy": pods}}
    window = {"firstRecoverabilityPoint": SAID, "lastSuccessfulBackupTime": SAID, "lastFailedBackupTime": SAID}

    operator.say("clusters", origin.name, status)
    operator.say("objectstores", STORE, {"serverRecoveryWindow": {"odoo-db": window}})
    state = space.clusters.observe_cluster(origin)

    said = AT.replace(microsecond=0)
    assert state is not None
    assert (state.is_ready, state.is_up, state.timeline, state.system_identifier) == (True, True, 4, "7" * 19)
    assert state.window == RecoveryWindow(first_at=said, last_success_at=said, last_failure_at=said)
    assert state.archiving is not None
    assert (state.archiving.is_true, state.archiving.since) == (True, said)
    assert state.findings == (f"The last backup of {origin} failed: exit status 1.",)
    assert (state.storage_class, state.object_store) == ("fast", STORE)
    assert without_defaults(state.pod_needs, like=POD_NEEDS) == POD_NEEDS
    space.clusters.ensure_recovery_cluster(replace(space.recovery(to=AT), pod_needs=state.pod_needs))


def test_account_of_many_clusters_is_taken_over(space: Space) -> None:
    spec = {"instances": 1, "storage": {"size": "1Gi"}, "serviceAccountName": "databases"}
    metadata = {"name": "odoo-db", "namespace": space.namespace}
    space.apply(space.path("clusters"), {"apiVersion": API, "kind": "Cluster", "metadata": metadata, "spec": spec})
    state = space.clusters.observe_cluster(space.origin)
    assert state is not None

    wish = replace(space.recovery(to=AT), pod_needs=state.pod_needs)
    space.clusters.ensure_recovery_cluster(wish)

    live = space.kubernetes.observe_object(ObjectRef(API, "Cluster", space.namespace, wish.cluster.name))
    assert live is not None
    assert live["spec"]["serviceAccountName"] == "databases"


def test_window_of_the_operators_own_object_store_is_read(space: Space, operator: Operator) -> None:
    spec = {"instances": 1, "storage": {"size": "1Gi"}, "backup": {"barmanObjectStore": {"destinationPath": "s3://b/"}}}
    metadata = {"name": "odoo-db", "namespace": space.namespace}
    space.apply(space.path("clusters"), {"apiVersion": API, "kind": "Cluster", "metadata": metadata, "spec": spec})

    by_method = {"barmanObjectStore": SAID}
    status = {"firstRecoverabilityPointByMethod": by_method, "lastSuccessfulBackupByMethod": by_method}
    operator.say("clusters", "odoo-db", {**status, "lastFailedBackup": SAID})
    state = space.clusters.observe_cluster(space.origin)

    said = AT.replace(microsecond=0)
    assert state is not None
    assert state.window == RecoveryWindow(first_at=said, last_success_at=said, last_failure_at=said)


@pytest.mark.parametrize(
    "phase, standing",
    [
        ("Setting up primary", RecoveryStanding.SETTING_UP),
        ("Cluster is unrecoverable and needs manual intervention", RecoveryStanding.FAILED),
        ("Cluster in healthy state", RecoveryStanding.READY),
    ],
)
def test_recovery_is_told_as_the_operator_tells_it(
    space: Space, operator: Operator, phase: str, standing: RecoveryStanding
) -> None:
    space.clusters.ensure_recovery_cluster(space.recovery(to=AT))
    is_ready = "True" if standing is RecoveryStanding.READY else "False"

    ready = condition("Ready", is_ready, reason="ClusterIsReady", message="")
    operator.say("clusters", "drill-7", {"phase": phase, "phaseReason": "Why", "conditions": [ready]})

    assert recovering(space).standing is standing


def test_pod_that_no_node_takes_and_job_that_gives_up_are_told(
    space: Space, operator: Operator, named_node: Node | None
) -> None:
    if named_node is None:
        pytest.skip(HAS_NODES)
    wish = space.recovery(to=AT)
    space.clusters.ensure_recovery_cluster(wish)
    operator.set_up(wish.cluster, run="drill-7")

    waiting = eventually(lambda: recovering(space), holds=lambda state: "No node" in state.sentence)
    path = f"/apis/batch/v1/namespaces/{space.namespace}/jobs/drill-7-1-full-recovery"
    patch = {"spec": {"activeDeadlineSeconds": 1}}
    space.admin.call("PATCH", path, doing="give up", body=patch, content_type="application/merge-patch+json")
    failed = eventually(lambda: recovering(space), holds=lambda it: it.standing is RecoveryStanding.FAILED)

    assert waiting.standing is RecoveryStanding.SETTING_UP
    assert failed.sentence == (
        f"{wish.cluster} could not be recovered: its job drill-7-1-full-recovery failed (Job was active longer than "
        "specified deadline)."
    )


def test_what_is_torn_down_goes_with_all_that_the_operator_made(space: Space, operator: Operator) -> None:
    wish = space.recovery(to=AT, name="changecontrol-drill")
    space.clusters.ensure_recovery_cluster(wish)
    operator.set_up(wish.cluster, run="drill-7")
    url = space.clusters.observe_recovery_url(run="drill-7", namespace=space.namespace)
    claim = f"/api/v1/namespaces/{space.namespace}/persistentvolumeclaims/changecontrol-drill-1"
    kept = {"metadata": {"finalizers": ["example.com/held"]}}
    space.admin.call("PATCH", claim, doing="hold", body=kept, content_type="application/merge-patch+json")

    def left() -> tuple[str, ...]:
        return space.clusters.ensure_recovery_cluster_absent(run="drill-7", namespace=space.namespace)

    left()
    held = eventually(left, holds=lambda names: len(names) == 1)
    patch = {"metadata": {"finalizers": None}}
    space.admin.call("PATCH", claim, doing="let go", body=patch, content_type="application/merge-patch+json")

    assert url == f"postgresql://postgres:canary@changecontrol-drill-rw.{space.namespace}/*"
    assert held == (f"PersistentVolumeClaim {space.namespace}/changecontrol-drill-1",)
    assert eventually(left, holds=lambda names: names == ()) == ()
    gone = eventually(
        lambda: space.kubernetes.observe_secret(namespace=space.namespace, name="changecontrol-drill-superuser"),
        holds=lambda secret: secret is None,
    )
    assert gone is None
    pods = space.admin.call("GET", f"/api/v1/namespaces/{space.namespace}/pods", doing="list pods").body["items"]
    assert pods == []


def test_the_role_is_enough_and_no_more(space: Space, operator: Operator) -> None:
    operator.production()

    assert space.clusters.observe_rights(namespace=space.namespace) == ()
    assert space.clusters.observe_rights(namespace="default") != ()
    for name in ("odoo-db-superuser", "store-credentials"):
        with pytest.raises(NotAllowed):
            space.kubernetes.observe_secret(namespace=space.namespace, name=name)
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space.namespace}/rolebindings/changecontrol-recovery"
    space.admin.call("DELETE", path, doing="take the rights away")

    def refused() -> str:
        try:
            space.clusters.ensure_backup(run="backup-1", cluster=space.origin, method=ClusterBackupMethod.PLUGIN)
        except Permanent as error:
            return error.reason
        return ""

    # What a server goes by is a moment behind what it has stored.
    assert re.search(r"lacks the right to (get|patch) backups\.postgresql\.cnpg\.io", eventually(refused, holds=bool))
