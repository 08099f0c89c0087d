"""What the operator is asked for, and what never is. Against the cluster in memory, where nothing acts on it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from changecontrol.adapters.fakes.kubernetes import Effect, FakeKubernetes
from changecontrol.errors import Permanent, Transient, UnderWay
from changecontrol.ports import NotAllowed, ObjectRef, Right
from recovery.adapters.cloudnativepg import open_clusters
from recovery.adapters.cloudnativepg.operator import KINDS, RIGHTS
from recovery.ports.clusters import (
    ClusterBackupMethod,
    DatabaseCluster,
    DatabaseClusters,
    PluginSource,
    RecoveryCluster,
    RecoveryClusterState,
    RecoveryStanding,
)
from recovery.ports.postgres import Consistent, Latest

API = "postgresql.cnpg.io/v1"
SHOP = DatabaseCluster("shop", "odoo-db")
PLUGIN = "barman-cloud.cloudnative-pg.io"
RUN_LABEL, CLUSTER_LABEL = "changecontrol.io/recovery-run", "cnpg.io/cluster"
TO = datetime(2026, 11, 28, 10, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=1)))
WISH = RecoveryCluster(
    run="drill-7",
    cluster=DatabaseCluster("shop", "drill-7"),
    origin="odoo-db",
    source=PluginSource(object_store="read-only", server_name="odoo-db"),
    to=TO,
    image="ghcr.io/cloudnative-pg/postgresql:17.2",
    size="20Gi",
    storage_class="fast",
)


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    fake = FakeKubernetes(namespaces=("shop",))
    fake.kinds |= {*KINDS, ("barmancloud.cnpg.io/v1", "ObjectStore"), ("v1", "Pod")}
    return fake


@pytest.fixture
def clusters(kubernetes: FakeKubernetes) -> DatabaseClusters:
    return open_clusters(kubernetes)


def strangers(kind: str, name: str, *, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


@pytest.mark.parametrize(
    "method, spec",
    [
        (ClusterBackupMethod.OBJECT_STORE, {"method": "barmanObjectStore"}),
        (ClusterBackupMethod.PLUGIN, {"method": "plugin", "pluginConfiguration": {"name": PLUGIN}}),
    ],
    ids=["object-store", "plugin"],
)
def test_backup_is_asked_for_once(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, method: ClusterBackupMethod, spec: dict[str, Any]
) -> None:
    first = clusters.ensure_backup(run="backup-17", cluster=SHOP, method=method)
    again = clusters.ensure_backup(run="backup-17", cluster=SHOP, method=method)

    ref = ObjectRef(API, "Backup", "shop", "backup-17")
    assert first == again == clusters.observe_backup(run="backup-17", namespace="shop")
    assert kubernetes.effects == [Effect("applied", ref)]
    assert kubernetes.objects()[ref]["spec"] == {"cluster": {"name": "odoo-db"}, **spec}
    assert kubernetes.objects()[ref]["metadata"]["labels"] == {RUN_LABEL: "backup-17"}


def test_backup_that_another_made_is_neither_taken_over_nor_believed(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes
) -> None:
    kubernetes.apply_as("kubectl", strangers("Backup", "backup-17", spec={"cluster": {"name": "odoo-db"}}))

    for ask in (
        lambda: clusters.ensure_backup(run="backup-17", cluster=SHOP, method=ClusterBackupMethod.PLUGIN),
        lambda: clusters.observe_backup(run="backup-17", namespace="shop"),
    ):
        with pytest.raises(Permanent, match=r"Backup shop/backup-17 is there already, and not of run backup-17\."):
            ask()


def test_backup_of_one_cluster_is_not_that_of_another(clusters: DatabaseClusters) -> None:
    clusters.ensure_backup(run="backup-17", cluster=SHOP, method=ClusterBackupMethod.PLUGIN)

    with pytest.raises(Permanent, match="already one of shop/odoo-db, not of shop/other"):
        clusters.ensure_backup(
            run="backup-17", cluster=DatabaseCluster("shop", "other"), method=ClusterBackupMethod.PLUGIN
        )


@pytest.mark.parametrize("run", ["", "Backup", "backup/17", "a=b,c", "9", "x" * 51, "a-"])
def test_run_that_could_select_other_things_is_refused(clusters: DatabaseClusters, run: str) -> None:
    for ask in (
        lambda: clusters.ensure_backup(run=run, cluster=SHOP, method=ClusterBackupMethod.PLUGIN),
        lambda: clusters.observe_recovery_cluster(run=run, namespace="shop"),
        lambda: clusters.ensure_recovery_cluster_absent(run=run, namespace="shop"),
        lambda: clusters.ensure_recovery_cluster(replace(WISH, run=run)),
    ):
        with pytest.raises(Permanent, match="A run cannot be named"):
            ask()


def test_recovery_reads_the_archive_and_writes_to_none(clusters: DatabaseClusters, kubernetes: FakeKubernetes) -> None:
    state = clusters.ensure_recovery_cluster(WISH)

    live = kubernetes.objects()[ObjectRef(API, "Cluster", "shop", "drill-7")]
    assert (state.is_archiving, state.target) == (False, "2026-11-28T09:30:00.250000Z")
    assert live["metadata"]["labels"] == {RUN_LABEL: "drill-7"}
    assert live["spec"] == {
        "instances": 1,
        "enableSuperuserAccess": True,
        "imageName": "ghcr.io/cloudnative-pg/postgresql:17.2",
        "storage": {"size": "20Gi", "storageClass": "fast"},
        "inheritedMetadata": {"labels": {RUN_LABEL: "drill-7"}},
        "bootstrap": {
            "recovery": {
                "source": "odoo-db",
                "recoveryTarget": {"targetTime": "2026-11-28T09:30:00.250000Z"},
            }
        },
        "externalClusters": [
            {
                "name": "odoo-db",
                "plugin": {"name": PLUGIN, "parameters": {"barmanObjectName": "read-only", "serverName": "odoo-db"}},
            }
        ],
    }


@pytest.mark.parametrize(
    "account",
    [
        {
            "serviceAccountTemplate": {
                "metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/db"}}
            }
        },
        {"serviceAccountName": "databases"},
    ],
    ids=["account-of-its-own", "account-of-many"],
)
def test_recovery_takes_over_what_the_pods_of_its_source_need_and_nothing_else(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, account: dict[str, Any]
) -> None:
    toleration = {"key": "databases", "operator": "Exists", "effect": "NoSchedule"}
    needs: dict[str, Any] = {
        "affinity": {"nodeSelector": {"pool": "databases"}, "tolerations": [toleration]},
        "imagePullSecrets": [{"name": "registry"}],
        "postgresGID": 999,
        "postgresUID": 999,
        "resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
        **account,
        "walStorage": {"size": "5Gi", "storageClass": "fast"},
        "tablespaces": [
            {"name": "archive", "storage": {"size": "50Gi"}, "owner": {"name": "odoo"}},
            {"name": "scratch", "storage": {"size": "9Gi"}, "temporary": True},
        ],
        "postgresql": {
            "parameters": {
                "max_connections": "500",
                "max_locks_per_transaction": "256",
                "max_prepared_transactions": "20",
                "max_wal_senders": "30",
                "max_worker_processes": "64",
            },
            "shared_preload_libraries": ["timescaledb"],
            "extensions": [{"name": "timescaledb", "image": {"reference": "registry.example/timescaledb:2.20"}}],
        },
    }
    archive = {"backup": {"barmanObjectStore": {"destinationPath": "s3://odoo/db"}}, "plugins": [{"name": PLUGIN}]}
    others = {
        "instances": 3,
        "managed": {"roles": [{"name": "odoo"}], "services": {"disabledDefaultServices": ["ro"]}},
        "externalClusters": [{"name": "elsewhere"}],
        "replica": {"enabled": False, "source": "elsewhere"},
        "superuserSecret": {"name": "known"},
        "priorityClassName": "production",
        "env": [{"name": "TZ", "value": "UTC"}],
    }
    server: dict[str, Any] = {
        **needs["postgresql"],
        "parameters": {**needs["postgresql"]["parameters"], "archive_timeout": "1min", "cron.database_name": "odoo"},
        "shared_preload_libraries": ["pg_cron", "timescaledb", "pg_net"],
        "pg_hba": ["host all all all trust"],
        "synchronous": {"method": "any", "number": 1},
    }
    wanted = {**needs, **archive, **others, "postgresql": server}
    kubernetes.apply_as("administrator", strangers("Cluster", "odoo-db", spec=wanted))
    source = clusters.observe_cluster(SHOP)
    assert source is not None

    clusters.ensure_recovery_cluster(replace(WISH, pod_needs=source.pod_needs))

    spec = kubernetes.objects()[ObjectRef(API, "Cluster", "shop", "drill-7")]["spec"]
    assert {name: spec[name] for name in needs} == needs
    assert sorted(spec.keys() - needs.keys()) == [
        "bootstrap",
        "enableSuperuserAccess",
        "externalClusters",
        "imageName",
        "inheritedMetadata",
        "instances",
        "storage",
    ]
    assert spec["instances"] == 1


def test_recovery_takes_over_what_a_template_of_claims_says_of_any_volume(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes
) -> None:
    template: dict[str, Any] = {
        "accessModes": ["ReadWriteOncePod"],
        "resources": {"requests": {"storage": "80Gi"}},
        "storageClassName": "fast",
        "volumeName": "pv-of-production",
        "dataSource": {"kind": "VolumeSnapshot", "name": "of-production"},
    }
    storage = {"pvcTemplate": template, "resizeInUseVolumes": False}
    tablespaces = [{"name": "archive", "storage": storage}]
    spec = {"instances": 3, "storage": storage, "walStorage": {**storage, "size": "5Gi"}, "tablespaces": tablespaces}
    kubernetes.apply_as("administrator", strangers("Cluster", "odoo-db", spec=spec))
    source = clusters.observe_cluster(SHOP)
    assert source is not None

    wish = replace(WISH, size=source.storage_size, storage_class=source.storage_class, pod_needs=source.pod_needs)
    clusters.ensure_recovery_cluster(wish)

    made = kubernetes.objects()[ObjectRef(API, "Cluster", "shop", "drill-7")]["spec"]
    volume = {"size": "80Gi", "storageClass": "fast", "pvcTemplate": {"accessModes": ["ReadWriteOncePod"]}}
    assert made["storage"] == volume
    assert made["walStorage"] == {**volume, "size": "5Gi"}
    assert made["tablespaces"] == [{"name": "archive", "storage": volume}]


@pytest.mark.parametrize(
    "image, named",
    [
        ("registry.example:5000/pg:17.2@sha256:ab", "registry.example:5000/pg:17.2@sha256:ab"),
        ("registry.example:5000/pg@sha256:ab", "registry.example:5000/pg:17@sha256:ab"),
        ("registry.example/pg:stable@sha256:ab", "registry.example/pg:17@sha256:ab"),
        ("registry.example/pg:17-bookworm", "registry.example/pg:17-bookworm"),
    ],
)
def test_image_of_a_catalog_is_named_with_its_version_and_needs_the_catalog_no_more(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, image: str, named: str
) -> None:
    catalog = {"apiGroup": "postgresql.cnpg.io", "kind": "ClusterImageCatalog", "name": "pg", "major": 17}
    server = {"extensions": [{"name": "vector"}]}
    spec = {"instances": 3, "imageCatalogRef": catalog, "postgresql": server}
    ref = kubernetes.apply_as("administrator", strangers("Cluster", "odoo-db", spec=spec)).ref
    vector = {"name": "vector", "image": {"reference": "registry.example/pgvector:0.8"}}
    kubernetes.say(ref, {"image": image, "pgDataImageInfo": {"image": image, "extensions": [vector]}})
    source = clusters.observe_cluster(SHOP)
    assert source is not None

    clusters.ensure_recovery_cluster(replace(WISH, image=source.image, pod_needs=source.pod_needs))

    made = kubernetes.objects()[ObjectRef(API, "Cluster", "shop", "drill-7")]["spec"]
    assert (made["imageName"], "imageCatalogRef" in made) == (named, False)
    assert made["postgresql"] == {"extensions": [vector]}


@pytest.mark.parametrize(
    "to, target",
    [
        (Latest.LATEST, {"backupID": "20261128T030002"}),
        (Consistent.CONSISTENT, {"backupID": "20261128T030002", "targetImmediate": True}),
    ],
    ids=["all-there-is", "the-backup-alone"],
)
def test_recovery_from_one_backup_goes_as_far_as_it_is_told(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, to: Latest | Consistent, target: dict[str, Any]
) -> None:
    clusters.ensure_recovery_cluster(replace(WISH, to=to, backup_id="20261128T030002"))

    spec = kubernetes.objects()[ObjectRef(API, "Cluster", "shop", "drill-7")]["spec"]
    assert spec["bootstrap"]["recovery"]["recoveryTarget"] == target


def test_recovery_waits_for_another_of_the_same_name(clusters: DatabaseClusters, kubernetes: FakeKubernetes) -> None:
    clusters.ensure_recovery_cluster(WISH)

    with pytest.raises(UnderWay, match=r"shop/drill-7 is of run drill-7 still: this one waits until it is gone\."):
        clusters.ensure_recovery_cluster(replace(WISH, run="drill-8"))

    assert len(kubernetes.effects) == 1


@pytest.mark.parametrize(
    "api_version, kind",
    [("v1", "PersistentVolumeClaim"), ("batch/v1", "Job"), ("v1", "Pod")],
    ids=["volume", "job", "pod"],
)
def test_recovery_does_not_begin_in_what_is_left_of_another(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, api_version: str, kind: str
) -> None:
    labels = {RUN_LABEL: "drill-6", CLUSTER_LABEL: "drill-7"}
    metadata = {"name": "drill-7-1", "namespace": "shop", "labels": labels}
    left = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": {}}
    kubernetes.apply_as(
        "operator", {**left, "metadata": {**metadata, "name": "a", "labels": {CLUSTER_LABEL: "odoo-db"}}}
    )
    ref = kubernetes.apply_as("operator", left).ref

    with pytest.raises(
        UnderWay, match=rf"^Of an earlier shop/drill-7 there is still: {kind} shop/drill-7-1\. This one "
    ):
        clusters.ensure_recovery_cluster(WISH)

    assert kubernetes.effects == []
    kubernetes.remove(ref)
    assert clusters.ensure_recovery_cluster(WISH).run == "drill-7"


def test_failed_job_of_another_run_says_nothing_of_this_one(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes
) -> None:
    clusters.ensure_recovery_cluster(WISH)
    kubernetes.job_ends = "Failed"
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {}}

    def fails(run: str) -> None:
        labels = {RUN_LABEL: run, CLUSTER_LABEL: "drill-7"}
        metadata = {"name": f"{run}-1-full-recovery", "namespace": "shop", "labels": labels}
        kubernetes.apply_as("operator", {**job, "metadata": metadata})

    def seen() -> RecoveryClusterState | None:
        return clusters.observe_recovery_cluster(run="drill-7", namespace="shop")

    fails("drill-6")
    before = seen()
    fails("drill-7")
    after = seen()

    assert before is not None
    assert after is not None
    assert (before.standing, after.standing) == (RecoveryStanding.SETTING_UP, RecoveryStanding.FAILED)
    assert after.sentence == "shop/drill-7 could not be recovered: its job drill-7-1-full-recovery failed (It ended.)."


@pytest.mark.parametrize(
    "status, why",
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
            " No node takes its pod: 0/3 nodes are available.",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "denied"}}}]},
            " Its image cannot be pulled: denied.",
        ),
        (
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "CreateContainerConfigError"}}}]},
            " Its pod cannot start: CreateContainerConfigError.",
        ),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
    ],
    ids=["no-node", "no-image", "not-started", "at-work"],
)
def test_recovery_whose_pod_does_not_begin_says_why(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, status: dict[str, Any], why: str
) -> None:
    clusters.ensure_recovery_cluster(WISH)
    kubernetes.say(ObjectRef(API, "Cluster", "shop", "drill-7"), {"phase": "Setting up primary"})
    for name, owner in (("drill-7-1-full-recovery-x", "drill-7"), ("odoo-db-1", "odoo-db")):
        metadata = {"name": name, "namespace": "shop", "labels": {CLUSTER_LABEL: owner}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
        ref = kubernetes.apply_as("operator", pod).ref
        strange = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
        kubernetes.say(ref, status if owner == "drill-7" else strange)

    state = clusters.observe_recovery_cluster(run="drill-7", namespace="shop")

    assert state is not None
    assert state.standing is RecoveryStanding.SETTING_UP
    assert state.sentence == f"shop/drill-7 is being recovered: Setting up primary.{why}"


def test_recovery_of_which_there_is_no_pod_says_what_the_cluster_warns_of(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes
) -> None:
    clusters.ensure_recovery_cluster(WISH)
    ref, job_ref = ObjectRef(API, "Cluster", "shop", "drill-7"), ObjectRef("batch/v1", "Job", "shop", "drill-7-1")
    kubernetes.say(ref, {"phase": "Setting up primary"})
    kubernetes.warnings[ref] = ["ServiceAccountNotFound: db is not there"]
    kubernetes.warnings[job_ref] = ["FailedCreate: older", "FailedCreate: exceeded quota: small"]

    def told() -> str:
        state = clusters.observe_recovery_cluster(run="drill-7", namespace="shop")
        assert state is not None
        assert state.standing is RecoveryStanding.SETTING_UP
        return state.sentence.removeprefix("shop/drill-7 is being recovered: Setting up primary.")

    without_job = told()
    kubernetes.job_ends = ""
    labels = {RUN_LABEL: "drill-7", CLUSTER_LABEL: "drill-7"}
    metadata = {"name": "drill-7-1", "namespace": "shop", "labels": labels}
    kubernetes.apply_as("operator", {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
    without_pod = told()
    kubernetes.script.fail_before("observe_warnings", NotAllowed("The executor may not list Event in shop."))
    without_right = told()
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": "drill-7-1-x"}, "spec": {}}
    kubernetes.apply_as("job-controller", pod)

    assert without_job == " Its pod does not begin: ServiceAccountNotFound: db is not there."
    assert without_pod == " Its pod does not begin: FailedCreate: exceeded quota: small."
    assert without_right == (
        " It has no pod, and what keeps it away cannot be read: grant the right to list events, as "
        "deploy/rbac-cloudnativepg.yaml does."
    )
    assert told() == ""


def test_recovered_server_is_reached_as_the_operator_says_once_it_does(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes
) -> None:
    clusters.ensure_recovery_cluster(WISH)
    with pytest.raises(Transient, match=r"has not written yet how shop/drill-7 is reached\."):
        clusters.observe_recovery_url(run="drill-7", namespace="shop")

    metadata = {"name": "drill-7-superuser", "namespace": "shop"}
    uri = b64encode(b"postgresql://postgres:canary@drill-7-rw.shop:5432/*").decode()
    kubernetes.apply_as("operator", {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"uri": uri}})

    found = clusters.observe_recovery_url(run="drill-7", namespace="shop")
    assert found == "postgresql://postgres:canary@drill-7-rw.shop:5432/*"
    with pytest.raises(Permanent, match="of run drill-8 in shop is gone"):
        clusters.observe_recovery_url(run="drill-8", namespace="shop")


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"cluster": SHOP}, "odoo-db is what is recovered"),
        ({"origin": "drill-7"}, "drill-7 is what is recovered"),
        ({"source": PluginSource("read-only", "drill-7")}, "drill-7 is what is recovered"),
        ({"cluster": DatabaseCluster("shop", "Drill_7")}, "cannot be named Drill_7"),
        ({"cluster": DatabaseCluster("shop", "d" * 51)}, "cannot be named d"),
        ({"to": TO.replace(tzinfo=None)}, "with its zone"),
    ],
)
def test_recovery_that_could_harm_is_refused_and_nothing_is_made(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes, changed: dict[str, Any], why: str
) -> None:
    with pytest.raises(Permanent, match=why):
        clusters.ensure_recovery_cluster(replace(WISH, **changed))

    assert kubernetes.effects == []


def test_recovery_never_touches_a_cluster_of_its_name(clusters: DatabaseClusters, kubernetes: FakeKubernetes) -> None:
    kubernetes.apply_as("kubectl", strangers("Cluster", "drill-7", spec={"instances": 3}))

    with pytest.raises(Permanent, match=r"Cluster shop/drill-7 is there already, and not of run drill-7\."):
        clusters.ensure_recovery_cluster(WISH)

    assert clusters.ensure_recovery_cluster_absent(run="drill-7", namespace="shop") == ()
    assert kubernetes.objects()[ObjectRef(API, "Cluster", "shop", "drill-7")]["spec"] == {"instances": 3}


def test_recovery_goes_on_where_it_was_and_never_to_another_time(clusters: DatabaseClusters) -> None:
    first = clusters.ensure_recovery_cluster(WISH)

    assert clusters.ensure_recovery_cluster(WISH) == first
    assert clusters.observe_recovery_cluster(run="drill-7", namespace="shop") == first
    with pytest.raises(Permanent, match=r"already being recovered, but to 2026-11-28T09:30:00\.250000Z"):
        clusters.ensure_recovery_cluster(replace(WISH, to=TO + timedelta(seconds=1)))


def test_teardown_needs_the_run_alone_and_leaves_the_rest(
    clusters: DatabaseClusters, kubernetes: FakeKubernetes
) -> None:
    clusters.ensure_recovery_cluster(WISH)
    clusters.ensure_recovery_cluster(replace(WISH, run="drill-8", cluster=DatabaseCluster("shop", "drill-8")))
    volume = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {}}
    for name, run in (("drill-7-1", "drill-7"), ("drill-8-1", "drill-8")):
        metadata = {"name": name, "namespace": "shop", "labels": {RUN_LABEL: run}}
        kubernetes.apply_as("operator", {**volume, "metadata": metadata})

    left = clusters.ensure_recovery_cluster_absent(run="drill-7", namespace="shop")

    assert left == ()
    assert clusters.observe_recovery_cluster(run="drill-7", namespace="shop") is None
    assert sorted(ref.name for ref in kubernetes.objects()) == ["drill-8", "drill-8-1"]


def test_what_is_still_there_after_teardown_is_named(clusters: DatabaseClusters, kubernetes: FakeKubernetes) -> None:
    clusters.ensure_recovery_cluster(WISH)
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {}}
    metadata = {"name": "drill-7-1-full-recovery", "namespace": "shop", "labels": {RUN_LABEL: "drill-7"}}
    kubernetes.apply_as("operator", {**job, "metadata": metadata})

    assert clusters.ensure_recovery_cluster_absent(run="drill-7", namespace="shop") == (
        "Job shop/drill-7-1-full-recovery",
    )


def test_missing_kinds_and_rights_are_named(kubernetes: FakeKubernetes, clusters: DatabaseClusters) -> None:
    kubernetes.lacking = {Right("create", "postgresql.cnpg.io", "backups")}

    assert clusters.observe_missing_kinds() == ()
    assert open_clusters(FakeKubernetes()).observe_missing_kinds() == ("Backup", "Cluster")
    assert clusters.observe_rights(namespace="shop") == (Right("create", "postgresql.cnpg.io", "backups"),)
    assert not {right.resource for right in RIGHTS} & {"secrets", "*"}


def test_absent_things_are_none(clusters: DatabaseClusters) -> None:
    assert clusters.observe_cluster(SHOP) is None
    assert clusters.observe_backup(run="backup-17", namespace="shop") is None
    assert clusters.observe_recovery_cluster(run="drill-7", namespace="shop") is None


def test_failure_of_the_api_server_is_passed_on(clusters: DatabaseClusters, kubernetes: FakeKubernetes) -> None:
    kubernetes.script.fail_before("ensure_applied", Transient("The cluster asks for fewer requests."))

    with pytest.raises(Transient):
        clusters.ensure_backup(run="backup-17", cluster=SHOP, method=ClusterBackupMethod.PLUGIN)
