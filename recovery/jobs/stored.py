"""The database of a point as it lies in the store, whatever took it: verified there, and brought back in a sandbox."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from changecontrol.errors import Hindered, Permanent
from changecontrol.rules.counting import counted
from changecontrol.workflows.jobs import most_disk
from recovery.adapters.postgres.base import observe_base_backup
from recovery.adapters.postgres.dumping import observe_dump, verify_dump
from recovery.adapters.postgres.fetching import fetch_copy, verify_copy
from recovery.adapters.postgres.foreign import RegisteredFile, start_file, verify_file
from recovery.adapters.postgres.programs import Programs
from recovery.adapters.postgres.restoring import Restored, start_copy
from recovery.adapters.postgres.sandbox import Sandbox
from recovery.adapters.postgres.scratch import start_dump
from recovery.adapters.postgres.verifying import verify_stored
from recovery.adapters.postgres.wal import observe_archive
from recovery.jobs.chains import recorded_chain, streams_of
from recovery.jobs.copies import Bench
from recovery.jobs.observing import SteadyStore
from recovery.models.backup import BackupKind
from recovery.models.point import PartKind, PointPart
from recovery.models.policy import Engine
from recovery.ports.postgres import BaseBackup, Coverage, DatabaseDump, WalArchive
from recovery.rules.consistency import DatabasePart, Origin

ROLE = "postgres"
"""Who the server is made with on which a dump is restored, and most that another tool backs up."""


@dataclass
class StoredBase:
    """A base backup and the WAL that leads on from it. `chain` is it after all that it builds upon, as recorded."""

    bench: Bench
    base: BaseBackup
    chain: tuple[BaseBackup, ...]
    archive: WalArchive
    programs: Programs
    _coverage: Coverage | None = field(default=None, init=False)

    @property
    def server_version(self) -> str:
        return self.base.server_version

    def verify(self) -> str:
        """Read every object where it lies, and say what was found. Raises `Permanent` naming what is wrong."""
        coverage = verify_stored(
            store=self.bench.store, base=self.base, archive=self.archive, identities=self.bench.identities
        )
        return f"Every part has its digest, and {len(coverage.needed)} objects of WAL follow without a hole."

    def fetch(self, sandbox: Sandbox, *, at: datetime) -> None:
        """Put the copy that leads to a time into a sandbox, and hold it against its manifest."""
        self._coverage = fetch_copy(
            store=self.bench.store,
            base=self.base,
            chain=self.chain,
            archive=self.archive,
            at=at,
            identities=self.bench.identities,
            sandbox=sandbox,
            programs=self.programs,
            most_bytes=most_disk(),
        )
        self.bench.saying.say("Holding the copy against its manifest.")
        verify_copy(sandbox, programs=self.programs)

    def start(self, sandbox: Sandbox, *, at: datetime, database: str = "") -> Restored:
        """Bring the server back to a time; what was fetched before is not fetched again. `database` is one it has."""
        if self._coverage is None:
            self.fetch(sandbox, at=at)
        assert self._coverage is not None
        self.bench.saying.say("Replaying WAL up to the time.")
        base = self.base
        return start_copy(
            sandbox,
            programs=self.programs,
            base=base,
            coverage=self._coverage,
            at=at,
            role=base.superuser,
            database=database,
        )

    def part(self, origin: Origin, *, sha256: str) -> DatabasePart:
        """Return what the backup says that it is."""
        base = self.base
        return DatabasePart(
            origin, base.system_identifier, base.timeline, base.start_lsn, base.stop_lsn, base.finished_at, sha256
        )


@dataclass
class StoredDump:
    """A dump of the environment's one database: it has no WAL and no manifest, and leads to its own moment alone."""

    bench: Bench
    dump: DatabaseDump
    programs: Programs

    @property
    def server_version(self) -> str:
        return self.dump.server_version

    def verify(self) -> str:
        """Read the dump to its end, and say what was found. Raises `Permanent` naming what is wrong."""
        verify_dump(store=self.bench.store, dump=self.dump, identities=self.bench.identities, programs=self.programs)
        return (
            "Every part has its digest, and pg_restore reads the dump to its end; there is no WAL to have a hole, and "
            "no manifest to be held against."
        )

    def start(self, sandbox: Sandbox, *, at: datetime, database: str = "") -> Restored:
        """Bring the database back on a server that is made for it. `at` is the dump's own moment."""
        if at != self.dump.started_at:
            raise Permanent("A dump is brought back to its own moment alone.")
        self.bench.saying.say("Restoring the dump on a server of its own.")
        return start_dump(
            sandbox,
            store=self.bench.store,
            dump=self.dump,
            identities=self.bench.identities,
            programs=self.programs,
            role=ROLE,
            most_bytes=most_disk(),
        )

    def part(self, origin: Origin, *, sha256: str) -> DatabasePart:
        """Return what the dump says that it is."""
        return DatabasePart(origin, "", 0, 0, 0, self.dump.started_at, sha256)


@dataclass
class StoredElsewise:
    """The database of a point that another tool made, as it was registered: it leads to its own moment alone.

    An object has one digest, which is known at its end, and programs run what they are given as it comes. So each is
    read to its end before any of it is used, and used as it was read.
    """

    bench: Bench
    programs: Programs
    _store: SteadyStore = field(init=False)
    _verified: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._store = SteadyStore(self.bench.store)

    @property
    def server_version(self) -> str:
        return self.bench.point.server_version

    def verify(self) -> str:
        """Read every file that was registered, its evidence too. Raises `Permanent` naming what is wrong."""
        parts = list(self.bench.point.parts.all())
        for one in parts:
            self._verify(self._file(one))
        return f"{counted(len(parts), 'file')} of another tool, each with the digest it was registered with."

    def start(self, sandbox: Sandbox, *, at: datetime, database: str = "") -> Restored:
        """Bring the database back as it was registered. `database` is one that the server has."""
        point, files = self.bench.point, {one.kind: self._file(one) for one in self.bench.point.parts.all()}
        if at != point.consistent_at:
            raise Permanent("A point that another tool made is brought back to its own moment alone.")
        file, manifest = files[PartKind.DATABASE], files.get(PartKind.DATABASE_MANIFEST)
        for one in filter(None, (file, manifest)):
            self._verify(one)
        self.bench.saying.say("Bringing back what another tool wrote.")
        return start_file(
            sandbox,
            store=self._store,
            file=file,
            manifest=manifest,
            identities=self.bench.identities,
            programs=self.programs,
            role=ROLE,
            database=database,
            most_bytes=most_disk(),
        )

    def _verify(self, file: RegisteredFile) -> None:
        if file.key in self._verified:
            return
        self.bench.saying.say(f"Reading {file.key}.", total_bytes=file.size)
        verify_file(self._store, file)
        self._verified.add(file.key)

    def _file(self, part: PointPart) -> RegisteredFile:
        return RegisteredFile(f"{self.bench.prefix}/{part.key}", part.size, part.sha256)


Stored = StoredBase | StoredDump | StoredElsewise


def stored_of(bench: Bench) -> Stored:
    """Find the database of a point in the store. Raises `Permanent` where it is not the one that was recorded."""
    if bench.policy.engine == Engine.EXTERNAL:
        return _registered_of(bench)
    return _dump_of(bench) if bench.point.kind == BackupKind.DUMP else _base_of(bench)


def _registered_of(bench: Bench) -> StoredElsewise:
    """Raises `Hindered` where what was registered does not say enough to be tried: that is no fault of the backup."""
    point = bench.point
    if point.kind == BackupKind.INCREMENTAL:
        raise Hindered("An increment of another tool is put together by that tool alone: register a full one.")
    if len(point.parts.filter(kind=PartKind.DATABASE)) != 1:
        raise Hindered("A point of another tool is tried where it has one file of the kind database.")
    major = re.search(r"\d+", point.server_version)
    if major is None:
        raise Hindered("The point does not say of which PostgreSQL it is: register it with its server_version.")
    return StoredElsewise(bench, bench.programs(major=int(major[0])))


def _base_of(bench: Bench) -> StoredBase:
    base = observe_base_backup(bench.store, prefix=bench.prefix, label=bench.point.key)
    bench.check_recorded(streams_of(base), name="base backup")
    if base.system_identifier != bench.point.system_identifier:
        raise Permanent(f"The base backup {base.label} is of another server than was recorded.")
    chain = recorded_chain(bench.store, base, parent=bench.point.parent)
    archive = observe_archive(
        bench.store,
        prefix=bench.prefix,
        system_identifier=base.system_identifier,
        segment_bytes=base.segment_bytes,
    )
    return StoredBase(bench, base, chain, archive, bench.programs(major=base.server_major))


def _dump_of(bench: Bench) -> StoredDump:
    dump = observe_dump(bench.store, prefix=bench.prefix, label=bench.point.key)
    bench.check_recorded({PartKind.DATABASE: (dump.key, dump.sha256)}, name="dump")
    if dump.started_at != bench.point.consistent_at:
        raise Permanent(f"The dump {dump.label} is of another moment than was recorded.")
    return StoredDump(bench, dump, bench.programs(major=dump.server_major))
