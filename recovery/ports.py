"""What recovery asks of machines elsewhere. Protocols and frozen data, no client.

Adapters (`recovery/adapters/`) answer these protocols and raise only `Transient` and `Permanent`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Protocol

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

    Every time from `finished_at` on (the server's clock) can be restored, as far as the WAL goes.
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


@dataclass(frozen=True, slots=True)
class SlotState:
    """How far archiving is. `retained_bytes` is WAL that the server keeps for the slot; None for the limit is none."""

    is_active: bool
    flushed_lsn: int
    current_lsn: int
    retained_bytes: int
    limit_bytes: int | None
    wal_status: str
    observed_at: datetime


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
    missing: tuple[FilestoreFinding, ...] = ()
    """Files the database names and the point does not hold."""
    unreadable: tuple[FilestoreFinding, ...] = ()
    """Manifests of earlier points that could not be built upon."""

    @property
    def is_whole(self) -> bool:
        """Say whether the point holds all that it must. A file that only vanished is no fault."""
        return not self.missing and not self.wrong


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
        named: Collection[str] | None = None,
        distrusted: Collection[str] = (),
    ) -> FilestoreCopied:
        """Copy what the archive lacks, then write the point's manifest. A point that exists is returned as it is.

        `named` are the names the database of the same point holds, where they are known; `distrusted` the keys of
        packs that verification found damaged, whose files are copied anew.
        """

    def observe_damage(self, point: FilestorePoint) -> tuple[FilestoreFinding, ...]:
        """Verify to L1: the manifest and every pack are there with their digests. It needs no private key."""

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
