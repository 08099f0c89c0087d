"""What the operator CloudNativePG says of a database cluster in Kubernetes, and is asked for.

A field that it did not write is None or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from changecontrol.ports import Right
from recovery.ports.postgres import Consistent, RestoreTo


class ClusterBackupMethod(StrEnum):
    """Who takes the base backup, in the operator's words."""

    OBJECT_STORE = "barmanObjectStore"
    PLUGIN = "plugin"


class ClusterBackupStanding(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class RecoveryStanding(StrEnum):
    SETTING_UP = "setting_up"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, order=True)
class DatabaseCluster:
    """A database cluster by its place in Kubernetes."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ClusterBackup:
    """A base backup that the operator was asked for. `sentence` says where it stands, in its words where it has any."""

    run: str
    name: str
    cluster: DatabaseCluster
    standing: ClusterBackupStanding
    phase: str
    sentence: str
    method: str = ""
    server_name: str = ""
    """The name below which base backup and WAL lie in the object store."""
    destination: str = ""
    backup_id: str = ""
    timeline: int | None = None
    begin_lsn: int | None = None
    end_lsn: int | None = None
    begin_wal: str = ""
    end_wal: str = ""
    major: int | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None

    @property
    def is_done(self) -> bool:
        return self.standing in (ClusterBackupStanding.COMPLETED, ClusterBackupStanding.FAILED)


@dataclass(frozen=True, slots=True)
class ClusterCondition:
    """A condition of the operator. `is_true` is None where it says Unknown; `since` is when it last turned."""

    is_true: bool | None
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class RecoveryWindow:
    """What the object store holds of one server: the earliest time to restore, and how the last backups went."""

    first_at: datetime | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DatabaseClusterState:
    """A database cluster as the operator tells it. `object_store` is the plugin's, empty without the plugin."""

    cluster: DatabaseCluster
    phase: str
    phase_reason: str
    is_ready: bool
    method: ClusterBackupMethod | None
    server_name: str
    object_store: str
    archiving: ClusterCondition | None
    last_backup: ClusterCondition | None
    window: RecoveryWindow
    archive_timeout: timedelta | None
    """After how long a segment is shipped that is not full; None where it waits until it is."""
    image: str = ""
    storage_size: str = ""
    storage_class: str = ""
    pod_needs: Mapping[str, Any] = field(default_factory=dict)
    """What of its definition a cluster recovered from it needs to begin, in the operator's words."""
    timeline: int | None = None
    system_identifier: str = ""
    findings: tuple[str, ...] = ()
    """What is wrong with its backups, a sentence each; empty where nothing is."""
    trouble: str = ""
    """Why its primary does not answer, in a sentence; empty where it does."""

    @property
    def is_up(self) -> bool:
        """Tell whether the primary answers, as it does while standbys are replaced: it alone archives.

        `archiving` is what it said last: with it down that stays as it was, whatever standbys do, and means nothing.
        """
        return not self.trouble

    def covered(self, at: datetime) -> tuple[datetime, datetime] | None:
        """Return the times that can surely be restored, both included; None where there are none, or nobody can tell.

        WAL that is not archived yet is left out: a segment is shipped when it is full, or after `archive_timeout`.
        """
        archiving, first = self.archiving, self.window.first_at
        if archiving is None or first is None or not self.is_up:
            return None
        end = self.window.last_success_at or first
        worked_until = at if archiving.is_true else archiving.since
        if worked_until is not None and self.archive_timeout is not None:
            end = max(end, min(worked_until, at) - self.archive_timeout)
        return (first, end) if first <= end <= at else None


@dataclass(frozen=True, slots=True)
class PluginSource:
    """An `ObjectStore` of the plugin, whose credentials should be able to read alone, and the server's name in it."""

    object_store: str
    server_name: str


@dataclass(frozen=True, slots=True)
class RecoveryCluster:
    """A database cluster to be made from backups, beside what it comes from. `size` is a quantity, such as `20Gi`."""

    run: str
    cluster: DatabaseCluster
    origin: str
    """The name of the cluster that is recovered: the new one may never bear it."""
    source: PluginSource
    to: RestoreTo | Consistent
    image: str
    size: str
    storage_class: str = ""
    backup_id: str = ""
    pod_needs: Mapping[str, Any] = field(default_factory=dict)
    """What it needs to begin, as what it comes from has it."""


@dataclass(frozen=True, slots=True)
class RecoveryClusterState:
    """How far a recovery is. `sentence` has the operator's words; `is_archiving` must never be so."""

    run: str
    cluster: DatabaseCluster
    standing: RecoveryStanding
    phase: str
    sentence: str
    is_archiving: bool
    target: str = ""


def facts_of(backup: ClusterBackup, database: DatabaseClusterState) -> dict[str, Any]:
    """Return what is kept of a completed base backup, as JSON values; `database` is its cluster as it is now."""
    # A backup is completed only where it tells these times.
    assert backup.started_at is not None
    assert backup.stopped_at is not None
    return {
        "name": str(database.cluster),
        "backup": backup.name,
        "backup_id": backup.backup_id,
        "method": backup.method,
        "server_name": backup.server_name or database.server_name,
        "destination": backup.destination,
        "object_store": database.object_store,
        # What a recovered cluster is made like, where the source itself is gone.
        "image": database.image,
        "storage_size": database.storage_size,
        "storage_class": database.storage_class,
        "pod_needs": dict(database.pod_needs),
        "system_identifier": database.system_identifier,
        "server_version": _version(database.image) or str(backup.major or ""),
        "timeline": backup.timeline or database.timeline or 0,
        "start_lsn": backup.begin_lsn,
        "stop_lsn": backup.end_lsn,
        "started_at": backup.started_at.isoformat(),
        "stopped_at": backup.stopped_at.isoformat(),
    }


def _version(image: str) -> str:
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2].partition("-")[0]
    return tag[:40] if tag[:1].isdecimal() else ""


class DatabaseClusters(Protocol):
    """Backups and recoveries of database clusters by an operator, in one Kubernetes cluster.

    A run is named by a word of lower-case letters, digits and hyphens, such as `backup-17`: objects carry it as label.
    """

    def observe_rights(self, *, namespace: str) -> tuple[Right, ...]:
        """Return what the credential lacks there of the rights that all of this needs."""

    def observe_missing_kinds(self) -> tuple[str, ...]:
        """Return the kinds that this Kubernetes cluster does not know: none where the operator is installed."""

    def ensure_backup(self, *, run: str, cluster: DatabaseCluster, method: ClusterBackupMethod) -> ClusterBackup:
        """Ask for a base backup once. Observe first: one that retention removed since would be taken anew."""

    def observe_backup(self, *, run: str, namespace: str) -> ClusterBackup | None:
        """Return the backup of a run, or None. Raises `Permanent` where another holds its name."""

    def observe_clusters(self, *, namespace: str, inventory: str) -> tuple[DatabaseCluster, ...]:
        """Return the database clusters that carry the inventory label of an environment, as its own must."""

    def observe_cluster(self, cluster: DatabaseCluster) -> DatabaseClusterState | None:
        """Return a database cluster with the state of its archive, or None."""

    def observe_object_stores(self, *, namespace: str, inventory: str) -> tuple[str, ...]:
        """Return the plugin's object stores that carry the inventory label of an environment: to read from."""

    def ensure_recovery_cluster(self, wish: RecoveryCluster) -> RecoveryClusterState:
        """Make a cluster from backups, with archiving off.

        Raises `UnderWay` while another run has its name, and `Permanent` where somebody else has.
        """

    def observe_recovery_cluster(self, *, run: str, namespace: str) -> RecoveryClusterState | None:
        """Return the recovery of a run, or None."""

    def observe_recovery_url(self, *, run: str, namespace: str) -> str:
        """Return the address of a run's recovered server, with its superuser's password. Never to be shown or kept."""

    def ensure_recovery_cluster_absent(self, *, run: str, namespace: str) -> tuple[str, ...]:
        """Remove whatever carries the run's label; return what is still there, to be asked again until nothing is."""
