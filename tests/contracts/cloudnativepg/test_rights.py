"""`deploy/rbac-cloudnativepg.yaml` grants what backups and recoveries ask for, and nothing else."""

from __future__ import annotations

from itertools import product

import pytest
import yaml

from changecontrol.errors import Permanent
from changecontrol.ports import NotAllowed, Right
from recovery.adapters.cloudnativepg.operator import RIGHTS
from recovery.ports.clusters import ClusterBackupMethod
from tests.contracts.cloudnativepg.conftest import RBAC, Estate, eventually, now


def granted() -> set[Right]:
    role, _ = yaml.safe_load_all(RBAC.read_text())
    return {
        Right(verb=verb, group=group, resource=resource)
        for rule in role["rules"]
        if "resourceNames" not in rule
        for group, resource, verb in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def test_preflight_asks_for_exactly_the_grants() -> None:
    assert set(RIGHTS) == granted()


def test_nothing_is_lacking_where_the_role_is_bound(estate: Estate) -> None:
    assert estate.clusters.observe_rights(namespace=estate.namespace) == ()


def test_everything_is_lacking_where_it_is_not(estate: Estate) -> None:
    assert set(estate.clusters.observe_rights(namespace="default")) == set(RIGHTS)


def test_every_call_is_made_with_these_rights(estate: Estate) -> None:
    origin, clusters = estate.database(), estate.clusters

    assert clusters.observe_missing_kinds() == ()
    assert clusters.observe_clusters(namespace=origin.namespace, inventory=origin.namespace) == (origin,)
    clusters.ensure_backup(run="backup-1", cluster=origin, method=ClusterBackupMethod.PLUGIN)
    eventually(
        lambda: clusters.observe_backup(run="backup-1", namespace=origin.namespace),
        holds=lambda backup: backup is not None and backup.is_done,
    )
    clusters.observe_cluster(origin)
    clusters.ensure_recovery_cluster(estate.recovery(to=now()))
    clusters.observe_recovery_cluster(run="drill-7", namespace=origin.namespace)
    clusters.observe_object_stores(namespace=origin.namespace, inventory=origin.namespace)
    eventually(
        lambda: clusters.ensure_recovery_cluster_absent(run="drill-7", namespace=origin.namespace),
        holds=lambda left: left == (),
    )


def test_secrets_stay_out_of_reach_but_those_of_recovered_clusters(estate: Estate) -> None:
    estate.database()

    for name in ("store-credentials", "odoo-db-superuser", "odoo-db-app"):
        with pytest.raises(NotAllowed):
            estate.kubernetes.observe_secret(namespace=estate.namespace, name=name)
    for kind in ("drill", "restore"):
        assert (
            estate.kubernetes.observe_secret(namespace=estate.namespace, name=f"changecontrol-{kind}-superuser") is None
        )


def test_missing_right_is_a_sentence(estate: Estate) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{estate.namespace}/rolebindings/changecontrol-recovery"
    estate.admin.call("DELETE", path, doing="take the rights away")

    with pytest.raises(Permanent, match=r"lacks the right to get backups\.postgresql\.cnpg\.io"):
        estate.clusters.ensure_backup(run="backup-1", cluster=estate.origin, method=ClusterBackupMethod.PLUGIN)
