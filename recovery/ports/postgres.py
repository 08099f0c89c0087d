"""What recovery asks of PostgreSQL: base backups, dumps, WAL and the times that they cover.

A position in the WAL is an int, as PostgreSQL counts bytes; `format_lsn` writes it as people know it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

WAL_FOLDER = re.compile(r"/wal/\d{1,20}\.([1-9a-f][0-9a-f]{0,7})/")


def format_lsn(position: int) -> str:
    """Write a WAL position as PostgreSQL does, such as `0/3000028`."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """Read a WAL position as PostgreSQL writes it."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def segment_bytes_of(key: str) -> int:
    """Return how large a segment of WAL is by the name of an object of it; 1 where the name is none of ours."""
    found = WAL_FOLDER.search(key)
    return int(found[1], 16) if found else 1


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
    left_out: tuple[str, ...] = ()
    """In words, what of a dump nobody but a superuser could have made."""
