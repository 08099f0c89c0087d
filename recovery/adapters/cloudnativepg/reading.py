"""What the operator's objects say, in our words. Pure; nothing is guessed: what it does not say is None or empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recovery.adapters.cloudnativepg.fields import (
    archive_timeout_of,
    condition_of,
    lsn_of,
    number_of,
    part_of,
    said,
    text_of,
    time_of,
    timeline_of,
)
from recovery.adapters.cloudnativepg.manifests import PLUGIN, RUN_LABEL
from recovery.adapters.cloudnativepg.needs import image_of, needs_of, volume_of
from recovery.ports.clusters import (
    ClusterBackup,
    ClusterBackupMethod,
    ClusterBackupStanding,
    ClusterCondition,
    DatabaseCluster,
    DatabaseClusterState,
    RecoveryClusterState,
    RecoveryStanding,
    RecoveryWindow,
)

Body = Mapping[str, Any]

HEALTHY = "Cluster in healthy state"
HOPELESS = frozenset(
    {
        "Cluster is unrecoverable and needs manual intervention",
        "Cluster has incomplete or invalid image catalog",
        "Cluster cannot execute instance online upgrade due to missing architecture binary",
        "Invalid cluster definition",
    }
)
"""Phases in which the operator does nothing more until a person does.

An unknown plugin is not among them: it has not been loaded yet, as after any restart, and the operator looks again.
"""
POD_HEALTHY = "healthy"
"""Below this the operator lists the pods that are ready."""
FAILING_OVER = "pending"
"""The target primary from when the operator gives a primary up until it has chosen the next."""
UPGRADING_ITSELF = "Online upgrade in progress"
"""While the operator replaces its own program in the primary it does not reach it, and PostgreSQL goes on."""
BACKUP_STARTED = "BackupStarted"
"""The reason for which `LastBackupSucceeded` is False while the next backup runs."""

_STANDINGS = {
    "started": ClusterBackupStanding.RUNNING,
    "running": ClusterBackupStanding.RUNNING,
    "finalizing": ClusterBackupStanding.RUNNING,
    "completed": ClusterBackupStanding.COMPLETED,
    "failed": ClusterBackupStanding.FAILED,
    "invalid backup definition": ClusterBackupStanding.FAILED,
}


def run_of(live: Body) -> str:
    return text_of(part_of(live, "metadata", "labels"), RUN_LABEL)


def place_of(live: Body) -> DatabaseCluster:
    metadata = part_of(live, "metadata")
    return DatabaseCluster(text_of(metadata, "namespace"), text_of(metadata, "name"))


def read_backup(live: Body) -> ClusterBackup:
    """Return what a `Backup` says. Completed without what a restore needs to know of it is failed."""
    metadata, spec, status = part_of(live, "metadata"), part_of(live, "spec"), part_of(live, "status")
    cluster = DatabaseCluster(text_of(metadata, "namespace"), text_of(part_of(spec, "cluster"), "name"))
    name, phase = text_of(metadata, "name"), text_of(status, "phase")
    standing = _STANDINGS.get(phase, ClusterBackupStanding.WAITING)
    untold = _untold(status) if standing is ClusterBackupStanding.COMPLETED else ""
    begin_wal = text_of(status, "beginWal")
    return ClusterBackup(
        run=run_of(live),
        name=name,
        cluster=cluster,
        standing=ClusterBackupStanding.FAILED if untold else standing,
        phase=phase,
        sentence=_of_backup(f"backup {name} of {cluster}", standing, status, untold=untold),
        method=text_of(status, "method") or text_of(spec, "method"),
        server_name=text_of(status, "serverName"),
        destination=text_of(status, "destinationPath"),
        backup_id=text_of(status, "backupId"),
        timeline=timeline_of(metadata=part_of(status, "pluginMetadata"), wal=begin_wal),
        begin_lsn=lsn_of(status.get("beginLSN")),
        end_lsn=lsn_of(status.get("endLSN")),
        begin_wal=begin_wal,
        end_wal=text_of(status, "endWal"),
        major=number_of(status.get("majorVersion")),
        started_at=time_of(status.get("startedAt")),
        stopped_at=time_of(status.get("stoppedAt")),
    )


def plugin_of(live: Body) -> Body | None:
    """Return the parameters of the plugin in a `Cluster`, or None where it is not there, or switched off."""
    plugins = part_of(live, "spec").get("plugins")
    for one in plugins if isinstance(plugins, list) else ():
        if isinstance(one, Mapping) and one.get("name") == PLUGIN and one.get("enabled") is not False:
            return part_of(one, "parameters")
    return None


def has_archive(live: Body) -> bool:
    """Say whether a `Cluster` is set to archive its WAL anywhere."""
    spec = part_of(live, "spec")
    plugins = spec.get("plugins")
    return bool(part_of(spec, "backup", "barmanObjectStore")) or any(
        isinstance(one, Mapping) and one.get("isWALArchiver") is True and one.get("enabled") is not False
        for one in (plugins if isinstance(plugins, list) else ())
    )


def read_cluster(live: Body, *, store: Body | None) -> DatabaseClusterState:
    """Return what a `Cluster` says; `store` is the plugin's `ObjectStore` that it names, where it is there."""
    cluster = place_of(live)
    spec, status = part_of(live, "spec"), part_of(live, "status")
    configured, parameters = part_of(spec, "backup", "barmanObjectStore"), plugin_of(live)
    method = ClusterBackupMethod.OBJECT_STORE if configured else None
    if parameters is not None and not configured:
        method = ClusterBackupMethod.PLUGIN
    server = text_of(configured or parameters or {}, "serverName") or cluster.name
    object_store = text_of(parameters or {}, "barmanObjectName") if method is ClusterBackupMethod.PLUGIN else ""
    window = _window_in(store, server) if method is ClusterBackupMethod.PLUGIN else _window_of(status)
    storage = volume_of(part_of(spec, "storage"))
    archiving = condition_of(status, "ContinuousArchiving")
    last_backup = condition_of(status, "LastBackupSucceeded")
    findings = _findings(cluster, method, archiving, last_backup, window)
    if object_store and store is None:
        findings = (f"The object store {object_store} that {cluster} archives to is not there.", *findings)
    return DatabaseClusterState(
        cluster=cluster,
        phase=text_of(status, "phase"),
        phase_reason=text_of(status, "phaseReason"),
        is_ready=_is_ready(status),
        method=method,
        server_name=server,
        object_store=object_store,
        archiving=archiving,
        last_backup=last_backup,
        window=window,
        archive_timeout=archive_timeout_of(part_of(spec, "postgresql", "parameters")),
        image=image_of(spec, status),
        storage_size=storage.get("size", ""),
        storage_class=storage.get("storageClass", ""),
        pod_needs=needs_of(spec, status),
        timeline=number_of(status.get("timelineID")),
        system_identifier=text_of(status, "systemID"),
        findings=findings,
        trouble=_trouble_of(cluster, status),
    )


def read_recovery(live: Body, *, failure: str = "", obstacle: str = "") -> RecoveryClusterState:
    """Return how far a recovery is; `failure` is what its job says, where that failed.

    `obstacle` says why its pod does not begin: the operator's phase stays the same meanwhile.
    """
    cluster, status = place_of(live), part_of(live, "status")
    phase, reason = text_of(status, "phase"), text_of(status, "phaseReason")
    standing = RecoveryStanding.SETTING_UP
    words = said(": ".join(part for part in (phase, reason) if part), otherwise="the operator has not begun")
    sentence = f"{cluster} is being recovered: {words} {obstacle}".rstrip()
    if has_archive(live):
        standing = RecoveryStanding.FAILED
        sentence = f"{cluster} is set to archive its WAL, which a recovered cluster must never do."
    elif phase in HOPELESS:
        standing, sentence = RecoveryStanding.FAILED, f"{cluster} could not be recovered: {words}"
    elif failure:
        standing, sentence = RecoveryStanding.FAILED, f"{cluster} could not be recovered: {said(failure)}"
    elif phase == HEALTHY and _is_ready(status):
        standing, sentence = RecoveryStanding.READY, f"{cluster} is recovered, and takes connections."
    return RecoveryClusterState(
        run=run_of(live),
        cluster=cluster,
        standing=standing,
        phase=phase,
        sentence=sentence,
        is_archiving=has_archive(live),
        target=text_of(part_of(live, "spec", "bootstrap", "recovery", "recoveryTarget"), "targetTime"),
    )


def failure_of(job: Body) -> str:
    """Return what a failed `Job` says of its end; empty for one that did not fail."""
    failed = condition_of(part_of(job, "status"), "Failed")
    if failed is None or not failed.is_true:
        return ""
    name = text_of(part_of(job, "metadata"), "name")
    return f"its job {name} failed ({failed.message or failed.reason or 'the cluster does not say why'})"


def _untold(status: Body) -> str:
    told = {
        "backupId": text_of(status, "backupId"),
        "beginLSN": lsn_of(status.get("beginLSN")) is not None,
        "endLSN": lsn_of(status.get("endLSN")) is not None,
        "startedAt": time_of(status.get("startedAt")),
        "stoppedAt": time_of(status.get("stoppedAt")),
    }
    return ", ".join(name for name, is_told in told.items() if not is_told)


def _of_backup(what: str, standing: ClusterBackupStanding, status: Body, *, untold: str) -> str:
    if untold:
        return f"The operator calls {what} completed, but does not say {untold}. It is not taken for whole."
    if standing is ClusterBackupStanding.COMPLETED:
        return f"The {what} is complete: {text_of(status, 'backupId')}."
    if standing is ClusterBackupStanding.FAILED:
        return f"The {what} failed: {said(text_of(status, 'error') or text_of(status, 'commandError'))}"
    if standing is ClusterBackupStanding.RUNNING:
        return f"The {what} is being taken."
    if text_of(status, "phase") == "walArchivingFailing":
        return f"The {what} waits: WAL archiving does not work, without which it could not be restored."
    return f"The {what} waits for the operator to begin."


def _is_ready(status: Body) -> bool:
    ready = condition_of(status, "Ready")
    return text_of(status, "phase") == HEALTHY and (ready is None or ready.is_true is True)


def _trouble_of(cluster: DatabaseCluster, status: Body) -> str:
    """Say why the primary does not answer; empty where it does.

    The operator names the one that was promoted last, and goes on to name it until another is. Where it has not told
    which of its pods are ready, nobody knows of one that the primary is not.
    """
    primary, target = text_of(status, "currentPrimary"), text_of(status, "targetPrimary")
    if not number_of(status.get("readyInstances")):
        # It writes no number where none is.
        return f"No instance of {cluster} is up."
    healthy = part_of(status, "instancesStatus").get(POD_HEALTHY)
    is_told = bool(primary) and "instancesStatus" in status
    if is_told and primary not in (healthy if isinstance(healthy, list) else ()):
        return f"The primary {primary} of {cluster} is not up, whatever its standbys are."
    if target == FAILING_OVER:
        return f"The operator finds the primary {primary} of {cluster} dead, and has yet to choose another."
    failing = text_of(status, "currentPrimaryFailingSinceTimestamp")
    if failing and text_of(status, "phase") != UPGRADING_ITSELF:
        return f"The operator does not reach the primary {primary} of {cluster} since {failing}."
    return ""


def _window_of(status: Body) -> RecoveryWindow:
    def by_method(name: str) -> Any:
        return part_of(status, f"{name}ByMethod").get(ClusterBackupMethod.OBJECT_STORE) or status.get(name)

    return RecoveryWindow(
        first_at=time_of(by_method("firstRecoverabilityPoint")),
        last_success_at=time_of(by_method("lastSuccessfulBackup")),
        last_failure_at=time_of(status.get("lastFailedBackup")),
    )


def _window_in(store: Body | None, server: str) -> RecoveryWindow:
    window = part_of(store, "status", "serverRecoveryWindow", server)
    return RecoveryWindow(
        first_at=time_of(window.get("firstRecoverabilityPoint")),
        last_success_at=time_of(window.get("lastSuccessfulBackupTime")),
        last_failure_at=time_of(window.get("lastFailedBackupTime")),
    )


def _findings(
    cluster: DatabaseCluster,
    method: ClusterBackupMethod | None,
    archiving: ClusterCondition | None,
    last_backup: ClusterCondition | None,
    window: RecoveryWindow,
) -> tuple[str, ...]:
    def all_of_them() -> Iterator[str]:
        if method is None:
            yield f"{cluster} is set to be backed up nowhere: it names neither an object store nor the plugin {PLUGIN}."
            return
        if archiving is None or archiving.is_true is None:
            yield f"The operator has not said yet whether the WAL of {cluster} is archived."
        elif not archiving.is_true:
            since = f" since {archiving.since:%Y-%m-%d %H:%M} UTC" if archiving.since else ""
            yield f"The WAL of {cluster} is not archived{since}: {said(archiving.message)}"
        if last_backup is not None and last_backup.is_true is False and last_backup.reason != BACKUP_STARTED:
            yield f"The last backup of {cluster} failed: {said(last_backup.message)}"
        if window.first_at is None:
            yield f"No time of {cluster} can be restored yet: there is no base backup."

    return tuple(all_of_them())
