"""What recovery asks of a filestore and of its archive.

A file's name is Odoo's `ir_attachment.store_fname`: `xx/sha1`, the SHA-1 of the content behind its first two digits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol


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

    def observe_point(self, name: str) -> FilestorePoint | None:
        """Return what the list of a point tells of it, or None. Raises `Permanent` where it is not one of ours."""

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
