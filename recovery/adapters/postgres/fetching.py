"""Copies fetched from the store: unpacked and decrypted as they come, and held against their manifest."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from changecontrol.errors import Hindered, Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.incremental import FaultIn, chain_of
from recovery.adapters.postgres.packing import READ_BYTES, UnpackingReader, read_ahead
from recovery.adapters.postgres.programs import Programs, feed_program, find_programs, plain_environment, run_program
from recovery.adapters.postgres.sandbox import Sandbox, written_to
from recovery.adapters.postgres.wal import (
    check_covered,
    coverage_of,
    needed_until,
    open_history,
    open_wal,
    segment_name,
)
from recovery.adapters.streams import StreamReader
from recovery.ports.postgres import BaseBackup, Coverage, RestoreTo, WalArchive, WalObject

FETCHED_AT_ONCE = 3
SPARE_BYTES = 256 * 1024 * 1024
VERIFY_SECONDS = 6 * 3600.0
LARGE_READS = ("--read-full-records", "--blocking-factor=1024")
"""What has `tar` ask for half a MiB at a time; else it is 10 KiB."""


def fetch_copy(
    *,
    store: ObjectStore,
    base: BaseBackup,
    archive: WalArchive,
    at: RestoreTo,
    identities: Sequence[str],
    sandbox: Sandbox,
    programs: Programs | None = None,
    most_bytes: int | None = None,
    chain: Sequence[BaseBackup] | None = None,
) -> Coverage:
    """Put a base backup and the WAL that leads to a time into a sandbox, every byte checked on the way.

    An incremental one is put together with those it builds upon, each held against its own manifest before.

    `chain` is the backup after all that it builds upon, where that is known otherwise than from the store.
    `most_bytes` is what it may take of the disk. Raises `Hindered` where it needs more, or more than is free.
    Raises `Permanent` with the last safe time before anything is fetched where the time is not covered, and with what
    is missing or changed where the copy does not hold what it should: `FaultInWal` in WAL, `FaultIn` in one of a chain.
    """
    coverage = coverage_of(base, archive=archive)
    check_covered(coverage, at=at)
    needed = list(needed_until(coverage, at=at, base=base))
    chain = chain or chain_of(store, base)
    wanted = _wanted_bytes(chain=chain, needed=needed, segment_bytes=archive.segment_bytes)
    check_space(sandbox, wanted=wanted, most_bytes=most_bytes)
    wal = _WalFetch(store=store, archive=archive, identities=identities, sandbox=sandbox)
    with written_to(sandbox), ThreadPoolExecutor(max_workers=1, thread_name_prefix="wal") as beside:
        fetched = beside.submit(wal.fetch, needed)
        try:
            if len(chain) == 1:
                _fetch_member(store, base=base, identities=identities, sandbox=sandbox, folder=sandbox.data)
            else:
                _combine(
                    store,
                    chain=chain,
                    identities=identities,
                    sandbox=sandbox,
                    programs=programs or find_programs(major=base.server_major),
                )
            for switch in coverage.switches:
                content = open_history(store, switch, identities=identities)
                _write(sandbox, name=f"{switch.timeline:08X}.history", content=content)
            fetched.result()
        except BaseException:
            wal.is_given_up.set()
            raise
    return coverage


def verify_copy(sandbox: Sandbox, *, programs: Programs) -> None:
    """Hold a fetched copy against its manifest and its WAL against the checksums of its records (level 1).

    Raises `Permanent` naming what differs.
    """
    run_program(
        [programs.path("pg_verifybackup"), "--quiet", f"--wal-directory={sandbox.wal}", sandbox.data],
        environment=plain_environment(),
        account=sandbox.account,
        seconds=VERIFY_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class _WalFetch:
    """WAL being fetched beside the base backup, until it is there or given up."""

    store: ObjectStore
    archive: WalArchive
    identities: Sequence[str]
    sandbox: Sandbox
    is_given_up: Event = field(default_factory=Event)

    def fetch(self, needed: Sequence[WalObject]) -> None:
        with ThreadPoolExecutor(max_workers=FETCHED_AT_ONCE) as pool:
            for start in range(0, len(needed), FETCHED_AT_ONCE):
                if self.is_given_up.is_set():
                    return
                some = needed[start : start + FETCHED_AT_ONCE]
                for one, content in zip(some, pool.map(self._open, some), strict=True):
                    _write_wal(self.sandbox, one=one, content=content, segment_bytes=self.archive.segment_bytes)

    def _open(self, one: WalObject) -> bytes:
        return open_wal(self.store, one, archive=self.archive, identities=self.identities)


def _fetch_member(
    store: ObjectStore, *, base: BaseBackup, identities: Sequence[str], sandbox: Sandbox, folder: Path
) -> None:
    _unpack(store, base=base, identities=identities, sandbox=sandbox, folder=folder)
    _write_manifest(store, base=base, identities=identities, sandbox=sandbox, folder=folder)


def _combine(
    store: ObjectStore,
    *,
    chain: Sequence[BaseBackup],
    identities: Sequence[str],
    sandbox: Sandbox,
    programs: Programs,
) -> None:
    """Put a chain together. What holds its members goes again."""
    parts = sandbox.folder / "chain"
    try:
        folders = [parts / f"{number:02d}" for number in range(len(chain))]
        for folder, member in zip(folders, chain, strict=True):
            for made in (parts, folder):
                made.mkdir(mode=0o700, exist_ok=True)
                sandbox.give(made)
            try:
                _fetch_member(store, base=member, identities=identities, sandbox=sandbox, folder=folder)
                _verify_member(folder, label=member.label, sandbox=sandbox, programs=programs)
            except Permanent as fault:
                raise FaultIn(member.label, fault.reason) from None
        run_program(
            # The server writes everything to disk before it starts, so this need not.
            [programs.path("pg_combinebackup"), "--no-sync", f"--output={sandbox.data}", *folders],
            environment=plain_environment(),
            account=sandbox.account,
            seconds=VERIFY_SECONDS,
        )
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _verify_member(folder: Path, *, label: str, sandbox: Sandbox, programs: Programs) -> None:
    try:
        run_program(
            [programs.path("pg_verifybackup"), "--quiet", "--no-parse-wal", folder],
            environment=plain_environment(),
            account=sandbox.account,
            seconds=VERIFY_SECONDS,
        )
    except Permanent as error:
        raise Permanent(f"The base backup {label} is not what its manifest says. {error.reason}") from None


def _wanted_bytes(*, chain: Sequence[BaseBackup], needed: Sequence[WalObject], segment_bytes: int) -> int:
    segments = {one.start // segment_bytes for one in needed}
    content = sum(member.content_bytes for member in chain)
    # What a chain is put together to takes as much as its members at most, beside them.
    copies = 1 if len(chain) == 1 else 2
    # Replaying recycles what it has read, at most as much again.
    return copies * content + 2 * len(segments) * segment_bytes + SPARE_BYTES


def check_space(sandbox: Sandbox, *, wanted: int, most_bytes: int | None) -> None:
    """Raise `Hindered` where a sandbox has less room than is wanted, or may take less."""
    if most_bytes is not None and wanted > most_bytes:
        raise Hindered(f"The restore needs {wanted / 1e9:.1f} GB of disk and may take {most_bytes / 1e9:.1f} GB.")
    free = shutil.disk_usage(sandbox.folder).free
    if free < wanted:
        raise Hindered(
            f"The restore needs {wanted / 1e9:.1f} GB and the disk below {sandbox.folder} has {free / 1e9:.1f} GB free."
        )


def unplain_in(folder: Path) -> Path | None:
    """Return something in a folder that is neither a folder nor a file with no other name; None where all is plain.

    Whoever reads or writes there is elsewhere through a link. Raises `OSError` for what cannot be looked at.
    """

    def refuse(error: OSError) -> None:
        raise error

    for within, folders, files in os.walk(folder, onerror=refuse):
        for path in (Path(within, name) for name in (*folders, *files)):
            found = path.lstat()
            if not (stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)):
                return path
    return None


def has_tablespaces(data: Path) -> bool:
    """Tell whether a server would make links from here to where the source has its own, and replay over them."""
    places = data / "tablespace_map"
    return places.exists() and places.stat().st_size > 0


def _unpack(store: ObjectStore, *, base: BaseBackup, identities: Sequence[str], sandbox: Sandbox, folder: Path) -> None:
    with StreamReader(store, base.key, sha256=base.sha256) as stored:
        content = UnpackingReader(stored, identities=identities)
        with closing(read_ahead(content.read)) as parts:
            size = feed_program(
                ["tar", "--extract", "--file=-", *LARGE_READS, f"--directory={folder}", "--no-same-owner"],
                content=parts,
                environment=plain_environment(),
                account=sandbox.account,
                name="Unpacking the base backup",
            )
    if size != base.content_bytes:
        raise Permanent(f"The base backup holds {size:,} bytes and should hold {base.content_bytes:,}.")
    _check_plain(folder, label=base.label)


def _check_plain(folder: Path, *, label: str) -> None:
    """Raise `Permanent` for what no backup of ours has, before anything of it is read or written.

    We would follow a link as whoever we are and not as the server, and `pg_verifybackup` passes over some places.
    """
    if path := unplain_in(folder):
        raise Permanent(f"The base backup {label} holds what is no plain file ({path.relative_to(folder)}).")
    if has_tablespaces(folder):
        raise Permanent(f"The base backup {label} is of a server with tablespaces, of which none is taken here.")


def _write_manifest(
    store: ObjectStore, *, base: BaseBackup, identities: Sequence[str], sandbox: Sandbox, folder: Path
) -> None:
    """Take the manifest that is kept apart, so that the copy is not held against its own word."""
    with (
        StreamReader(store, base.manifest_key, sha256=base.manifest_sha256) as stored,
        sandbox.writing(folder / "backup_manifest") as file,
    ):
        content = UnpackingReader(stored, identities=identities)
        while data := content.read(READ_BYTES):
            file.write(data)


def _write(sandbox: Sandbox, *, name: str, content: bytes) -> None:
    with sandbox.writing(sandbox.wal / name) as file:
        file.write(content)


def _write_wal(sandbox: Sandbox, *, one: WalObject, content: bytes, segment_bytes: int) -> None:
    target = sandbox.wal / segment_name(timeline=one.timeline, start=one.start, segment_bytes=segment_bytes)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.pwrite(descriptor, content, one.start % segment_bytes)
        # PostgreSQL takes whole segments alone; behind the last record there is nothing.
        os.ftruncate(descriptor, segment_bytes)
    finally:
        os.close(descriptor)
    sandbox.give(target)
