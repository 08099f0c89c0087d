"""Recovered clusters: beside what they come from, never archiving, told in the operator's words, and gone again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from changecontrol.errors import Permanent, UnderWay
from changecontrol.ports import ObjectRef
from recovery.adapters.cloudnativepg.manifests import RUN_LABEL
from recovery.ports.clusters import (
    ClusterBackup,
    ClusterBackupMethod,
    DatabaseCluster,
    RecoveryClusterState,
    RecoveryStanding,
)
from recovery.ports.postgres import Consistent
from tests.contracts.cloudnativepg.conftest import Estate, eventually, now


def backed_up(
    estate: Estate,
    *,
    method: ClusterBackupMethod = ClusterBackupMethod.PLUGIN,
    more: dict[str, Any] | None = None,
) -> ClusterBackup:
    estate.database(method=method, more=more)
    found = eventually(
        lambda: estate.clusters.ensure_backup(run="backup-1", cluster=estate.origin, method=method),
        holds=lambda backup: backup.is_done,
    )
    assert isinstance(found, ClusterBackup)
    return found


def observed(estate: Estate, run: str = "drill-7") -> Callable[[], RecoveryClusterState]:
    def ask() -> RecoveryClusterState:
        state = estate.clusters.observe_recovery_cluster(run=run, namespace=estate.namespace)
        assert state is not None
        return state

    return ask


def ended(state: RecoveryClusterState) -> bool:
    return state.standing is not RecoveryStanding.SETTING_UP


@pytest.mark.parametrize("method", list(ClusterBackupMethod), ids=["object-store", "plugin"])
def test_cluster_is_recovered_to_a_time_and_archives_nothing(estate: Estate, method: ClusterBackupMethod) -> None:
    backup = backed_up(estate, method=method)
    assert backup.stopped_at is not None
    wish = estate.recovery(to=backup.stopped_at)

    begun = estate.clusters.ensure_recovery_cluster(wish)
    done = eventually(observed(estate), holds=ended)

    assert begun.sentence == f"{wish.cluster} is being recovered: the operator has not begun."
    assert done.sentence == f"{wish.cluster} is recovered, and takes connections."
    assert (done.standing, done.is_archiving) == (RecoveryStanding.READY, False)
    state = estate.clusters.observe_cluster(wish.cluster)
    assert state is not None
    assert (state.method, state.archiving, state.timeline) == (None, None, 2)


def test_recovered_server_is_reached_by_the_secret_that_the_operator_made(estate: Estate) -> None:
    backup = backed_up(estate)
    assert backup.stopped_at is not None
    wish = estate.recovery(to=backup.stopped_at, name="changecontrol-drill")
    estate.clusters.ensure_recovery_cluster(wish)
    eventually(observed(estate), holds=ended)

    url = estate.clusters.observe_recovery_url(run="drill-7", namespace=estate.namespace)

    assert url.startswith("postgresql://postgres:")
    assert url.endswith(f"@changecontrol-drill-rw.{estate.namespace}:5432/*")


def test_object_store_to_read_from_is_found_by_the_label(estate: Estate) -> None:
    estate.database()

    found = estate.clusters.observe_object_stores(namespace=estate.namespace, inventory=estate.namespace)

    assert found == ("read-only",)


def test_backup_alone_is_recovered(estate: Estate) -> None:
    backup = backed_up(estate)

    estate.clusters.ensure_recovery_cluster(
        replace(estate.recovery(to=now()), to=Consistent.CONSISTENT, backup_id=backup.backup_id)
    )

    assert eventually(observed(estate), holds=ended).standing is RecoveryStanding.READY


def test_target_that_is_never_reached_fails_with_the_operators_words(estate: Estate) -> None:
    backed_up(estate)
    wish = estate.recovery(to=now() + timedelta(days=1))

    estate.clusters.ensure_recovery_cluster(wish)
    state = eventually(observed(estate), holds=ended)

    assert state.standing is RecoveryStanding.FAILED
    assert state.sentence.startswith(f"{wish.cluster} could not be recovered: ")
    assert "drill-7-1-full-recovery" in state.sentence


def test_time_before_the_first_backup_fails(estate: Estate) -> None:
    backed_up(estate)

    estate.clusters.ensure_recovery_cluster(estate.recovery(to=now() - timedelta(days=1)))

    assert eventually(observed(estate), holds=ended).standing is RecoveryStanding.FAILED


def test_recovery_under_the_name_of_production_is_refused(estate: Estate) -> None:
    estate.database()
    other = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "spec": {"instances": 1}}
    estate.apply(estate.path("clusters"), {**other, "metadata": {"name": "shop-db", "namespace": estate.namespace}})

    for name, why in (("odoo-db", "odoo-db is what is recovered"), ("shop-db", "is there already, and not of run")):
        with pytest.raises(Permanent, match=why):
            wish = replace(estate.recovery(to=now()), cluster=DatabaseCluster(estate.namespace, name))
            estate.clusters.ensure_recovery_cluster(wish)

    live = estate.kubernetes.observe_object(ObjectRef("postgresql.cnpg.io/v1", "Cluster", estate.namespace, "shop-db"))
    assert live is not None
    assert "bootstrap" not in live["spec"]


def test_recovery_begins_once_the_volume_of_the_last_one_of_its_name_is_gone(estate: Estate) -> None:
    backup = backed_up(estate)
    assert backup.stopped_at is not None
    name = "changecontrol-restore"
    estate.clusters.ensure_recovery_cluster(estate.recovery(to=backup.stopped_at, name=name))
    eventually(observed(estate), holds=ended)
    estate.hold(f"{name}-1", ["test/held"])
    eventually(lambda: left_of(estate, "drill-7"), holds=lambda left: len(left) == 2)
    wish = estate.recovery(to=backup.stopped_at, run="restore-8", name=name)

    with pytest.raises(UnderWay) as raised:
        estate.clusters.ensure_recovery_cluster(wish)
    estate.hold(f"{name}-1", [])
    eventually(lambda: left_of(estate, "drill-7"), holds=lambda left: left == ())
    estate.clusters.ensure_recovery_cluster(wish)

    assert raised.value.reason == (
        f"Of an earlier {wish.cluster} there is still: PersistentVolumeClaim {wish.cluster}-1, Pod {wish.cluster}-1. "
        "This one waits until it is gone."
    )
    assert eventually(observed(estate, "restore-8"), holds=ended).standing is RecoveryStanding.READY


def test_recovery_that_no_node_takes_says_so(estate: Estate) -> None:
    backup = backed_up(estate)
    assert backup.stopped_at is not None
    pod_needs = {"affinity": {"nodeSelector": {"pool": "databases"}}}

    estate.clusters.ensure_recovery_cluster(replace(estate.recovery(to=backup.stopped_at), pod_needs=pod_needs))
    state = eventually(observed(estate), holds=lambda state: "No node" in state.sentence)

    assert "No node takes its pod: 0/3 nodes are available: " in state.sentence
    assert state.standing is RecoveryStanding.SETTING_UP


def test_recovery_whose_image_cannot_be_pulled_says_so(estate: Estate) -> None:
    backup = backed_up(estate)
    assert backup.stopped_at is not None

    estate.clusters.ensure_recovery_cluster(
        replace(estate.recovery(to=backup.stopped_at), image="registry.invalid/postgresql:17.2")
    )
    state = eventually(observed(estate), holds=lambda state: "image" in state.sentence)

    assert state.sentence.startswith(f"{estate.namespace}/drill-7 is being recovered: ")
    assert "Its image cannot be pulled: " in state.sentence
    assert state.standing is RecoveryStanding.SETTING_UP


def test_recovery_whose_pod_a_quota_forbids_says_so_and_goes_on_once_there_is_room(estate: Estate) -> None:
    backup = backed_up(estate)
    assert backup.stopped_at is not None
    path = f"/api/v1/namespaces/{estate.namespace}/resourcequotas"
    metadata = {"name": "small", "namespace": estate.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "1"}}}
    estate.apply(path, quota)

    estate.clusters.ensure_recovery_cluster(estate.recovery(to=backup.stopped_at))
    state = eventually(observed(estate), holds=lambda state: "quota" in state.sentence)
    estate.apply(path, {**quota, "spec": {"hard": {"pods": "5"}}})

    assert "Its pod does not begin: FailedCreate: Error creating: pods " in state.sentence
    assert "exceeded quota: small" in state.sentence
    assert state.standing is RecoveryStanding.SETTING_UP
    assert eventually(observed(estate), holds=ended).standing is RecoveryStanding.READY


def test_recovery_has_the_volumes_of_its_source_and_none_without_a_tablespace_s(estate: Estate) -> None:
    volume = {"size": "5Gi", "pvcTemplate": {"accessModes": ["ReadWriteOncePod"]}}
    tablespaces = [{"name": "old_orders", "storage": volume}]
    server = {"parameters": {"max_connections": "500"}}
    more: dict[str, Any] = {"walStorage": volume, "tablespaces": tablespaces, "postgresql": server}
    backup = backed_up(estate, more=more)
    assert backup.stopped_at is not None
    source = estate.clusters.observe_cluster(estate.origin)
    assert source is not None
    bare = estate.recovery(to=backup.stopped_at, run="drill-6")
    wish = replace(estate.recovery(to=backup.stopped_at), pod_needs=source.pod_needs)

    estate.clusters.ensure_recovery_cluster(bare)
    estate.clusters.ensure_recovery_cluster(wish)

    assert eventually(observed(estate, "drill-6"), holds=ended).standing is RecoveryStanding.FAILED
    assert eventually(observed(estate), holds=ended).standing is RecoveryStanding.READY
    live = estate.kubernetes.observe_object(ObjectRef("postgresql.cnpg.io/v1", "Cluster", estate.namespace, "drill-7"))
    assert live is not None
    made = {**volume, "resizeInUseVolumes": True}  # the default of the operator's own definition
    assert (live["spec"]["walStorage"], live["spec"]["postgresql"]) == (made, server)
    assert live["spec"]["tablespaces"] == [{"name": "old_orders", "temporary": False, "storage": made}]
    claims = estate.kubernetes.observe_inventory(
        namespace=estate.namespace, inventory="drill-7", kinds=(("v1", "PersistentVolumeClaim"),), label=RUN_LABEL
    )
    assert sorted(one.name for one in claims) == ["drill-7-1", "drill-7-1-tbs-old-orders", "drill-7-1-wal"]
    eventually(lambda: left_of(estate, "drill-7"), holds=lambda left: left == ())


def left_of(estate: Estate, run: str) -> tuple[str, ...]:
    return estate.clusters.ensure_recovery_cluster_absent(run=run, namespace=estate.namespace)


def test_teardown_takes_everything_of_the_run_and_nothing_else(estate: Estate) -> None:
    backup = backed_up(estate)
    assert backup.stopped_at is not None
    for run in ("drill-7", "drill-8"):
        estate.clusters.ensure_recovery_cluster(estate.recovery(to=backup.stopped_at, run=run))
        eventually(observed(estate, run), holds=ended)

    first = estate.clusters.ensure_recovery_cluster_absent(run="drill-7", namespace=estate.namespace)
    left = eventually(
        lambda: estate.clusters.ensure_recovery_cluster_absent(run="drill-7", namespace=estate.namespace),
        holds=lambda names: names == (),
    )

    names = {one.partition(f" {estate.namespace}/")[2] for one in first}
    assert {name.partition("full-recovery")[0] for name in names} <= {"drill-7", "drill-7-1", "drill-7-1-"}
    assert left == ()
    assert estate.clusters.observe_recovery_cluster(run="drill-7", namespace=estate.namespace) is None
    assert observed(estate, "drill-8")().standing is RecoveryStanding.READY
    assert estate.clusters.observe_cluster(estate.origin) is not None
