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
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore, StoredObject
from changecontrol.processes import end_with_parent, last_lines, private_folder, stop_child
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
    WAL_PAGE_BYTES,
    archive_folder,
    finished_key,
    history_key,
    piece_key,
    segment_name,
    segment_start,
)
from recovery.ports.postgres import DatabaseServer, SlotState, WalStretch, parse_lsn

SHIP_SECONDS = 3.0
BACKLOG_BYTES = 2 * 1024**3
LARGEST_SEGMENT_BYTES = 64 * 1024 * 1024
"""A segment is shipped from memory."""
MARGIN = timedelta(seconds=1)
"""A commit takes its time before its place in the WAL; nothing takes longer than this between the two."""
HEARTBEAT = timedelta(seconds=30)
SLOT_NAME = re.compile(r"[a-z0-9_]{1,63}")
SEGMENT_NAME = re.compile(r"[0-9A-F]{24}")
HISTORY_FILE = re.compile(r"([0-9A-F]{8})\.history")
REMOVED = "has already been removed"
STOP_STEPS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0))


def ensure_slot(url: str, *, slot: str) -> bool:
    """Make the physical replication slot that keeps WAL on the server until it is archived; True where it is new.

    One that the server gave up is made anew: what it kept is lost, and what comes from now on shall not be.
    """
    if not SLOT_NAME.fullmatch(slot):
        raise Permanent("The name of a slot is made of small letters, digits and underscores.")
    with connected(url) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = %s AND wal_status = 'lost' AND NOT active",
            [slot],
        )
        if connection.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone() is not None:
            return False
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
    return True


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
    _, found = find_slot(url, slot=slot)
    if found is None:
        raise Permanent(f"The replication slot {slot} is gone from the server: WAL is no longer kept for the archive.")
    if found.is_lost:
        raise Permanent(f"The server gave up the WAL of the slot {slot}: the archive has a gap. Take a base backup.")
    return found


def find_slot(url: str, *, slot: str) -> tuple[str, SlotState | None]:
    """Return which server answers, and the slot as it is, one that was given up too; None where there is none.

    The server is named by its start: a promoted standby has the system identifier of the server it came from.
    """
    with connected(url) as connection:
        # The time first: whatever committed before it has its place before the position that is read after it.
        at, started_at, current, limit = one_row(
            connection,
            "SELECT clock_timestamp(), pg_postmaster_start_time(), pg_current_wal_insert_lsn(),"
            " (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size')",
        )
        found = connection.execute(
            # The slot's own position may be ahead of a receiver that has begun anew, whose segment is zeros until then.
            "SELECT slot.active, slot.restart_lsn, slot.wal_status, receiver.flush_lsn FROM pg_replication_slots slot"
            " LEFT JOIN pg_stat_replication receiver ON receiver.pid = slot.active_pid WHERE slot.slot_name = %s",
            [slot],
        ).fetchone()
    server = str(started_at.timestamp())
    if found is None:
        return server, None
    is_active, kept_from, status, received = found
    return server, SlotState(
        is_active=bool(is_active),
        received_lsn=lsn_of(received),
        current_lsn=lsn_of(current),
        retained_bytes=max(0, lsn_of(current) - lsn_of(kept_from)) if kept_from is not None else 0,
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
    stretch: WalStretch | None = None
    """The WAL that the store holds without a hole, up to what was shipped last."""


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
    stretch: WalStretch | None = None
    """What the store held before this archiver began."""
    _server: DatabaseServer | None = None
    _child: subprocess.Popen[bytes] | None = None
    _known: deque[tuple[int, datetime]] = field(default_factory=lambda: deque(maxlen=10_000))
    _reached_at: datetime | None = None
    _told_at: datetime = EPOCH
    _timeline: int = 0
    _shipped_to: dict[str, int] = field(default_factory=dict)
    _forks: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By timeline, its parent and where it left that."""

    def start(self) -> None:
        """Make the slot and start receiving. Start from the main thread: the receiver ends with it."""
        self.folder = private_folder(self.folder)
        self._server = observe_server(self.url)
        if self._server.segment_bytes > LARGEST_SEGMENT_BYTES:
            raise Permanent("WAL segments of more than 64 MiB are not archived.")
        self._timeline = self._server.timeline
        if ensure_slot(self.url, slot=self.slot):
            self._leave_behind()
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
        pieces = [self._ship_piece(path, received=state.received_lsn) for path in self._files(finished=False)]
        if state.received_lsn:
            self._tell(state.received_lsn)
        backlog = sum(path.stat().st_size for path in self._files(finished=True))
        self._supervise(backlog)
        return Shipped(
            finished_count=sum(finished),
            piece_count=sum(pieces),
            backlog_bytes=backlog,
            reached_at=self._told_at if self._told_at > EPOCH else None,
            slot=state,
            stretch=self.stretch,
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

    def _leave_behind(self) -> None:
        """Ship what was received before the slot was made, and let go of the segment that was being written.

        The receiver would ask the server for the rest of it, which a new slot does not keep.
        """
        for path in self._files(finished=True):
            self._ship_finished(path)
        for path in self._files(finished=False):
            path.unlink()

    def _receive(self) -> None:
        command = [str(self.programs.path("pg_receivewal")), "--directory", str(self.folder), "--slot", self.slot]
        with (self.folder / "receiver.log").open("wb") as log:
            self._child = subprocess.Popen(  # noqa: S603
                # Synchronous: what the receiver says it has is in the folder, so a piece never holds a guess.
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
                raise _ended(failure("pg_receivewal", words=words, environment=connection_environment(self.url)))

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
            stored = self.store.ensure_object(key, packed(path.read_bytes(), recipients=self.recipients))
            self._told_at = self._time()
            self._note(path.name, start=end - server.segment_bytes, end=end, stored=stored)
        path.unlink()
        self._shipped_to.pop(path.name, None)
        return is_new

    def _is_stored(self, segment: str) -> bool:
        """Tell whether the store has the finished segment: an earlier run shipped it and was killed."""
        folder = f"{self._place()}/{segment[:8]}/{segment}"
        return any("/full-" in found.key for found in self.store.observe_objects(folder))

    def _ship_piece(self, path: Path, *, received: int) -> bool:
        server = self._identified()
        segment = path.name.removesuffix(".partial")
        start = segment_start(segment, segment_bytes=server.segment_bytes)
        end = min(received - start, server.segment_bytes)
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
        stored = self.store.ensure_object(key, packed(data, recipients=self.recipients))
        self._shipped_to[segment] = end
        self._told_at = self._time()
        self._note(segment, start=start + begin, end=start + end, stored=stored)
        return True

    def _note(self, segment: str, *, start: int, end: int, stored: StoredObject) -> None:
        """Lengthen the stretch, or begin another where something is missing before."""
        last, timeline = self.stretch, int(segment[:8], 16)
        if last is not None and last.timeline == timeline and last.start <= start <= last.end:
            start, end = last.start, max(end, last.end)
        system = self._identified().system_identifier
        parent, forked_at = self._forks.get(timeline, (0, 0))
        if last is not None and last.timeline == timeline and not parent:
            parent, forked_at = last.parent, last.forked_at
        place = (system, timeline, start, end, self._told_at, stored.key, stored.size, stored.sha256)
        self.stretch = WalStretch(*place, parent=parent, forked_at=forked_at)

    def _tell(self, received: int) -> None:
        """Ship a piece of no length where nothing new came: or the covered time would stand still with the writers."""
        self._reach(received)
        if self._time() <= self._told_at + self.heartbeat:
            return
        server = self._identified()
        segment = segment_name(timeline=self._timeline, start=received, segment_bytes=server.segment_bytes)
        at = received % server.segment_bytes
        key = piece_key(self._place(), segment=segment, start=at, end=at, reached_at=self._time())
        self.store.ensure_object(key, packed(b"", recipients=self.recipients))
        self._told_at = self._time()
        if self.stretch is not None and self.stretch.timeline == self._timeline and self.stretch.end >= received:
            self.stretch = replace(self.stretch, reached_at=self._told_at)

    def _ship_history(self, path: Path) -> None:
        name = HISTORY_FILE.fullmatch(path.name)
        lines = [line.split() for line in path.read_text().splitlines() if line.strip() and line[0].isdigit()]
        if name is None or not lines:
            return
        timeline, parent, at = int(name[1], 16), int(lines[-1][0]), parse_lsn(lines[-1][1])
        self._forks[timeline] = (parent, at)
        key = history_key(self._place(), timeline=timeline, parent=parent, at=at)
        if self.store.observe_object(key) is None:
            self.store.ensure_object(key, packed(path.read_bytes(), recipients=self.recipients))
        path.unlink()

    def _reach(self, position: int) -> None:
        while self._known and self._known[0][0] <= position:
            self._reached_at = self._known.popleft()[1]

    def _time(self) -> datetime:
        """Return the time up to which all commits are in what is shipped; before the first one is known, long ago."""
        reached_at = self._reached_at or EPOCH
        # As the names of objects say it: or the catalogue would promise a moment that the store does not.
        return reached_at.replace(microsecond=reached_at.microsecond // 1000 * 1000)

    def _identified(self) -> DatabaseServer:
        if self._server is None:
            raise Permanent("Archiving has not been started.")
        return self._server

    def _place(self) -> str:
        server = self._identified()
        return archive_folder(
            self.prefix, system_identifier=server.system_identifier, segment_bytes=server.segment_bytes
        )


def _ended(trouble: Transient | Permanent) -> Transient | Permanent:
    """Say why the receiver ended: for good where the server no more has the WAL, else it has begun anew already.

    A server that restarts ends it with words of many kinds.
    """
    return trouble if REMOVED in trouble.reason else Transient(trouble.reason)


def _written_up_to(position: int) -> int:
    """Return where the last record ends: the server counts the header of a page that nothing was written to yet."""
    return position - position % WAL_PAGE_BYTES if position % WAL_PAGE_BYTES <= LONG_HEADER.size else position
