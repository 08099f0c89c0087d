"""Backups by the operator: asked for once, watched, told in its words."""

from __future__ import annotations

import pytest

from changecontrol.errors import Transient
from recovery.ports.clusters import ClusterBackup, ClusterBackupMethod, ClusterBackupStanding, DatabaseClusterState
from tests.contracts.cloudnativepg.conftest import Estate, eventually, now

METHODS = [ClusterBackupMethod.OBJECT_STORE, ClusterBackupMethod.PLUGIN]
by_method = pytest.mark.parametrize("method", METHODS, ids=["object-store", "plugin"])


def taken(estate: Estate, *, run: str = "backup-1", method: ClusterBackupMethod) -> ClusterBackup:
    """Ask for a backup as a tick does, again and again, until it is done."""
    found = eventually(
        lambda: estate.clusters.ensure_backup(run=run, cluster=estate.origin, method=method),
        holds=lambda backup: backup.is_done,
    )
    assert isinstance(found, ClusterBackup)
    return found


def state(estate: Estate) -> DatabaseClusterState:
    found = estate.clusters.observe_cluster(estate.origin)
    assert found is not None
    return found


@by_method
def test_backup_runs_to_its_end_and_is_made_once(estate: Estate, method: ClusterBackupMethod) -> None:
    estate.database(method=method)

    backup = taken(estate, method=method)

    assert backup.standing is ClusterBackupStanding.COMPLETED
    assert backup.begin_lsn is not None
    assert backup.end_lsn is not None
    assert backup.started_at is not None
    assert backup.stopped_at is not None
    assert backup.begin_lsn < backup.end_lsn
    assert backup.started_at <= backup.stopped_at
    assert (backup.timeline, backup.major, backup.method) == (1, 17, method)
    effects = estate.server.call(lambda world: dict(world.objects.effects))
    assert effects[f"apply backups.postgresql.cnpg.io {estate.namespace}/backup-1"] == 1


@by_method
def test_cluster_tells_what_can_be_restored(estate: Estate, method: ClusterBackupMethod) -> None:
    estate.database(method=method)
    before = eventually(lambda: state(estate), holds=lambda found: found.is_ready)
    backup = taken(estate, method=method)

    after = eventually(lambda: state(estate), holds=lambda found: found.covered(now()) is not None)

    assert before.findings == (f"No time of {estate.origin} can be restored yet: there is no base backup.",)
    assert before.covered(now()) is None
    assert after.window.first_at == after.window.last_success_at == backup.stopped_at
    assert after.method is method
    assert (after.image, after.storage_size, after.storage_class) == (
        "ghcr.io/cloudnative-pg/postgresql:17.2",
        "20Gi",
        "fast",
    )
    assert (after.server_name, after.timeline, len(after.system_identifier)) == ("odoo-db", 1, 19)
    assert eventually(lambda: state(estate), holds=lambda found: found.findings == ()).archiving is not None


@by_method
def test_failing_backup_is_told_with_its_reason(estate: Estate, method: ClusterBackupMethod) -> None:
    estate.database(method=method, behaviour="backups-fail")

    backup = taken(estate, method=method)

    assert backup.standing is ClusterBackupStanding.FAILED
    assert backup.sentence == f"The backup backup-1 of {estate.origin} failed: exit status 1."
    sentences = eventually(lambda: state(estate), holds=lambda it: len(it.findings) > 1).findings
    assert f"The last backup of {estate.origin} failed: exit status 1." in sentences


def test_backup_waits_while_wal_is_not_archived(estate: Estate) -> None:
    method = ClusterBackupMethod.OBJECT_STORE
    estate.database(method=method, behaviour="archiving-fails")
    estate.clusters.ensure_backup(run="backup-1", cluster=estate.origin, method=method)

    waiting = eventually(
        lambda: estate.clusters.observe_backup(run="backup-1", namespace=estate.namespace),
        holds=lambda it: it is not None and "WAL archiving does not work" in it.sentence,
    )
    found = eventually(lambda: state(estate), holds=lambda it: it.archiving is not None)
    estate.database(method=method)

    assert waiting is not None
    assert waiting.standing is ClusterBackupStanding.WAITING
    assert "is not archived since" in found.findings[0]
    assert taken(estate, method=method).standing is ClusterBackupStanding.COMPLETED


def test_backup_without_a_place_for_it_fails(estate: Estate) -> None:
    estate.database(method=ClusterBackupMethod.PLUGIN)

    backup = taken(estate, method=ClusterBackupMethod.OBJECT_STORE)

    assert backup.sentence == (
        f"The backup backup-1 of {estate.origin} failed: cannot proceed with the backup as the cluster has no backup "
        "section."
    )


def test_answer_that_was_lost_is_found_done(estate: Estate) -> None:
    estate.database()
    path = f"/apis/postgresql.cnpg.io/v1/namespaces/{estate.namespace}/backups"
    estate.server.call(lambda world: world.faults.add({"kind": "cut-after", "method": "PATCH", "path": path}))

    with pytest.raises(Transient, match="it may have done it"):
        estate.clusters.ensure_backup(run="backup-1", cluster=estate.origin, method=ClusterBackupMethod.PLUGIN)

    assert taken(estate, method=ClusterBackupMethod.PLUGIN).standing is ClusterBackupStanding.COMPLETED
    effects = estate.server.call(lambda world: dict(world.objects.effects))
    assert effects[f"apply backups.postgresql.cnpg.io {estate.namespace}/backup-1"] == 1
