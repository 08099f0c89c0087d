"""WAL in the store: its names, what is really there, which times that covers, and how it is opened.

    PREFIX/wal/SYSTEM.SEGMENT_BYTES/TIMELINE/SEGMENT/full-TIME.zst.age          a finished segment
    PREFIX/wal/SYSTEM.SEGMENT_BYTES/TIMELINE/SEGMENT/FROM-TO-TIME.zst.age       a piece of one being written
    PREFIX/wal/SYSTEM.SEGMENT_BYTES/TIMELINE/history/PARENT-AT.zst.age          the history file of a timeline

SYSTEM identifies the server's cluster, TIME is in milliseconds, everything else is hexadecimal. So coverage is
computed without a key to the content, and WAL of another system never counts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore, StoredObject
from recovery.adapters.postgres.packing import unpacked
from recovery.ports.postgres import (
    BaseBackup,
    Coverage,
    Latest,
    RestoreTo,
    TimelineSwitch,
    WalArchive,
    WalGap,
    WalObject,
    WalStretch,
    format_lsn,
)

SUFFIX = ".zst.age"
NAME = re.compile(
    r"/(?P<timeline>[0-9A-F]{8})/(?P<segment>[0-9A-F]{24})/(?:full|(?P<start>[0-9a-f]{8})-(?P<end>[0-9a-f]{8}))"
    r"-(?P<time>\d{1,15})\.zst\.age$"
)
HISTORY_NAME = re.compile(r"/(?P<timeline>[0-9A-F]{8})/history/(?P<parent>[0-9A-F]{8})-(?P<at>[0-9A-F]{16})\.zst\.age$")
FOLDER = re.compile(r"(?P<system>\d{1,20})\.(?P<size>[0-9a-f]{1,8})/")
HISTORY_BYTES = 1024 * 1024
# XLogLongPageHeaderData: magic, info, timeline, address, rest, padding, system, segment size, block size.
LONG_HEADER = struct.Struct("=HHIQIIQII")
LONG_HEADER_FLAG = 0x0002
WAL_PAGE_BYTES = 8192
COLLECTED_AT_ONCE = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FaultInWal(Permanent):
    """A fault of WAL in the store: of what other backups lead through, too."""


class NotCovered(Permanent):
    """No WAL leads from a backup to a time. To its own moment it leads."""


def segment_name(*, timeline: int, start: int, segment_bytes: int) -> str:
    """Return PostgreSQL's file name of the segment that holds a position."""
    number, per_id = start // segment_bytes, (1 << 32) // segment_bytes
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def segment_start(name: str, *, segment_bytes: int) -> int:
    """Return the first position of a segment by its file name."""
    return (int(name[8:16], 16) * ((1 << 32) // segment_bytes) + int(name[16:24], 16)) * segment_bytes


def archive_folder(prefix: str, *, system_identifier: str, segment_bytes: int) -> str:
    return f"{prefix}/wal/{system_identifier}.{segment_bytes:x}"


def finished_key(folder: str, *, segment: str, reached_at: datetime) -> str:
    return f"{folder}/{segment[:8]}/{segment}/full-{_milliseconds(reached_at)}{SUFFIX}"


def piece_key(folder: str, *, segment: str, start: int, end: int, reached_at: datetime) -> str:
    """Name the bytes of a segment from `start` to `end`, counted from its beginning."""
    return f"{folder}/{segment[:8]}/{segment}/{start:08x}-{end:08x}-{_milliseconds(reached_at)}{SUFFIX}"


def history_key(folder: str, *, timeline: int, parent: int, at: int) -> str:
    return f"{folder}/{timeline:08X}/history/{parent:08X}-{at:016X}{SUFFIX}"


def observe_systems(store: ObjectStore, *, prefix: str) -> tuple[tuple[str, int], ...]:
    """Return the systems whose WAL lies below a prefix, each with the size of its segments."""
    found = {FOLDER.match(one.key.removeprefix(f"{prefix}/wal/")) for one in store.observe_objects(f"{prefix}/wal")}
    return tuple(sorted({(name["system"], int(name["size"], 16)) for name in found if name}))


def observe_archive(store: ObjectStore, *, prefix: str, system_identifier: str, segment_bytes: int) -> WalArchive:
    """Return what WAL of a system the store holds. Names that are none of ours are left out."""
    folder = archive_folder(prefix, system_identifier=system_identifier, segment_bytes=segment_bytes)
    objects: list[WalObject] = []
    switches: list[TimelineSwitch] = []
    for found in store.observe_objects(folder):
        if one := _wal_object(found, segment_bytes=segment_bytes):
            objects.append(one)
        elif name := HISTORY_NAME.search(found.key):
            switches.append(
                TimelineSwitch(
                    timeline=int(name["timeline"], 16),
                    parent=int(name["parent"], 16),
                    at=int(name["at"], 16),
                    key=found.key,
                )
            )
    return WalArchive(
        system_identifier=system_identifier,
        segment_bytes=segment_bytes,
        objects=tuple(sorted(objects)),
        switches=tuple(sorted(switches)),
    )


def stretches_of(archive: WalArchive) -> tuple[WalStretch, ...]:
    """Return the WAL of an archive as stretches without a hole, oldest first."""
    # A piece of no length alone says nothing.
    return tuple(one for one in _joined(archive) if one.end > one.start)


def _joined(archive: WalArchive) -> list[WalStretch]:
    found: list[WalStretch] = []
    forks = {one.timeline: (one.parent, one.at) for one in archive.switches}
    for one in sorted(archive.objects):
        last = found[-1] if found else None
        if last is not None and last.timeline == one.timeline and one.start <= last.end:
            if one.end >= last.end:
                reached_at = max(last.reached_at, one.reached_at)
                found[-1] = replace(last, end=one.end, reached_at=reached_at, key=one.key, size=one.size)
            continue
        system = archive.system_identifier
        parent, at = forks.get(one.timeline, (0, 0))
        place = (system, one.timeline, one.start, one.end, one.reached_at, one.key, one.size)
        found.append(WalStretch(*place, parent=parent, forked_at=at))
    return found


class StretchCollector:
    """Adds up the WAL of a listing as it passes, in memory that grows with the holes and not with the objects."""

    def __init__(self, *, prefix: str, at_once: int = COLLECTED_AT_ONCE) -> None:
        self._prefix = f"{prefix}/wal/"
        self._at_once = at_once
        self._archives: dict[tuple[str, int], WalArchive] = {}
        self._waiting: dict[tuple[str, int], list[WalObject]] = {}

    def add(self, found: StoredObject) -> None:
        """Take one object of a listing; what is no WAL of ours is left out."""
        if not found.key.startswith(self._prefix) or not (name := FOLDER.match(found.key[len(self._prefix) :])):
            return
        system = (name["system"], int(name["size"], 16))
        if one := _wal_object(found, segment_bytes=system[1]):
            waiting = self._waiting.setdefault(system, [])
            waiting.append(one)
            if len(waiting) >= self._at_once:
                self._add_up(system)
        elif fork := HISTORY_NAME.search(found.key):
            parent, at = int(fork["parent"], 16), int(fork["at"], 16)
            switch = TimelineSwitch(timeline=int(fork["timeline"], 16), parent=parent, at=at, key=found.key)
            known = self._archive(system)
            self._archives[system] = replace(known, switches=(*known.switches, switch))

    def stretches(self) -> tuple[WalStretch, ...]:
        """Return the stretches without a hole of every system, as `stretches_of` does of one."""
        for system in list(self._waiting):
            self._add_up(system)
        return tuple(one for archive in self._archives.values() for one in stretches_of(archive))

    def _archive(self, system: tuple[str, int]) -> WalArchive:
        return self._archives.get(system) or WalArchive(*system, objects=())

    def _add_up(self, system: tuple[str, int]) -> None:
        known = self._archive(system)
        objects = (*known.objects, *self._waiting.pop(system, ()))
        added = [
            WalObject(one.timeline, one.start, one.end, one.reached_at, one.key, one.size, is_finished=True)
            for one in _joined(replace(known, objects=objects))
        ]
        self._archives[system] = replace(known, objects=tuple(added))


def coverage_of(base: BaseBackup, *, archive: WalArchive) -> Coverage:
    """Return the times that can be restored from a base backup with this WAL, and where WAL is missing.

    The newest timeline that descends from the backup's is followed, as recovery does. A time behind a gap is not
    covered: no WAL leads there from this backup.
    """
    if archive.system_identifier != base.system_identifier:
        raise Permanent("The WAL is of another system than the base backup.")
    path = _path_from(base, switches=archive.switches)
    segments = _by_segment(archive)
    size = archive.segment_bytes
    last = max(
        (number for timeline, number in segments if timeline == _timeline_at(path, number=number, size=size)),
        default=-1,
    )
    needed: list[WalObject] = []
    gaps: list[WalGap] = []
    end, end_at, number, is_contiguous = base.start_lsn, EPOCH, base.start_lsn // size, True
    while number <= last:
        timeline = _timeline_at(path, number=number, size=size)
        found = segments.get((timeline, number), ())
        chain = _chain(found, start=number * size)
        chain_end = chain[-1].end if chain else number * size
        if is_contiguous:
            needed += chain
            end = max(end, chain_end)
            end_at = max([end_at, *(one.reached_at for one in found if one.end <= chain_end)])
        if chain_end < (number + 1) * size and number < last:
            is_contiguous = False
            gaps.append(_gap(segments, path, start=chain_end, number=number, size=size, safe_at=end_at))
            number = gaps[-1].end // size
        else:
            number += 1
    is_usable = end >= base.stop_lsn and end_at >= base.finished_at
    return Coverage(
        label=base.label,
        timeline=path[-1][0],
        start_at=base.finished_at if is_usable else None,
        end_at=end_at if is_usable else None,
        end_lsn=end,
        gaps=tuple(gaps),
        needed=tuple(needed),
        switches=tuple(one for one in archive.switches if one.timeline in {timeline for timeline, _ in path}),
    )


def check_covered(coverage: Coverage, *, at: RestoreTo) -> None:
    """Raise `Permanent` with the last safe time where this cannot be restored; `NotCovered` where WAL ends before."""
    if coverage.start_at is None or coverage.end_at is None:
        raise Permanent(
            f"Nothing can be restored from {coverage.label}: its WAL is missing from {format_lsn(coverage.end_lsn)} on."
        )
    if isinstance(at, Latest):
        return
    if at.tzinfo is None:
        raise Permanent("A time to restore to carries its zone, such as 2026-03-01T14:00:00+01:00.")
    if at < coverage.start_at:
        raise Permanent(
            f"{_said(at)} is before what {coverage.label} can restore; the first safe time is "
            f"{_said(coverage.start_at)}."
        )
    if at > coverage.end_at:
        gap = coverage.gaps[0] if coverage.gaps else None
        why = f"WAL is missing from {format_lsn(gap.start)} to {format_lsn(gap.end)}" if gap else "no WAL reaches it"
        raise NotCovered(f"{_said(at)} is not covered: {why}. The last safe time is {_said(coverage.end_at)}.")


def needed_until(coverage: Coverage, *, at: RestoreTo, base: BaseBackup) -> Iterator[WalObject]:
    """Return the WAL that a restore to this time reads, in its order."""
    for one in coverage.needed:
        yield one
        if not isinstance(at, Latest) and one.reached_at > at and one.end >= base.stop_lsn:
            return


def open_wal(store: ObjectStore, one: WalObject, *, archive: WalArchive, identities: Sequence[str]) -> bytes:
    """Fetch and open one object of WAL. Raises `FaultInWal` naming it where it is missing, changed or of elsewhere."""
    size = archive.segment_bytes
    name = segment_name(timeline=one.timeline, start=one.start, segment_bytes=size)
    data = store.observe_object(one.key)
    if data is None:
        raise FaultInWal(f"The WAL {name} is missing from the store.")
    try:
        content = unpacked(data, identities=identities, limit=size)
    except Permanent as error:
        raise FaultInWal(f"The WAL {name} cannot be used. {error.reason}") from None
    if len(content) != one.end - one.start:
        raise FaultInWal(f"The WAL {name} holds {len(content):,} bytes and should hold {one.end - one.start:,}.")
    if one.start % size == 0:
        _check_header(content, name=name, one=one, archive=archive)
    return content


def open_history(store: ObjectStore, switch: TimelineSwitch, *, identities: Sequence[str]) -> bytes:
    """Fetch and open the history file of a timeline."""
    data = store.observe_object(switch.key)
    if data is None:
        raise FaultInWal(f"The history of timeline {switch.timeline} is missing from the store.")
    return unpacked(data, identities=identities, limit=HISTORY_BYTES)


def _check_header(content: bytes, *, name: str, one: WalObject, archive: WalArchive) -> None:
    if len(content) < LONG_HEADER.size:
        raise FaultInWal(f"The WAL {name} is too short to be WAL.")
    _, flags, timeline, address, _, _, system, size, _ = LONG_HEADER.unpack_from(content)
    # A segment that a promotion has begun anew carries pages of the parent's timeline.
    if not flags & LONG_HEADER_FLAG or address != one.start or timeline > one.timeline:
        raise FaultInWal(f"The WAL {name} is another segment than its name says.")
    if str(system) != archive.system_identifier or size != archive.segment_bytes:
        raise FaultInWal(f"The WAL {name} is of another system.")


def _wal_object(found: StoredObject, *, segment_bytes: int) -> WalObject | None:
    name = NAME.search(found.key)
    if name is None or name["segment"][:8] != name["timeline"]:
        return None
    start = segment_start(name["segment"], segment_bytes=segment_bytes)
    is_finished = name["start"] is None
    return WalObject(
        timeline=int(name["timeline"], 16),
        start=start if is_finished else start + int(name["start"], 16),
        end=start + (segment_bytes if is_finished else int(name["end"], 16)),
        reached_at=EPOCH + timedelta(milliseconds=int(name["time"])),
        key=found.key,
        size=found.size,
        is_finished=is_finished,
    )


def _by_segment(archive: WalArchive) -> dict[tuple[int, int], list[WalObject]]:
    segments: dict[tuple[int, int], list[WalObject]] = {}
    for one in archive.objects:
        segments.setdefault((one.timeline, one.start // archive.segment_bytes), []).append(one)
    return segments


def _chain(objects: Iterable[WalObject], *, start: int) -> list[WalObject]:
    """Return the finished segment, else the pieces that follow on each other from its beginning."""
    found = sorted(objects, key=lambda one: (not one.is_finished, one.start, one.end, one.reached_at))
    if not found:
        return []
    if found[0].is_finished:
        return found[:1]
    # A receiver that started anew ships from the beginning again, so pieces overlap.
    chain: list[WalObject] = []
    position = start
    while True:
        following = [one for one in found if one.start <= position < one.end]
        if not following:
            return chain
        chain.append(max(following, key=lambda one: one.end))
        position = chain[-1].end


def _path_from(base: BaseBackup, *, switches: Sequence[TimelineSwitch]) -> list[tuple[int, int]]:
    """Return (timeline, where it begins) from the backup's timeline to its newest descendant."""
    by_timeline = {one.timeline: one for one in switches}
    for newest in sorted(by_timeline, reverse=True):
        path, timeline = [], newest
        while timeline != base.timeline and timeline in by_timeline:
            switch = by_timeline[timeline]
            path.append((timeline, switch.at))
            timeline = switch.parent
        if timeline == base.timeline and path and path[-1][1] >= base.stop_lsn:
            return [(base.timeline, 0), *reversed(path)]
    return [(base.timeline, 0)]


def _timeline_at(path: Sequence[tuple[int, int]], *, number: int, size: int) -> int:
    # The segment in which a timeline begins is read from the new timeline, which holds the parent's part as well.
    return [timeline for timeline, begin in path if begin // size <= number][-1]


def _gap(
    segments: dict[tuple[int, int], list[WalObject]],
    path: Sequence[tuple[int, int]],
    *,
    start: int,
    number: int,
    size: int,
    safe_at: datetime,
) -> WalGap:
    following = number + 1
    while (found := segments.get((_timeline_at(path, number=following, size=size), following))) is None:
        following += 1
    return WalGap(
        timeline=_timeline_at(path, number=number, size=size),
        start=start,
        end=following * size,
        last_safe_at=safe_at,
        goes_on_at=min(one.reached_at for one in found),
    )


def _milliseconds(at: datetime) -> int:
    return int((at - EPOCH) / timedelta(milliseconds=1))


def _said(at: datetime) -> str:
    return at.isoformat(timespec="seconds", sep=" ")
