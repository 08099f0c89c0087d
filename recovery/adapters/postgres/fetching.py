"""Copies fetched from the store: unpacked and decrypted as they come, and held against their manifest."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from changecontrol.project.local.processes import run_as, stop_child
from recovery.adapters.postgres.packing import READ_BYTES, UnpackingReader
from recovery.adapters.postgres.programs import Programs, plain_environment, run_program
from recovery.adapters.postgres.sandbox import Sandbox
from recovery.adapters.postgres.wal import (
    check_covered,
    coverage_of,
    needed_until,
    open_history,
    open_wal,
    segment_name,
)
from recovery.adapters.streams import StreamReader
from recovery.ports import BaseBackup, Coverage, RestoreTo, WalArchive, WalObject

FETCHED_AT_ONCE = 3
SPARE_BYTES = 256 * 1024 * 1024
VERIFY_SECONDS = 6 * 3600.0


def fetch_copy(
    *,
    store: ObjectStore,
    base: BaseBackup,
    archive: WalArchive,
    at: RestoreTo,
    identities: Sequence[str],
    sandbox: Sandbox,
) -> Coverage:
    """Put a base backup and the WAL that leads to a time into a sandbox, every byte checked on the way.

    Raises `Permanent` with the last safe time before anything is fetched where the time is not covered, and with what
    is missing or changed where the copy does not hold what it should.
    """
    coverage = coverage_of(base, archive=archive)
    check_covered(coverage, at=at)
    needed = list(needed_until(coverage, at=at, base=base))
    _check_space(sandbox, base=base, needed=needed, segment_bytes=archive.segment_bytes)
    _unpack(store, base=base, identities=identities, sandbox=sandbox)
    _write_manifest(store, base=base, identities=identities, sandbox=sandbox)
    for switch in coverage.switches:
        content = open_history(store, switch, identities=identities)
        _write(sandbox, name=f"{switch.timeline:08X}.history", content=content)
    with ThreadPoolExecutor(max_workers=FETCHED_AT_ONCE) as pool:
        for start in range(0, len(needed), FETCHED_AT_ONCE):
            some = needed[start : start + FETCHED_AT_ONCE]
            opened = pool.map(lambda one: open_wal(store, one, archive=archive, identities=identities), some)
            for one, content in zip(some, opened, strict=True):
                _write_wal(sandbox, one=one, content=content, segment_bytes=archive.segment_bytes)
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


def _check_space(sandbox: Sandbox, *, base: BaseBackup, needed: Sequence[WalObject], segment_bytes: int) -> None:
    segments = {one.start // segment_bytes for one in needed}
    # Replaying recycles what it has read, at most as much again.
    wanted = base.content_bytes + 2 * len(segments) * segment_bytes + SPARE_BYTES
    free = shutil.disk_usage(sandbox.folder).free
    if free < wanted:
        raise Permanent(
            f"The restore needs {wanted / 1e9:.1f} GB and the disk below {sandbox.folder} has {free / 1e9:.1f} GB free."
        )


def _unpack(store: ObjectStore, *, base: BaseBackup, identities: Sequence[str], sandbox: Sandbox) -> None:
    size = 0
    with StreamReader(store, base.key, sha256=base.sha256) as stored, tempfile.TemporaryFile() as said:
        content = UnpackingReader(stored, identities=identities)
        child = subprocess.Popen(  # noqa: S603
            ["tar", "--extract", "--file=-", f"--directory={sandbox.data}", "--no-same-owner"],  # noqa: S607
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=plain_environment(),
            **run_as(sandbox.account),
        )
        assert child.stdin is not None
        try:
            with suppress(BrokenPipeError), child.stdin as pipe:
                while data := content.read(READ_BYTES):
                    size += len(data)
                    pipe.write(data)
            has_failed = child.wait() != 0
        finally:
            stop_child(child, steps=())
        if has_failed:
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-300:]
            raise Permanent(f"The base backup could not be unpacked: {words}")
    if size != base.content_bytes:
        raise Permanent(f"The base backup holds {size:,} bytes and should hold {base.content_bytes:,}.")


def _write_manifest(store: ObjectStore, *, base: BaseBackup, identities: Sequence[str], sandbox: Sandbox) -> None:
    """Take the manifest that is kept apart, so that the copy is not held against its own word."""
    target = sandbox.data / "backup_manifest"
    target.unlink(missing_ok=True)
    with StreamReader(store, base.manifest_key, sha256=base.manifest_sha256) as stored, target.open("wb") as file:
        content = UnpackingReader(stored, identities=identities)
        while data := content.read(READ_BYTES):
            file.write(data)
    sandbox.give(target)


def _write(sandbox: Sandbox, *, name: str, content: bytes) -> None:
    (sandbox.wal / name).write_bytes(content)
    sandbox.give(sandbox.wal / name)


def _write_wal(sandbox: Sandbox, *, one: WalObject, content: bytes, segment_bytes: int) -> None:
    target = sandbox.wal / segment_name(timeline=one.timeline, start=one.start, segment_bytes=segment_bytes)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, content, one.start % segment_bytes)
        # PostgreSQL takes whole segments alone; behind the last record there is nothing.
        os.ftruncate(descriptor, segment_bytes)
    finally:
        os.close(descriptor)
    sandbox.give(target)
