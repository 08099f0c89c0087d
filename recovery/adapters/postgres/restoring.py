"""Restores: a copy in a folder of its own, replayed to a time, promoted, and started behind a socket.

Nothing here writes to the archive: the server finds its WAL in a local folder and archives nothing. As root everything
runs as an unprivileged user.
"""

from __future__ import annotations

import re
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from changecontrol.errors import Hindered, Permanent, Transient
from changecontrol.ports import ObjectStore
from changecontrol.processes import end_with_parent, last_lines, run_as, stop_child, wait_until
from recovery.adapters.postgres.fetching import fetch_copy
from recovery.adapters.postgres.programs import (
    NO_ROOM,
    Programs,
    connected,
    entrance_of,
    lsn_of,
    one_row,
    plain_environment,
    run_program,
    undisturbed,
)
from recovery.adapters.postgres.sandbox import STOP_STEPS, Sandbox, make_sandbox, tear_down, written_to
from recovery.adapters.postgres.wal import (
    LONG_HEADER,
    WAL_PAGE_BYTES,
    check_covered,
    coverage_of,
    needed_until,
    segment_name,
)
from recovery.ports.postgres import (
    BaseBackup,
    Coverage,
    Latest,
    RestoredDatabase,
    RestoreTo,
    WalArchive,
    WalObject,
    format_lsn,
)

REPLAY_SECONDS = 6 * 3600.0
NOT_REACHED = "recovery ended before configured recovery target was reached"
TROUBLE = re.compile(rf"{NO_ROOM}|invalid|incorrect|unexpected|Permission denied|Input/output error")
NO_ROLE = re.compile(r'role ".*" (does not exist|is not permitted to log in)|permission denied to set parameter ')
FULL_BYTES = 16 * 1024 * 1024
"""With less than a segment of WAL free no server of PostgreSQL runs."""
PORT = 5432
EVENT_TRIGGERS_FROM = 17
"""The first version that calls them at a sign-in, and that can be told to call none."""
SHORT_HEADER_BYTES = 24
# The beginning of an XLogRecord: its whole length, its transaction, and where the record before it begins.
RECORD_START = struct.Struct("=IIQ")
CONTROL_SETTINGS = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
"""What a server cannot recover with less of than the one that wrote the WAL."""


class Restored:
    """A copy that was replayed and answers. It ends with `stop`, or with the process that started it."""

    def __init__(self, sandbox: Sandbox, *, child: subprocess.Popen[bytes], facts: RestoredDatabase) -> None:
        self.sandbox = sandbox
        self.facts = facts
        self._child = child

    @property
    def url(self) -> str:
        return self.facts.url

    def url_of(self, database: str) -> str:
        """Return the address of another database of the same server."""
        return make_conninfo(self.url, dbname=database)

    def __enter__(self) -> Restored:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def is_running(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> None:
        """Stop the server; its data stays until the run is torn down."""
        stop_child(self._child, steps=STOP_STEPS)


def start_copy(
    sandbox: Sandbox,
    *,
    programs: Programs,
    base: BaseBackup,
    coverage: Coverage,
    at: RestoreTo,
    role: str,
    database: str = "",
    unpack_seconds: float = 0.0,
    seconds: float = REPLAY_SECONDS,
) -> Restored:
    """Replay a fetched copy to a time, promote it, and return it as a role of the source sees it.

    `database` is one to enter by where those that a server is made with are gone. Start from the main thread: the
    server ends with it. Raises `Permanent` with the server's last words where it does not come up, and where it
    replayed less than it should have; `Hindered` where there is no such role, and no room.
    """
    if programs.major != base.server_major:
        raise Permanent(f"The backup is of PostgreSQL {base.server_major}, the programs are of {programs.major}.")
    began = time.monotonic()
    child = _begun(sandbox, programs=programs, coverage=coverage, base=base, target=at)
    reads_to_the_end = isinstance(at, Latest)
    try:
        if not is_up(sandbox, child=child, seconds=seconds) and NOT_REACHED in _said(sandbox):
            reads_to_the_end = True
            # Nothing committed after that time in all WAL there is, and the WAL reaches beyond it: its end is the same.
            child = _begun(sandbox, programs=programs, coverage=coverage, base=base, target=Latest.LATEST)
            is_up(sandbox, child=child, seconds=seconds)
        if child.poll() is not None:
            raise not_started(sandbox)
        url = _entrance(sandbox, role=role, database=database)
        replayed, last_commit_at = _replayed(url)
        if replayed < base.stop_lsn:
            raise _fell_short(sandbox, replayed=replayed, wanted=base.stop_lsn)
        if reads_to_the_end:
            _check_end(sandbox, replayed=replayed, coverage=coverage, at=at, base=base)
    except BaseException:
        stop_child(child, steps=STOP_STEPS)
        raise
    facts = RestoredDatabase(
        run_id=sandbox.run_id,
        url=url,
        folder=sandbox.folder,
        replayed_lsn=replayed,
        last_commit_at=last_commit_at,
        unpack_seconds=unpack_seconds,
        replay_seconds=time.monotonic() - began,
    )
    return Restored(sandbox, child=child, facts=facts)


def start_consistent(sandbox: Sandbox, *, programs: Programs, role: str, database: str = "") -> Restored:
    """Start an unpacked copy that brings its own WAL, where it is consistent, as a superuser of the source sees it.

    Start from the main thread: the server ends with it. Raises as `start_copy` does.
    """
    began = time.monotonic()
    with written_to(sandbox):
        _configure_recovery(sandbox, programs=programs, settings={"recovery_target": "immediate"})
        child = spawn(sandbox, programs=programs)
    try:
        if not is_up(sandbox, child=child, seconds=REPLAY_SECONDS):
            raise not_started(sandbox)
        url = _entrance(sandbox, role=role, database=database)
        replayed, last_commit_at = _replayed(url)
    except BaseException:
        stop_child(child, steps=STOP_STEPS)
        raise
    facts = RestoredDatabase(
        run_id=sandbox.run_id,
        url=url,
        folder=sandbox.folder,
        replayed_lsn=replayed,
        last_commit_at=last_commit_at,
        unpack_seconds=0.0,
        replay_seconds=time.monotonic() - began,
    )
    return Restored(sandbox, child=child, facts=facts)


def restore(
    *,
    store: ObjectStore,
    base: BaseBackup,
    archive: WalArchive,
    at: RestoreTo,
    identities: Sequence[str],
    parent: Path,
    run_id: str,
    programs: Programs,
    role: str,
    database: str = "",
) -> Restored:
    """Restore a base backup to a time and start it. What fails leaves no folder behind."""
    check_covered(coverage_of(base, archive=archive), at=at)
    sandbox = make_sandbox(parent, run_id=run_id)
    began = time.monotonic()
    try:
        coverage = fetch_copy(
            store=store,
            base=base,
            archive=archive,
            at=at,
            identities=identities,
            sandbox=sandbox,
            programs=programs,
        )
        return start_copy(
            sandbox,
            programs=programs,
            base=base,
            coverage=coverage,
            at=at,
            role=role,
            database=database,
            unpack_seconds=time.monotonic() - began,
        )
    except BaseException:
        tear_down(parent, run_id=run_id)
        raise


def _begun(
    sandbox: Sandbox, *, programs: Programs, coverage: Coverage, base: BaseBackup, target: RestoreTo
) -> subprocess.Popen[bytes]:
    with written_to(sandbox):
        _configure(sandbox, programs=programs, coverage=coverage, base=base, target=target)
        return spawn(sandbox, programs=programs)


def not_started(sandbox: Sandbox) -> Permanent | Hindered:
    """Say why a sandbox's server has not come up."""
    # A server that cannot write cannot write down why either.
    if shutil.disk_usage(sandbox.folder).free < FULL_BYTES:
        return Hindered(f"The restored server did not start: the disk below {sandbox.folder} is full.")
    return _told(f"The restored server did not start. Its log ends: {last_lines(sandbox.log)}")


def _told(sentence: str) -> Permanent | Hindered:
    return (Hindered if NO_ROOM in sentence else Permanent)(sentence)


def _configure(
    sandbox: Sandbox, *, programs: Programs, coverage: Coverage, base: BaseBackup, target: RestoreTo
) -> None:
    timeline = str(coverage.timeline) if coverage.timeline != base.timeline else "current"
    settings = {"recovery_target_timeline": timeline}
    if not isinstance(target, Latest):
        settings["recovery_target_time"] = target.astimezone(UTC).isoformat(sep=" ")
    _configure_recovery(sandbox, programs=programs, settings=settings)


def _configure_recovery(sandbox: Sandbox, *, programs: Programs, settings: Mapping[str, str]) -> None:
    settings = {
        "hot_standby": "off",
        "restore_command": f'cp "{sandbox.wal}/%f" "%p"',
        "recovery_target_action": "promote",
        # It lives no longer than its run, and is made anew where this machine goes down.
        "fsync": "off",
        **_control_settings(sandbox, programs=programs),
        **settings,
    }
    configure(sandbox, settings=settings)
    for name in ("postgresql.auto.conf", "recovery.signal"):
        with sandbox.writing(sandbox.data / name):
            pass  # What it says is in our own configuration.
    (sandbox.data / "standby.signal").unlink(missing_ok=True)


def configure(sandbox: Sandbox, *, settings: Mapping[str, str]) -> None:
    """Write a configuration of our own: a source's may be elsewhere, name libraries, archive, and subscribe."""
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sandbox.socket),
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "hba_file": str(sandbox.folder / "hba.conf"),
        "ident_file": str(sandbox.folder / "ident.conf"),
        "archive_mode": "off",
        # A subscription that goes on would take from its publisher what the source has yet to get.
        "max_logical_replication_workers": "0",
        # Nothing runs by itself: neither what somebody hung on a sign-in, nor functions of an index.
        "autovacuum": "off",
        **({"event_triggers": "off"} if _major_of(sandbox) >= EVENT_TRIGGERS_FROM else {}),
        "log_timezone": "UTC",
        **settings,
    }
    lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    for name, text in (("postgresql.conf", lines), ("hba.conf", "local all all trust\n"), ("ident.conf", "")):
        with sandbox.writing(sandbox.folder / name) as file:
            file.write(text.encode())


def _major_of(sandbox: Sandbox) -> int:
    return int((sandbox.data / "PG_VERSION").read_text())


def _control_settings(sandbox: Sandbox, *, programs: Programs) -> dict[str, str]:
    printed = run_program(
        [programs.path("pg_controldata"), sandbox.data],
        environment=plain_environment(),
        account=sandbox.account,
        seconds=60,
    )
    found = dict(line.split(":", 1) for line in printed.splitlines() if ":" in line)
    return {setting: found[name].strip() for name, setting in CONTROL_SETTINGS.items() if name in found}


def address_in(sandbox: Sandbox, *, database: str, role: str) -> str:
    """Return where a database of the sandbox's server answers."""
    return f"postgresql:///{quote(database, safe='')}?host={sandbox.socket}&port={PORT}&user={quote(role, safe='')}"


def spawn(sandbox: Sandbox, *, programs: Programs) -> subprocess.Popen[bytes]:
    """Start the server of a sandbox as it is configured. It ends with the thread that starts it."""
    with sandbox.writing(sandbox.log) as log:
        return subprocess.Popen(  # noqa: S603
            [
                str(programs.path("postgres")),
                "-D",
                str(sandbox.data),
                "-c",
                f"config_file={sandbox.folder / 'postgresql.conf'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=sandbox.folder,
            env=plain_environment(),
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGINT),
            **run_as(sandbox.account),
        )


def is_up(sandbox: Sandbox, *, child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait until the server takes connections, which without hot standby it does once promoted; False if it ended."""

    def is_settled() -> bool:
        if child.poll() is not None:
            return True
        try:
            lines = (sandbox.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready"

    if not wait_until(is_settled, seconds=seconds):
        raise Transient(f"The restored server was still replaying WAL after {seconds:.0f} seconds.")
    return child.poll() is None


def _said(sandbox: Sandbox) -> str:
    return last_lines(sandbox.log, count=20)


def _entrance(sandbox: Sandbox, *, role: str, database: str) -> str:
    """Return the address at which the server answers: its `postgres` may have been dropped, or be called otherwise."""
    try:
        url = address_in(sandbox, database=database, role=role)
        name = str(conninfo_to_dict(entrance_of(undisturbed(url), database=database))["dbname"])
        return address_in(sandbox, database=name, role=role)
    except Permanent as refusal:
        reason = f"The restored server does not let the role in: {refusal.reason}"
    # The copy is as its server was: it is we who ask for somebody else.
    raise Hindered(reason) if NO_ROLE.search(reason) else Permanent(reason)


def _replayed(url: str) -> tuple[int, datetime | None]:
    with connected(undisturbed(url)) as connection:
        replayed, last_commit_at, is_in_recovery = one_row(
            connection, "SELECT pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp(), pg_is_in_recovery()"
        )
    if is_in_recovery:
        raise Permanent("The restored server was not promoted.")
    return lsn_of(replayed), last_commit_at


def _check_end(sandbox: Sandbox, *, replayed: int, coverage: Coverage, at: RestoreTo, base: BaseBackup) -> None:
    """Raise `Permanent` where the replay ended before the WAL did.

    PostgreSQL takes whatever it cannot replay for the end: a record that is damaged, a segment that did not fit on the
    disk. Behind the true end there is nothing, or a record that goes on in WAL that is not there.
    """
    needed = list(needed_until(coverage, at=at, base=base))
    end = max((one.end for one in needed), default=0)
    if end - replayed <= LONG_HEADER.size:
        return
    here = next((one for one in needed if one.start <= replayed < one.end), None)
    size = base.segment_bytes
    if here is None or replayed + _record_bytes(sandbox, here=here, at=replayed, segment_bytes=size) <= end:
        raise _fell_short(sandbox, replayed=replayed, wanted=end)


def _record_bytes(sandbox: Sandbox, *, here: WalObject, at: int, segment_bytes: int) -> int:
    """Return how long the record at a position says that it is; 0 where there is none."""
    offset = at % segment_bytes
    if offset % WAL_PAGE_BYTES == 0:
        offset += LONG_HEADER.size if offset == 0 else SHORT_HEADER_BYTES
    name = segment_name(timeline=here.timeline, start=here.start, segment_bytes=segment_bytes)
    with (sandbox.wal / name).open("rb") as file:
        file.seek(offset)
        length, _, before = RECORD_START.unpack(file.read(RECORD_START.size).ljust(RECORD_START.size, b"\0"))
    return int(length) if before < at else 0


def _fell_short(sandbox: Sandbox, *, replayed: int, wanted: int) -> Permanent | Hindered:
    lines = [line for line in sandbox.log.read_text(errors="replace").splitlines() if TROUBLE.search(line)]
    why = f" Its log says: {lines[-1].strip()[-300:]}" if lines else ""
    return _told(f"The restored server replayed up to {format_lsn(replayed)} and not to {format_lsn(wanted)}.{why}")
