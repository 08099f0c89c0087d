"""What recovery asks of machines elsewhere. Protocols and frozen data, no client.

Adapters (`recovery/adapters/`) answer these protocols and raise only `Transient` and `Permanent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path

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
