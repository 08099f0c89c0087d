"""A recovery point is one set (BCK-2): database with its WAL position, filestore, Git commit, image, modules.

A set is judged by what its parts say of themselves; each one that does not belong is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from recovery.rules.times import moment


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose a part is, and of which set, as the part itself says."""

    environment: str
    point: str


@dataclass(frozen=True, slots=True)
class DatabasePart:
    origin: Origin
    system_identifier: str
    timeline: int
    start_lsn: int
    stop_lsn: int
    consistent_at: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class WalPart:
    """The WAL that is to be replayed. `start_lsn` and `end_lsn` bound what is there without a hole."""

    environment: str
    system_identifier: str
    timeline: int
    start_lsn: int
    end_lsn: int


@dataclass(frozen=True, slots=True)
class FilestorePart:
    origin: Origin
    copied_at: datetime
    sha256: str


@dataclass(frozen=True, slots=True)
class RecoverySet:
    """Everything of one point. None and the empty string where a part is missing; `modules` by name, with version."""

    database: DatabasePart | None
    filestore: FilestorePart | None
    commit: str
    image: str
    modules: tuple[tuple[str, str], ...]
    wal: WalPart | None = None


@dataclass(frozen=True, slots=True)
class Mismatch:
    part: str
    sentence: str


def check_set(declared: RecoverySet, *, found: RecoverySet, origin: Origin) -> tuple[Mismatch, ...]:
    """Name every part found that is not the one declared for this point; an empty tuple where the set is one."""
    return (
        *_database(declared.database, found.database, origin),
        *_wal(found.database, found.wal, origin),
        *_filestore(declared.filestore, found.filestore, found.database, origin),
        *_named("Git commit", declared.commit, found.commit),
        *_named("image", declared.image, found.image),
        *_modules(dict(declared.modules), dict(found.modules)),
    )


def _database(declared: DatabasePart | None, found: DatabasePart | None, origin: Origin) -> Iterator[Mismatch]:
    name = "database"
    if found is None or declared is None:
        yield Mismatch(name, "The database backup is missing.")
        return
    yield from _origin(name, found.origin, origin)
    if found.sha256 != declared.sha256:
        yield Mismatch(name, "The database backup is not the one that was recorded: its hash differs.")
    if found.system_identifier != declared.system_identifier:
        yield Mismatch(
            name, f"The database is of server {found.system_identifier}, not of {declared.system_identifier}."
        )
    if (found.timeline, found.start_lsn, found.stop_lsn) != (
        declared.timeline,
        declared.start_lsn,
        declared.stop_lsn,
    ):
        yield Mismatch(name, "The database backup is of another WAL position than was recorded.")


def _wal(database: DatabasePart | None, wal: WalPart | None, origin: Origin) -> Iterator[Mismatch]:
    if wal is None or database is None:
        return
    if wal.environment != origin.environment:
        yield Mismatch("WAL", f"The WAL is of {wal.environment}, not of {origin.environment}.")
    if wal.system_identifier != database.system_identifier:
        yield Mismatch("WAL", f"The WAL is of server {wal.system_identifier}, not of {database.system_identifier}.")
    elif wal.timeline < database.timeline:
        yield Mismatch("WAL", f"The WAL is of timeline {wal.timeline}, older than the backup's {database.timeline}.")
    elif not wal.start_lsn <= database.start_lsn <= database.stop_lsn <= wal.end_lsn:
        yield Mismatch("WAL", "The WAL does not reach from the start of the database backup to its end.")


def _filestore(
    declared: FilestorePart | None, found: FilestorePart | None, database: DatabasePart | None, origin: Origin
) -> Iterator[Mismatch]:
    name = "filestore"
    if declared is None and found is None:
        return
    if found is None or declared is None:
        yield Mismatch(name, "The filestore's manifest is missing." if found is None else "No filestore was recorded.")
        return
    yield from _origin(name, found.origin, origin)
    if found.sha256 != declared.sha256:
        yield Mismatch(name, "The filestore's manifest is not the one that was recorded: its hash differs.")
    if database is not None and found.copied_at < database.consistent_at:
        yield Mismatch(
            name,
            f"The filestore was copied at {moment(found.copied_at)}, before the database's snapshot of "
            f"{moment(database.consistent_at)}: attachments may be missing.",
        )


def _origin(name: str, found: Origin, expected: Origin) -> Iterator[Mismatch]:
    if found.environment != expected.environment:
        yield Mismatch(name, f"The {name} is of {found.environment}, not of {expected.environment}.")
    elif found.point != expected.point:
        yield Mismatch(name, f"The {name} is of point {found.point}, not of {expected.point}.")


def _named(name: str, declared: str, found: str) -> Iterator[Mismatch]:
    if declared != found:
        yield Mismatch(name, f"The {name} is {found or 'not known'}, and the point was made with {declared or 'none'}.")


def _modules(declared: dict[str, str], found: dict[str, str]) -> Iterator[Mismatch]:
    name = "modules"
    if missing := sorted(declared.keys() - found.keys()):
        yield Mismatch(name, f"These modules are missing: {', '.join(missing)}.")
    if extra := sorted(found.keys() - declared.keys()):
        yield Mismatch(name, f"These modules were not there: {', '.join(extra)}.")
    for one in sorted(declared.keys() & found.keys()):
        if declared[one] != found[one]:
            yield Mismatch(name, f"Module {one} is at {found[one]}, and was at {declared[one]}.")
