"""What recovery asks of machines elsewhere. Protocols and frozen data, no client.

Adapters (`recovery/adapters/`) answer these protocols and raise only `Transient`, `Permanent` and, for what this
machine lacks or somebody stopped, `Hindered`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Protocol

from changecontrol.ports import Right

# --- PostgreSQL --------------------------------------------------------------------------------------------------
# A position in the WAL is an int, as PostgreSQL counts bytes; `format_lsn` writes it as people know it.


def format_lsn(position: int) -> str:
    """Write a WAL position as PostgreSQL does, such as `0/3000028`."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Read a WAL position as PostgreSQL writes it."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A PostgreSQL server as it presents itself."""

    system_identifier: str
    version: str
    major: int
    timeline: int
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class BaseBackup:
    """A base backup that is whole in the store. Digests are of the streams' heads, which cover every part.

    Every time from `finished_at` on (the server's clock) can be restored, as far as the WAL goes. An incremental one
    names its `parent`, without which it is nothing; `parent_sha256` is the digest of the facts the parent had.
    `superuser` is the role that the server was made with, which is always there and may do everything.
    """

    label: str
    key: str
    manifest_key: str
    system_identifier: str
    server_version: str
    server_major: int
    segment_bytes: int
    timeline: int
    start_lsn: int
    stop_lsn: int
    started_at: datetime
    finished_at: datetime
    content_bytes: int
    stored_bytes: int
    sha256: str
    manifest_sha256: str
    parent: str = ""
    parent_sha256: str = ""
    superuser: str = "postgres"


@dataclass(frozen=True, slots=True)
class DatabaseDump:
    """A logical copy of one database that is whole in the store: rows and structure, without roles and their rights.

    It holds all that was committed before `started_at` (the server's clock), and can be restored to this time alone.
    `database_bytes` is how large the database was.
    """

    label: str
    key: str
    database: str
    encoding: str
    collation: str
    character_type: str
    server_version: str
    server_major: int
    started_at: datetime
    finished_at: datetime
    content_bytes: int
    stored_bytes: int
    sha256: str
    database_bytes: int


@dataclass(frozen=True, slots=True, order=True)
class WalObject:
    """WAL from `start` to `end` on a timeline, in one object: a finished segment, or a piece of the one being written.

    Every commit up to `reached_at` (the server's clock) lies before `end`. A piece of no length says only that.
    """

    timeline: int
    start: int
    end: int
    reached_at: datetime
    key: str
    size: int
    is_finished: bool


@dataclass(frozen=True, slots=True, order=True)
class TimelineSwitch:
    """A timeline that left its parent at a position: somebody was promoted. `key` holds its history file."""

    timeline: int
    parent: int
    at: int
    key: str


@dataclass(frozen=True, slots=True)
class WalArchive:
    """All WAL of one system that the store really holds."""

    system_identifier: str
    segment_bytes: int
    objects: tuple[WalObject, ...]
    switches: tuple[TimelineSwitch, ...] = ()


@dataclass(frozen=True, slots=True)
class WalStretch:
    """WAL without a hole on one timeline. `key`, `size` and `sha256` are the newest object's; empty where not known."""

    system_identifier: str
    timeline: int
    start: int
    end: int
    reached_at: datetime
    key: str
    size: int
    sha256: str = ""
    parent: int = 0
    forked_at: int = 0
    """Where its timeline left its parent; both 0 where it began by itself, or nothing is known of it."""


@dataclass(frozen=True, slots=True)
class WalGap:
    """WAL that is missing although later WAL is there. What committed up to `last_safe_at` lies before it."""

    timeline: int
    start: int
    end: int
    last_safe_at: datetime
    goes_on_at: datetime


@dataclass(frozen=True, slots=True)
class Coverage:
    """The times that can be restored from one base backup: from `start_at` to `end_at`, both included.

    Both are None where the WAL does not even reach the end of the base backup. `needed` is the WAL in its order.
    """

    label: str
    timeline: int
    start_at: datetime | None
    end_at: datetime | None
    end_lsn: int
    gaps: tuple[WalGap, ...]
    needed: tuple[WalObject, ...]
    switches: tuple[TimelineSwitch, ...] = ()


class Latest(Enum):
    """The wish to restore all there is: said, never assumed."""

    LATEST = "latest"


RestoreTo = datetime | Latest


class Consistent(Enum):
    """The wish to restore a base backup alone, to where it is consistent."""

    CONSISTENT = "consistent"


@dataclass(frozen=True, slots=True)
class SlotState:
    """How far archiving is. `received_lsn` is what the receiver at work has on its disk, 0 where none has said so yet.

    `retained_bytes` is WAL that the server keeps for the slot; None for the limit is none.
    """

    is_active: bool
    received_lsn: int
    current_lsn: int
    retained_bytes: int
    limit_bytes: int | None
    wal_status: str
    observed_at: datetime

    @property
    def is_lost(self) -> bool:
        """Tell whether the server gave up WAL that the slot was to keep."""
        return self.wal_status == "lost"


@dataclass(frozen=True, slots=True)
class RestoredDatabase:
    """A restored server that answers at `url`, for as long as whoever started it keeps it."""

    run_id: str
    url: str
    folder: Path
    replayed_lsn: int
    last_commit_at: datetime | None
    unpack_seconds: float
    replay_seconds: float


# --- Filestore ---------------------------------------------------------------------------------------------------
# A file's name is Odoo's `ir_attachment.store_fname`: `xx/sha1`, the SHA-1 of the content behind its first two digits.


class FileState(StrEnum):
    READ = "read"
    LARGE = "large"
    """Too large to hand over whole: take `FilestoreSource.stream`."""
    GONE = "gone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as the source has it. `size` is in bytes; `content` is empty unless `state` is `READ`."""

    name: str
    state: FileState
    size: int = 0
    content: bytes = b""


class FilestoreSource(Protocol):
    """A filestore in use: it grows, and loses files to Odoo's garbage collection, while it is read."""

    def observe_names(self) -> Iterator[str]:
        """Yield the names of all files, sorted. What is not in Odoo's layout is left out."""

    def observe_files(self, names: Collection[str]) -> Iterator[SourceFile]:
        """Yield each of the files, in any order."""

    def stream(self, name: str) -> Iterator[bytes] | None:
        """Return a large file in parts, or None where it is gone. Raises `Permanent` where it cannot be read."""


class FindingKind(StrEnum):
    MISSING = "missing"
    LOST = "lost"
    """It was not among the attachments when they were copied, or not whole: no fault of the copy."""
    TRUNCATED = "truncated"
    CHANGED = "changed"
    SWAPPED = "swapped"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, order=True)
class FilestoreFinding:
    """One thing that is not as it was written: `subject` is a file's name or an object's key."""

    subject: str
    kind: FindingKind
    sentence: str


@dataclass(frozen=True, slots=True)
class FilestorePoint:
    """The filestore's part of a recovery point, for the catalogue to keep.

    `sha256` is the manifest's: it alone tells the manifest that was written from another put in its place.
    """

    name: str
    key: str
    size: int
    sha256: str
    taken_at: datetime
    file_count: int
    byte_count: int


@dataclass(frozen=True, slots=True)
class FilestoreCopied:
    """What a copy did. `vanished` were there when it began and gone when they were to be read."""

    point: FilestorePoint
    copied_count: int = 0
    copied_bytes: int = 0
    stored_bytes: int = 0
    """What the new packs take in the store."""
    kept_count: int = 0
    vanished: tuple[str, ...] = ()
    wrong: tuple[FilestoreFinding, ...] = ()
    """Files whose content is not what their name says, or that cannot be read. The point does not hold them."""
    unreadable: tuple[FilestoreFinding, ...] = ()
    """Manifests of earlier points that could not be built upon."""


@dataclass(frozen=True, slots=True)
class FilestoreRead:
    """What a restore or a check of contents found. `file_count` files had the content their name says."""

    file_count: int
    byte_count: int
    findings: tuple[FilestoreFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class FilestoreOrphan:
    """An object of this environment that no point names. `is_due` once its grace is over."""

    key: str
    size: int
    stored_at: datetime
    is_due: bool


class FilestoreArchive(Protocol):
    """The copies of one environment's filestore, in one object store."""

    def ensure_copy(
        self,
        *,
        point: str,
        source: FilestoreSource,
        at: datetime,
        distrusted: Collection[str] = (),
    ) -> FilestoreCopied:
        """Copy what the archive lacks, then write the point's manifest. A point that exists is returned as it is.

        What the source no more has and had when one of the two points before was taken is held as well: the database
        named it until some moment since. `distrusted` are the keys of packs that verification found damaged, whose
        files are copied anew.
        """

    def observe_damage(self, point: FilestorePoint) -> tuple[FilestoreFinding, ...]:
        """Verify to L1: the manifest and every pack are there with their digests. It needs no private key."""

    def observe_keys(self, point: FilestorePoint) -> tuple[str, ...]:
        """Return the keys of all objects that a point needs."""

    def observe_contents(
        self, point: FilestorePoint, *, identity: str, named: Collection[str] | None = None
    ) -> FilestoreRead:
        """Verify to L3: read every file (or every one the database names) and compare its SHA-1. Writes nothing."""

    def ensure_restored(
        self, point: FilestorePoint, *, target: Path, identity: str, named: Collection[str] | None = None
    ) -> FilestoreRead:
        """Restore all files, or those named, into an empty folder; a restore that was killed is gone on with."""

    def ensure_removed(self, point: FilestorePoint) -> None:
        """Remove a point: its manifest goes, and the packs it alone named become orphans."""

    def observe_orphans(self, *, at: datetime, grace: timedelta) -> Iterable[FilestoreOrphan]:
        """Return what no manifest names. Raises `Permanent` where a manifest cannot be read."""

    def ensure_pruned(self, *, at: datetime, grace: timedelta) -> Iterable[FilestoreOrphan]:
        """Remove the orphans that are due, and return them."""


# --- CloudNativePG -----------------------------------------------------------------------------------------------
# What its operator says of a database cluster in Kubernetes. A field that it did not write is None or empty.


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
    """What of its definition its pods need to begin, in the operator's words."""
    timeline: int | None = None
    system_identifier: str = ""
    findings: tuple[str, ...] = ()
    """What is wrong with its backups, a sentence each; empty where nothing is."""
    ready_instances: int = 0
    """How many of its instances answer. The operator writes no number where none does."""

    @property
    def is_up(self) -> bool:
        """Tell whether any instance answers, as one does while others are replaced.

        `archiving` is what the instance that archives said last: with none up it stays as it was, and means nothing.
        """
        return self.ready_instances > 0

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
    """What its pods need to begin, as those of what it comes from."""


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


# --- Odoo --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class OdooModule:
    """A module as a database knows it. `state` is Odoo's word: `installed`, `uninstalled`, `to upgrade` and so on."""

    name: str
    version: str
    state: str

    @property
    def is_installed(self) -> bool:
        return self.state in ("installed", "to upgrade", "to remove")

    @property
    def is_left_over(self) -> bool:
        """Say whether a module was to be installed, upgraded or removed, and was not."""
        return self.state.startswith("to ")


@dataclass(frozen=True, slots=True)
class OdooFacts:
    """What an Odoo database says of itself. `version` is that of `base`; times are of the newest row there is.

    `uuid_sha256` tells a copy that kept its source's identity from one that has its own, without keeping it.
    """

    version: str
    modules: tuple[OdooModule, ...]
    newest_sale_order_at: datetime | None
    newest_pos_order_at: datetime | None
    uuid_sha256: str

    @property
    def installed(self) -> tuple[tuple[str, str], ...]:
        """Return name and version of every installed module, as a recovery point keeps them."""
        return tuple((module.name, module.version) for module in self.modules if module.is_installed)


@dataclass(frozen=True, slots=True, order=True)
class OdooAttachment:
    """A file that a database names: `name` is `xx/sha1`, `sha1` what it says of the content, `size` in bytes."""

    name: str
    sha1: str
    size: int


class NeutralisedBy(StrEnum):
    """What made a copy harmless: Odoo's own command and then our SQL, or our SQL alone."""

    ODOO = "odoo"
    SQL = "sql"


@dataclass(frozen=True, slots=True, order=True)
class NeutralisationFinding:
    """Something in a copy that could still reach the world outside. `subject` is a table; no value is ever repeated."""

    subject: str
    sentence: str


@dataclass(frozen=True, slots=True)
class OdooCheck:
    """One check of a copy that was booted (level 4)."""

    name: str
    level: int
    is_passed: bool
    sentence: str
