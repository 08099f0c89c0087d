"""What the operator's objects say, and what is made of fields that are missing or make no sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.adapters.cloudnativepg.fields import archive_timeout_of, lsn_of, said, time_of, timeline_of
from recovery.adapters.cloudnativepg.reading import failure_of, read_backup, read_cluster, read_recovery
from recovery.ports.clusters import (
    ClusterBackup,
    ClusterBackupMethod,
    ClusterBackupStanding,
    ClusterCondition,
    DatabaseCluster,
    RecoveryStanding,
    RecoveryWindow,
)

SHOP = DatabaseCluster("shop", "odoo-db")
PLUGIN = "barman-cloud.cloudnative-pg.io"
COMPLETED = {
    "phase": "completed",
    "method": "barmanObjectStore",
    "serverName": "odoo-db",
    "destinationPath": "s3://backups/shop",
    "backupId": "20261128T030002",
    "beginLSN": "0/7000028",
    "endLSN": "0/70001A8",
    "beginWal": "000000020000000000000007",
    "endWal": "000000020000000000000007",
    "majorVersion": 17,
    "startedAt": "2026-11-28T03:00:02Z",
    "stoppedAt": "2026-11-28T03:04:10Z",
}


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, 11, 28, hour, minute, second, tzinfo=UTC)


def backup(**status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Backup",
        "metadata": {
            "name": "backup-17",
            "namespace": "shop",
            "labels": {"changecontrol.io/recovery-run": "backup-17"},
        },
        "spec": {"cluster": {"name": "odoo-db"}, "method": "barmanObjectStore"},
        "status": status,
    }


def cluster(*, spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "odoo-db", "namespace": "shop", "labels": {"changecontrol.io/recovery-run": "drill-7"}},
        "spec": {"instances": 3, "storage": {"size": "20Gi"}, **(spec or {})},
        "status": status,
    }


def condition(kind: str, status: str, *, reason: str = "Said", message: str = "") -> dict[str, str]:
    since = "2026-11-28T05:00:00Z"
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


IN_TREE = {"backup": {"barmanObjectStore": {"destinationPath": "s3://backups/shop"}}}
BY_PLUGIN = {"plugins": [{"name": PLUGIN, "isWALArchiver": True, "parameters": {"barmanObjectName": "store"}}]}
HEALTHY = {"phase": "Cluster in healthy state", "conditions": [condition("Ready", "True")]}


def test_completed_backup_tells_all_that_a_restore_needs() -> None:
    assert read_backup(backup(**COMPLETED)) == ClusterBackup(
        run="backup-17",
        name="backup-17",
        cluster=SHOP,
        standing=ClusterBackupStanding.COMPLETED,
        phase="completed",
        sentence="The backup backup-17 of shop/odoo-db is complete: 20261128T030002.",
        method="barmanObjectStore",
        server_name="odoo-db",
        destination="s3://backups/shop",
        backup_id="20261128T030002",
        timeline=2,
        begin_lsn=0x7000028,
        end_lsn=0x70001A8,
        begin_wal="000000020000000000000007",
        end_wal="000000020000000000000007",
        major=17,
        started_at=at(3, 0, 2),
        stopped_at=at(3, 4, 10),
    )


@pytest.mark.parametrize(
    "status, standing, words",
    [
        ({}, "waiting", "The backup backup-17 of shop/odoo-db waits for the operator to begin."),
        ({"phase": "pending"}, "waiting", "The backup backup-17 of shop/odoo-db waits for the operator to begin."),
        (
            {"phase": "walArchivingFailing"},
            "waiting",
            "The backup backup-17 of shop/odoo-db waits: WAL archiving does not work, without which it could not be "
            "restored.",
        ),
        ({"phase": "started"}, "running", "The backup backup-17 of shop/odoo-db is being taken."),
        ({"phase": "running"}, "running", "The backup backup-17 of shop/odoo-db is being taken."),
        ({"phase": "finalizing"}, "running", "The backup backup-17 of shop/odoo-db is being taken."),
        (
            {"phase": "failed", "error": "exit status 4"},
            "failed",
            "The backup backup-17 of shop/odoo-db failed: exit status 4.",
        ),
        (
            {"phase": "failed"},
            "failed",
            "The backup backup-17 of shop/odoo-db failed: the operator does not say why.",
        ),
        (
            {"phase": "invalid backup definition", "error": "cannot be empty."},
            "failed",
            "The backup backup-17 of shop/odoo-db failed: cannot be empty.",
        ),
        (
            {"phase": "a phase of tomorrow"},
            "waiting",
            "The backup backup-17 of shop/odoo-db waits for the operator to begin.",
        ),
    ],
)
def test_every_phase_is_a_standing_and_a_sentence(status: dict[str, Any], standing: str, words: str) -> None:
    read = read_backup(backup(**status))

    assert (read.standing, read.sentence) == (standing, words)


@pytest.mark.parametrize("missing", ["backupId", "beginLSN", "endLSN", "startedAt", "stoppedAt"])
def test_completed_backup_that_does_not_tell_all_is_not_taken_for_whole(missing: str) -> None:
    read = read_backup(backup(**{key: value for key, value in COMPLETED.items() if key != missing}))

    assert read.standing is ClusterBackupStanding.FAILED
    assert read.sentence == (
        f"The operator calls backup backup-17 of shop/odoo-db completed, but does not say {missing}. "
        "It is not taken for whole."
    )


def test_timeline_is_the_plugins_word_before_that_of_the_segment() -> None:
    assert timeline_of(metadata={"timeline": "3"}, wal="000000020000000000000007") == 3
    assert timeline_of(metadata={}, wal="0000000A0000000000000007") == 10
    assert timeline_of(metadata={"timeline": "soon"}, wal="") is None


@pytest.mark.parametrize(
    "value, read",
    [
        ("2026-11-28T03:00:02Z", at(3, 0, 2)),
        ("2026-11-28T04:00:02.5+01:00", at(3, 0, 2).replace(microsecond=500_000)),
        ("2026-11-28 03:00:02", at(3, 0, 2)),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_700_000_000, None),
    ],
)
def test_times_are_read_or_left_out(value: Any, read: datetime | None) -> None:
    assert time_of(value) == read


@pytest.mark.parametrize("value, read", [("1A/2B", 0x1A0000002B), ("0/0", 0), ("1A", None), ("x/1", None), (7, None)])
def test_positions_are_read_or_left_out(value: Any, read: int | None) -> None:
    assert lsn_of(value) == read


@pytest.mark.parametrize(
    "said_, read",
    [
        ({}, timedelta(minutes=5)),
        ({"archive_timeout": "60"}, timedelta(seconds=60)),
        ({"archive_timeout": "1h"}, timedelta(hours=1)),
        ({"archive_timeout": "0"}, None),
        ({"archive_timeout": "often"}, None),
    ],
)
def test_archive_timeout_is_the_operators_default_or_what_is_said(
    said_: dict[str, str], read: timedelta | None
) -> None:
    assert archive_timeout_of(said_) == read


def test_words_of_the_operator_end_as_a_sentence_and_are_not_endless() -> None:
    assert said("two\n lines") == "two lines."
    assert said("") == "the operator does not say why."
    assert len(said("x" * 900)) == 500


def test_cluster_that_archives_into_a_store_tells_its_window() -> None:
    live = cluster(
        spec=IN_TREE,
        phase="Cluster in healthy state",
        timelineID=2,
        systemID="7412345678901234567",
        image="ghcr.io/cloudnative-pg/postgresql:17.2",
        conditions=[
            condition("Ready", "True"),
            condition("ContinuousArchiving", "True", message="Continuous archiving is working"),
            condition("LastBackupSucceeded", "True", message="Backup was successful"),
        ],
        firstRecoverabilityPoint="2026-11-20T03:04:10Z",
        firstRecoverabilityPointByMethod={"barmanObjectStore": "2026-11-21T03:04:10Z"},
        lastSuccessfulBackup="2026-11-28T03:04:10Z",
        lastFailedBackup="2026-11-25T03:04:10Z",
    )

    state = read_cluster(live, store=None)

    assert (state.method, state.server_name, state.object_store) == ("barmanObjectStore", "odoo-db", "")
    assert (state.is_ready, state.timeline, state.system_identifier) == (True, 2, "7412345678901234567")
    assert state.archiving == ClusterCondition(True, "Said", "Continuous archiving is working", at(5))
    assert state.window == RecoveryWindow(
        first_at=datetime(2026, 11, 21, 3, 4, 10, tzinfo=UTC),
        last_success_at=at(3, 4, 10),
        last_failure_at=datetime(2026, 11, 25, 3, 4, 10, tzinfo=UTC),
    )
    assert (state.image, state.storage_size) == ("ghcr.io/cloudnative-pg/postgresql:17.2", "20Gi")
    assert state.findings == ()


def test_cluster_that_archives_by_plugin_tells_the_window_of_its_server() -> None:
    window = {"firstRecoverabilityPoint": "2026-11-21T03:00:00Z", "lastSuccessfulBackupTime": "2026-11-28T03:00:00Z"}
    store = {"status": {"serverRecoveryWindow": {"odoo-db": window, "other": {}}}}
    live = cluster(spec=BY_PLUGIN, conditions=[condition("ContinuousArchiving", "True")], phase="Failing over")

    state = read_cluster(live, store=store)

    assert (state.method, state.object_store, state.is_ready) == (ClusterBackupMethod.PLUGIN, "store", False)
    assert state.window == RecoveryWindow(datetime(2026, 11, 21, 3, tzinfo=UTC), at(3), None)
    assert state.findings == ()


def test_covered_range_ends_where_archiving_is_sure() -> None:
    window = {"firstRecoverabilityPoint": "2026-11-21T03:00:00Z", "lastSuccessfulBackupTime": "2026-11-28T03:00:00Z"}
    store, first = {"status": {"serverRecoveryWindow": {"odoo-db": window}}}, datetime(2026, 11, 21, 3, tzinfo=UTC)

    def covered(*conditions: dict[str, str], ready: int = 3, **parameters: str) -> Any:
        spec = {**BY_PLUGIN, "postgresql": {"parameters": parameters}}
        # The operator leaves a zero out.
        up = {"readyInstances": ready} if ready else {}
        return read_cluster(cluster(spec=spec, conditions=list(conditions), **up), store=store).covered(at(9))

    works, fails = condition("ContinuousArchiving", "True"), condition("ContinuousArchiving", "False")
    assert covered(works) == (first, at(8, 55))
    assert covered(works, archive_timeout="60") == (first, at(8, 59))
    assert covered(works, archive_timeout="0") == (first, at(3))
    assert covered(fails) == (first, at(4, 55))
    assert covered(condition("ContinuousArchiving", "Unknown")) == (first, at(4, 55))
    assert covered() is None
    assert covered(works, ready=1) == (first, at(8, 55))
    assert covered(works, ready=0) is None


UP = {"readyInstances": 3, "currentPrimary": "odoo-db-1", "targetPrimary": "odoo-db-1"}
PODS = ["odoo-db-1", "odoo-db-2", "odoo-db-3"]


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ({}, ""),
        ({"instancesStatus": {"healthy": PODS}}, ""),
        # A standby is replaced.
        ({"readyInstances": 2, "instancesStatus": {"healthy": PODS[:2], "replicating": PODS[2:]}}, ""),
        # A switchover: the old primary answers until the new one does.
        ({"targetPrimary": "odoo-db-2", "instancesStatus": {"healthy": PODS}}, ""),
        # Promoted, and the one that was it is away.
        ({"currentPrimary": "odoo-db-2", "instancesStatus": {"healthy": PODS[1:], "failed": PODS[:1]}}, ""),
        (
            {"readyInstances": 2, "instancesStatus": {"healthy": PODS[1:], "replicating": PODS[:1]}},
            "The primary odoo-db-1 of shop/odoo-db is not up, whatever its standbys are.",
        ),
        (
            {"targetPrimary": "odoo-db-2", "readyInstances": 2, "instancesStatus": {"healthy": PODS[1:]}},
            "The primary odoo-db-1 of shop/odoo-db is not up, whatever its standbys are.",
        ),
        (
            {"targetPrimary": "pending", "instancesStatus": {"healthy": PODS}},
            "The operator finds the primary odoo-db-1 of shop/odoo-db dead, and has yet to choose another.",
        ),
        (
            {"currentPrimaryFailingSinceTimestamp": "2026-11-28T08:59:00Z", "instancesStatus": {"healthy": PODS}},
            "The operator does not reach the primary odoo-db-1 of shop/odoo-db since 2026-11-28T08:59:00Z.",
        ),
        (
            {
                "phase": "Online upgrade in progress",
                "currentPrimaryFailingSinceTimestamp": "2026-11-28T08:59:00Z",
                "instancesStatus": {"healthy": PODS},
            },
            "",
        ),
        ({"readyInstances": 0, "instancesStatus": {"failed": PODS}}, "No instance of shop/odoo-db is up."),
    ],
)
def test_cluster_is_up_while_its_primary_is_and_says_why_it_is_not(said: dict[str, Any], trouble: str) -> None:
    works = condition("ContinuousArchiving", "True")
    window = {"firstRecoverabilityPoint": "2026-11-21T03:00:00Z"}

    state = read_cluster(cluster(spec=IN_TREE, conditions=[works], **window, **{**UP, **said}), store=None)

    assert (state.trouble, state.is_up, state.covered(at(9)) is not None) == (trouble, not trouble, not trouble)


def test_findings_say_what_is_wrong_with_the_backups() -> None:
    failing = [
        condition("ContinuousArchiving", "False", message="exit status 1"),
        condition("LastBackupSucceeded", "False", reason="LastBackupFailed", message="no space left"),
    ]

    assert read_cluster(cluster(spec=IN_TREE, conditions=failing), store=None).findings == (
        "The WAL of shop/odoo-db is not archived since 2026-11-28 05:00 UTC: exit status 1.",
        "The last backup of shop/odoo-db failed: no space left.",
        "No time of shop/odoo-db can be restored yet: there is no base backup.",
    )
    assert read_cluster(cluster(spec=BY_PLUGIN), store=None).findings == (
        "The object store store that shop/odoo-db archives to is not there.",
        "The operator has not said yet whether the WAL of shop/odoo-db is archived.",
        "No time of shop/odoo-db can be restored yet: there is no base backup.",
    )
    assert read_cluster(cluster(), store=None).findings == (
        f"shop/odoo-db is set to be backed up nowhere: it names neither an object store nor the plugin {PLUGIN}.",
    )


def test_backup_that_has_begun_is_no_failed_one() -> None:
    running = condition("LastBackupSucceeded", "False", reason="BackupStarted", message="New Backup starting up")

    findings = read_cluster(cluster(spec=IN_TREE, conditions=[running]), store=None).findings

    assert not any("failed" in sentence for sentence in findings)


def test_nothing_at_all_is_read_without_falling_over() -> None:
    assert read_backup({}).standing is ClusterBackupStanding.WAITING
    assert read_cluster({"status": {"conditions": "none"}, "spec": {"plugins": None}}, store={}).method is None
    assert read_recovery({"spec": None, "status": []}).standing is RecoveryStanding.SETTING_UP
    assert failure_of({}) == ""


@pytest.mark.parametrize(
    "status, standing, sentence",
    [
        ({}, "setting_up", "shop/odoo-db is being recovered: the operator has not begun."),
        (
            {"phase": "Setting up primary", "phaseReason": "Creating primary instance odoo-db-1"},
            "setting_up",
            "shop/odoo-db is being recovered: Setting up primary: Creating primary instance odoo-db-1.",
        ),
        (
            # Whenever the operator or the plugin begins anew.
            {"phase": "Cluster cannot proceed to reconciliation due to an unknown plugin being required"},
            "setting_up",
            "shop/odoo-db is being recovered: Cluster cannot proceed to reconciliation due to an unknown plugin being "
            "required.",
        ),
        (HEALTHY, "ready", "shop/odoo-db is recovered, and takes connections."),
        (
            {**HEALTHY, "conditions": [condition("Ready", "False")]},
            "setting_up",
            "shop/odoo-db is being recovered: Cluster in healthy state.",
        ),
        (
            {"phase": "Cluster is unrecoverable and needs manual intervention", "phaseReason": "Its job failed."},
            "failed",
            "shop/odoo-db could not be recovered: Cluster is unrecoverable and needs manual intervention: Its job "
            "failed.",
        ),
    ],
)
def test_recovery_is_told_in_the_operators_words(status: dict[str, Any], standing: str, sentence: str) -> None:
    read = read_recovery(cluster(**status))

    assert (read.run, read.standing, read.sentence) == ("drill-7", standing, sentence)


def test_recovery_whose_job_failed_has_failed() -> None:
    job = {
        "metadata": {"name": "odoo-db-1-full-recovery"},
        "status": {"conditions": [condition("Failed", "True", message="Job has reached the specified backoff limit")]},
    }

    read = read_recovery(cluster(phase="Setting up primary"), failure=failure_of(job))

    assert read.sentence == (
        "shop/odoo-db could not be recovered: its job odoo-db-1-full-recovery failed "
        "(Job has reached the specified backoff limit)."
    )


@pytest.mark.parametrize("spec", [IN_TREE, BY_PLUGIN], ids=["object-store", "plugin"])
def test_recovered_cluster_that_would_archive_has_failed(spec: dict[str, Any]) -> None:
    read = read_recovery(cluster(spec=spec, **HEALTHY))

    assert (read.standing, read.is_archiving) == (RecoveryStanding.FAILED, True)
