"""Continuous archiving: a supervised `pg_receivewal` with a slot, whose segments are shipped as they grow.

What the store holds is what counts: a segment leaves the local folder once the store has it. The slot keeps WAL on the
server while we are behind, and how much is a fact that raises the alarm before a disk is full. When the local folder is
over its limit the receiver is stopped, and the server's own limit for slots decides.
"""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from changecontrol.project.local.processes import end_with_parent, last_lines, private_folder, stop_child
from recovery.adapters.postgres.packing import packed
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    connection_environment,
    failure,
    lsn_of,
    observe_server,
    one_row,
)
from recovery.adapters.postgres.wal import (
    EPOCH,
    LONG_HEADER,
    archive_folder,
    finished_key,
    history_key,
    piece_key,
    segment_name,
    segment_start,
)
from recovery.ports import DatabaseServer, SlotState, parse_lsn

SHIP_SECONDS = 3.0
BACKLOG_BYTES = 2 * 1024**3
LARGEST_SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment is shipped from memory."""
MARGIN = timedelta(seconds=1)
"""A commit takes its time before its place in the WAL; nothing takes longer than this between the two."""
HEARTBEAT = timedelta(seconds=30)
WAL_PAGE_BYTES = 8192
SLOT_NAME = re.compile(r"[a-z0-9_]{1,63}")
SEGMENT_NAME = re.compile(r"[0-9A-F]{24}")
HISTORY_FILE = re.compile(r"([0-9A-F]{8})\.history")
STOP_STEPS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0))


def ensure_slot(url: str, *, slot: str) -> None:
    """Make the physical replication slot that keeps WAL on the server until it is archived."""
    if not SLOT_NAME.fullmatch(slot):
        raise Permanent("The name of a slot is made of small letters, digits and underscores.")
    with connected(url) as connection:
        if connection.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone() is None:
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [slot])


def ensure_no_slot(url: str, *, slot: str) -> None:
    """Drop the slot: archiving has ended for good, and the server may let its WAL go."""
    with connected(url) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [slot]
        )


def observe_slot(url: str, *, slot: str) -> SlotState:
    """Return how far archiving is and how much WAL the server keeps for it.

    Raises `Permanent` where the slot is gone or the server gave it up: WAL is missing then, and a base backup is due.
    """
    with connected(url) as connection:
        # The time first: whatever committed before it has its place before the position that is read after it.
        at, current, limit = one_row(
            connection,
            "SELECT clock_timestamp(), pg_current_wal_insert_lsn(),"
            " (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size')",
        )
        found = connection.execute(
            "SELECT active, restart_lsn, wal_status FROM pg_replication_slots WHERE slot_name = %s", [slot]
        ).fetchone()
    if found is None:
        raise Permanent(f"The replication slot {slot} is gone from the server: WAL is no longer kept for the archive.")
    is_active, flushed, status = found
    if status == "lost":
        raise Permanent(f"The server gave up the WAL of the slot {slot}: the archive has a gap. Take a base backup.")
    return SlotState(
        is_active=bool(is_active),
        flushed_lsn=lsn_of(flushed),
        current_lsn=lsn_of(current),
        retained_bytes=max(0, lsn_of(current) - lsn_of(flushed)) if flushed is not None else 0,
        limit_bytes=int(limit) * 1024 * 1024 if int(limit) >= 0 else None,
        wal_status=str(status),
        observed_at=at,
    )


@dataclass(frozen=True, slots=True)
class Shipped:
    """What one round did. `reached_at` is the time up to which the store is known to hold every commit."""

    finished_count: int
    piece_count: int
    backlog_bytes: int
    reached_at: datetime | None
    slot: SlotState


@dataclass
class WalArchiver:
    """Archive the WAL of one server. Call `start`, then `ship` every few seconds, then `stop`."""

    url: str = field(repr=False)
    slot: str
    programs: Programs
    store: ObjectStore
    prefix: str
    folder: Path
    recipients: Sequence[str]
    backlog_limit_bytes: int = BACKLOG_BYTES
    heartbeat: timedelta = HEARTBEAT
    _server: DatabaseServer | None = None
    _child: subprocess.Popen[bytes] | None = None
    _known: deque[tuple[int, datetime]] = field(default_factory=lambda: deque(maxlen=10_000))
    _reached_at: datetime | None = None
    _told_at: datetime = EPOCH
    _timeline: int = 0
    _shipped_to: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Make the slot and start receiving. Start from the main thread: the receiver ends with it."""
        self.folder = private_folder(self.folder)
        self._server = observe_server(self.url)
        if self._server.segment_bytes > LARGEST_SEGMENT_BYTES:
            raise Permanent("WAL segments of more than 64 MiB are not archived.")
        self._timeline = self._server.timeline
        ensure_slot(self.url, slot=self.slot)
        self._receive()

    def stop(self) -> None:
        """Stop receiving. What was received and not shipped is shipped after the next start."""
        if self._child is not None:
            stop_child(self._child, steps=STOP_STEPS)
            self._child = None

    def ship(self) -> Shipped:
        """Ship what has come since the last round, and start a receiver that has ended anew.

        Raises `Transient` where server or store are away, and what `observe_slot` raises.
        """
        state = observe_slot(self.url, slot=self.slot)
        self._known.append((_written_up_to(state.current_lsn), state.observed_at - MARGIN))
        finished = [self._ship_finished(path) for path in self._files(finished=True)]
        for path in sorted(self.folder.glob("*.history")):
            self._ship_history(path)
        pieces = [self._ship_piece(path, flushed=state.flushed_lsn) for path in self._files(finished=False)]
        self._tell(state.flushed_lsn)
        backlog = sum(path.stat().st_size for path in self._files(finished=True))
        self._supervise(backlog)
        return Shipped(
            finished_count=sum(finished),
            piece_count=sum(pieces),
            backlog_bytes=backlog,
            reached_at=self._told_at if self._told_at > EPOCH else None,
            slot=state,
        )

    def run(self, *, until: threading.Event, report: Callable[[Shipped | Transient], None]) -> None:
        """Archive until told to stop; a server or a store that is away is reported and tried again."""
        self.start()
        try:
            while not until.is_set():
                try:
                    report(self.ship())
                except Transient as error:
                    report(error)
                until.wait(SHIP_SECONDS)
        finally:
            self.stop()

    def _receive(self) -> None:
        command = [str(self.programs.path("pg_receivewal")), "--directory", str(self.folder), "--slot", self.slot]
        with (self.folder / "receiver.log").open("wb") as log:
            self._child = subprocess.Popen(  # noqa: S603
                # Synchronous: what the slot says was flushed is in the folder, so a piece never holds a guess.
                [*command, "--synchronous", "--no-loop", "--no-password", "--status-interval=1"],
                env=connection_environment(self.url),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGINT),
            )

    def _supervise(self, backlog: int) -> None:
        if backlog > self.backlog_limit_bytes:
            self.stop()
            raise Transient("The store takes WAL slower than the server writes it; receiving waits for it.")
        if self._child is None or self._child.poll() is not None:
            words = last_lines(self.folder / "receiver.log")
            has_failed = self._child is not None
            self._receive()
            if has_failed:
                raise failure("pg_receivewal", words=words, environment=connection_environment(self.url))

    def _files(self, *, finished: bool) -> list[Path]:
        suffix = "" if finished else ".partial"
        names = sorted(path.name for path in self.folder.iterdir())
        self._timeline = max([self._timeline, *(int(name[:8], 16) for name in names if SEGMENT_NAME.match(name))])
        return [
            self.folder / name
            for name in names
            if name.endswith(suffix) and SEGMENT_NAME.fullmatch(name.removesuffix(suffix) if suffix else name)
        ]

    def _ship_finished(self, path: Path) -> bool:
        server = self._identified()
        end = segment_start(path.name, segment_bytes=server.segment_bytes) + server.segment_bytes
        self._reach(end)
        is_new = not self._is_stored(path.name)
        if is_new:
            key = finished_key(self._place(), segment=path.name, reached_at=self._time())
            self.store.ensure_object(key, packed(path.read_bytes(), recipients=self.recipients))
            self._told_at = self._time()
        path.unlink()
        self._shipped_to.pop(path.name, None)
        return is_new

    def _is_stored(self, segment: str) -> bool:
        """Tell whether the store has the finished segment: an earlier run shipped it and was killed."""
        folder = f"{self._place()}/{segment[:8]}/{segment}"
        return any("/full-" in found.key for found in self.store.observe_objects(folder))

    def _ship_piece(self, path: Path, *, flushed: int) -> bool:
        server = self._identified()
        segment = path.name.removesuffix(".partial")
        start = segment_start(segment, segment_bytes=server.segment_bytes)
        end = min(flushed - start, server.segment_bytes)
        begin = self._shipped_to.get(segment, 0)
        if end <= begin:
            return False
        self._reach(start + end)
        try:
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read(end - begin)
        except FileNotFoundError:
            # It was finished meanwhile; the next round ships it whole.
            return False
        key = piece_key(self._place(), segment=segment, start=begin, end=end, reached_at=self._time())
        self.store.ensure_object(key, packed(data, recipients=self.recipients))
        self._shipped_to[segment] = end
        self._told_at = self._time()
        return True

    def _tell(self, flushed: int) -> None:
        """Ship a piece of no length where nothing new came: or the covered time would stand still with the writers."""
        self._reach(flushed)
        if self._time() <= self._told_at + self.heartbeat:
            return
        server = self._identified()
        segment = segment_name(timeline=self._timeline, start=flushed, segment_bytes=server.segment_bytes)
        at = flushed % server.segment_bytes
        key = piece_key(self._place(), segment=segment, start=at, end=at, reached_at=self._time())
        self.store.ensure_object(key, packed(b"", recipients=self.recipients))
        self._told_at = self._time()

    def _ship_history(self, path: Path) -> None:
        name = HISTORY_FILE.fullmatch(path.name)
        lines = [line.split() for line in path.read_text().splitlines() if line.strip() and line[0].isdigit()]
        if name is None or not lines:
            return
        key = history_key(
            self._place(), timeline=int(name[1], 16), parent=int(lines[-1][0]), at=parse_lsn(lines[-1][1])
        )
        if self.store.observe_object(key) is None:
            self.store.ensure_object(key, packed(path.read_bytes(), recipients=self.recipients))
        path.unlink()

    def _reach(self, position: int) -> None:
        while self._known and self._known[0][0] <= position:
            self._reached_at = self._known.popleft()[1]

    def _time(self) -> datetime:
        """Return the time up to which all commits are in what is shipped; before the first one is known, long ago."""
        return self._reached_at or EPOCH

    def _identified(self) -> DatabaseServer:
        if self._server is None:
            raise Permanent("Archiving has not been started.")
        return self._server

    def _place(self) -> str:
        server = self._identified()
        return archive_folder(
            self.prefix, system_identifier=server.system_identifier, segment_bytes=server.segment_bytes
        )


def _written_up_to(position: int) -> int:
    """Return where the last record ends: the server counts the header of a page that nothing was written to yet."""
    return position - position % WAL_PAGE_BYTES if position % WAL_PAGE_BYTES <= LONG_HEADER.size else position
