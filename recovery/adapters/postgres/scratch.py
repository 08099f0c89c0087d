"""A dump brought back in a sandbox: a server is made there for it, behind a socket, archiving nothing.

It runs as the unprivileged user that every sandbox's server runs as, and is gone with the sandbox.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Sequence

from changecontrol.errors import Hindered, Permanent
from changecontrol.ports import ObjectStore
from changecontrol.processes import stop_child
from recovery.adapters.postgres.dumping import restore_dump
from recovery.adapters.postgres.fetching import check_space
from recovery.adapters.postgres.programs import Programs, plain_environment, run_program
from recovery.adapters.postgres.restoring import (
    FULL_BYTES,
    Restored,
    address_in,
    configure,
    is_up,
    not_started,
    spawn,
)
from recovery.adapters.postgres.sandbox import STOP_STEPS, Sandbox, written_to
from recovery.ports.postgres import DatabaseDump, RestoredDatabase

MAKE_SECONDS = 300.0
START_SECONDS = 120.0
SPARE_BYTES = 512 * 1024 * 1024
"""What the server needs beside the database: its own catalogue, and WAL up to twice what `SETTINGS` says."""
SETTINGS = {
    # Nobody keeps what is in a sandbox: a power cut ends it, and it is begun anew.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "128MB",
    "max_locks_per_transaction": "256",
}
Fill = Callable[[str], tuple[str, ...]]
"""Restores into a server by its superuser's address, and returns in words what it left out."""
NOT_OF_THE_DUMP = re.compile(
    r"invalid LC_|is not available|could not open extension control file|could not access file|"
    r'role ".*" does not exist'
)
"""What this machine lacks: a locale, an extension, a library, a role. It proves nothing about a dump."""


def start_dump(
    sandbox: Sandbox,
    *,
    store: ObjectStore,
    dump: DatabaseDump,
    identities: Sequence[str],
    programs: Programs,
    role: str,
    most_bytes: int | None = None,
) -> Restored:
    """Make a server in an empty sandbox, restore a dump into it, and return it as a superuser of this name sees it.

    `most_bytes` is what it may take of the disk. Start from the main thread: the server ends with it. Raises
    `Permanent` naming what of the dump is missing or changed, and `Hindered` where this machine lacks what the database
    needs.
    """
    return start_scratch(
        sandbox,
        programs=programs,
        role=role,
        wanted=dump.database_bytes + SPARE_BYTES,
        most_bytes=most_bytes,
        fill=lambda url: _restore(store=store, dump=dump, identities=identities, programs=programs, url=url),
    )


def start_scratch(
    sandbox: Sandbox,
    *,
    programs: Programs,
    role: str,
    wanted: int,
    most_bytes: int | None,
    fill: Fill,
) -> Restored:
    """Make a server in an empty sandbox, let `fill` restore into it by its address, and return it.

    `wanted` is what it takes of the disk, `most_bytes` what it may. What fails for what this machine lacks is
    `Hindered`.
    """
    check_space(sandbox, wanted=wanted, most_bytes=most_bytes)
    began = time.monotonic()
    with written_to(sandbox):
        _make_server(sandbox, programs=programs, role=role)
        configure(sandbox, settings=SETTINGS)
        child = spawn(sandbox, programs=programs)
    try:
        if not is_up(sandbox, child=child, seconds=START_SECONDS):
            raise Hindered(not_started(sandbox).reason)
        url = address_in(sandbox, database="postgres", role=role)
        unpacking_at = time.monotonic()
        left_out = _filled(sandbox, fill=fill, url=url)
    except BaseException:
        stop_child(child, steps=STOP_STEPS)
        raise
    facts = RestoredDatabase(
        run_id=sandbox.run_id,
        url=url,
        folder=sandbox.folder,
        replayed_lsn=0,
        last_commit_at=None,
        unpack_seconds=time.monotonic() - unpacking_at,
        replay_seconds=unpacking_at - began,
        left_out=left_out,
    )
    return Restored(sandbox, child=child, facts=facts)


def _make_server(sandbox: Sandbox, *, programs: Programs, role: str) -> None:
    try:
        run_program(
            [
                *(programs.path("initdb"), f"--pgdata={sandbox.data}", f"--username={role}", "--auth=trust"),
                *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            environment=plain_environment(),
            account=sandbox.account,
            seconds=MAKE_SECONDS,
        )
    except Permanent as trouble:
        raise Hindered(trouble.reason) from None


def _filled(sandbox: Sandbox, *, fill: Fill, url: str) -> tuple[str, ...]:
    try:
        return fill(url)
    except Permanent as trouble:
        is_full = shutil.disk_usage(sandbox.folder).free < FULL_BYTES
        if is_full or NOT_OF_THE_DUMP.search(trouble.reason):
            raise Hindered(f"This machine lacks what the database needs: {trouble.reason}") from None
        raise


def _restore(
    *, store: ObjectStore, dump: DatabaseDump, identities: Sequence[str], programs: Programs, url: str
) -> tuple[str, ...]:
    return restore_dump(
        store=store, dump=dump, identities=identities, programs=programs, url=url, database=dump.database
    )
