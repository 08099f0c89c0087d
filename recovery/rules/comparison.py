"""What a listing of a store and the catalogue say of each other: names, sizes and dates; no content is read.

A set is whole once its description is written, which comes last: what nobody recorded and has one is for a person to
decide, everything else that nobody recorded is an orphan.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import product

from changecontrol.lifecycles.machine import Word
from changecontrol.rules.counting import counted

GRACE = timedelta(days=2)
"""How old an orphan is before it is collected: older than anything that may still be written."""
YOUNG = timedelta(hours=1)
"""What is younger may be about to be recorded."""
LISTS = "filestore/points"
"""Stands for lists of attachments, of which there is one a minute: they are told together."""
PACKS = "filestore/packs"
_SET = re.compile(r"(.+)-[0-9a-f]{12}\.json\.zst\.age")
_LIST_SUFFIX = ".files.zst.age"


class DifferenceKind(Word):
    MISSING = "missing"
    WAL_MISSING = "wal_missing"
    EMPTY = "empty"
    UNKNOWN_SET = "unknown_set"
    ORPHAN = "orphan"


LOSSES = frozenset({DifferenceKind.MISSING, DifferenceKind.WAL_MISSING, DifferenceKind.EMPTY})
"""What the catalogue promises and a store does not hold."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which they disagree. `size` is in bytes, `stored_at` the date of its newest object."""

    kind: DifferenceKind
    name: str
    sentence: str
    point_id: int | None = None
    object_count: int = 0
    size: int = 0
    stored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NamedPoint:
    """What the catalogue says a point has in a store: objects with their sizes, None where any will do, and streams.

    `stream_size` is that of all streams together, which is what is recorded.
    """

    point_id: int
    key: str
    objects: Mapping[str, int | None]
    streams: tuple[str, ...] = ()
    stream_size: int = 0


@dataclass(frozen=True, slots=True, order=True)
class WalSpan:
    """WAL of one server's timeline from `start` up to, not including, `end`."""

    system_identifier: str
    timeline: int
    start: int
    end: int


def without(spans: Iterable[WalSpan], held: Iterable[WalSpan]) -> list[WalSpan]:
    """Return what of some WAL is not among the WAL held, in order."""
    left = []
    there = sorted(held)
    for span in sorted(spans):
        position = span.start
        for one in there:
            is_same = (one.system_identifier, one.timeline) == (span.system_identifier, span.timeline)
            if not is_same or one.end <= position or one.start >= span.end:
                continue
            if one.start > position:
                left.append(replace(span, start=position, end=one.start))
            position = max(position, one.end)
        if position < span.end:
            left.append(replace(span, start=position))
    return left


@dataclass(slots=True)
class Heap:
    """What lies in a store under the name of one point, or of one list of attachments."""

    count: int = 0
    size: int = 0
    newest_at: datetime | None = None
    is_described: bool = False
    is_list: bool = True

    def add(self, *, size: int, modified_at: datetime | None) -> None:
        self.count += 1
        self.size += size
        if modified_at is not None and (self.newest_at is None or modified_at > self.newest_at):
            self.newest_at = modified_at


@dataclass
class Contents:
    """What lies below a prefix, added up as a listing passes: it grows with points and not with their objects.

    The sizes of `keys` are kept, and those of the parts of `streams`, each upload by itself; of packs of attachments,
    one for 16 MiB, the keys.
    """

    prefix: str
    keys: Collection[str] = ()
    streams: Collection[str] = ()
    count: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    uploads: dict[str, dict[str, int]] = field(default_factory=dict)
    heaps: dict[str, Heap] = field(default_factory=dict)
    packs: set[str] = field(default_factory=set)

    def add(self, key: str, *, size: int, modified_at: datetime | None) -> None:
        self.count += 1
        if key in self.keys:
            self.sizes[key] = size
        if key.startswith(f"{self.prefix}/{PACKS}/"):
            self.packs.add(key)
        stream, is_part, part = key.partition(".parts/")
        if is_part and stream in self.streams:
            upload = self.uploads.setdefault(stream, {})
            attempt = part.partition("/")[0]
            upload[attempt] = upload.get(attempt, 0) + size
        name, is_described, is_list = _owner_of(key.removeprefix(f"{self.prefix}/"))
        if name:
            heap = self.heaps.setdefault(name, Heap())
            heap.add(size=size, modified_at=modified_at)
            heap.is_described |= is_described
            heap.is_list &= is_list

    def has_streams_of(self, point: NamedPoint) -> bool:
        """Tell whether some upload of each stream is there whose sizes make what was recorded."""
        uploads = [self.uploads.get(key, {}).values() for key in point.streams]
        return any(sum(sizes) == point.stream_size for sizes in product(*uploads))

    def unknown(self, known: Collection[str], *, removed: Collection[str], at: datetime) -> Iterator[Difference]:
        """Yield what no row names. `removed` are names of points that are gone by the catalogue."""
        others = {name: heap for name, heap in self.heaps.items() if name not in known and _is_old(heap, at)}
        for name, heap in sorted(others.items()):
            if not heap.is_list:
                yield _unknown(name, heap, was_removed=name in removed)
        if lists := [heap for heap in others.values() if heap.is_list]:
            yield Difference(
                kind=DifferenceKind.ORPHAN,
                name=LISTS,
                sentence=f"Nothing names {counted(len(lists), 'list')} of attachments.",
                object_count=sum(one.count for one in lists),
                size=sum(one.size for one in lists),
                stored_at=max(one.newest_at for one in lists if one.newest_at is not None),
            )

    def lists_before(self, at: datetime, *, known: Collection[str]) -> list[str]:
        """Return the names of lists of attachments that no row names and that were stored before a time."""
        heaps = ((name, heap) for name, heap in self.heaps.items() if heap.is_list and name not in known)
        return sorted(name for name, heap in heaps if heap.newest_at is not None and heap.newest_at < at)


def _unknown(name: str, heap: Heap, *, was_removed: bool) -> Difference:
    kind = DifferenceKind.ORPHAN
    if was_removed:
        sentence = f"The point {name} was removed, and this of it is still there."
    elif heap.is_described:
        kind = DifferenceKind.UNKNOWN_SET
        sentence = f"A whole recovery point, {name}, that the catalogue does not name. It stays until somebody decides."
    else:
        sentence = f"The backup {name} ended before it was a whole point."
    return Difference(kind, name, sentence, object_count=heap.count, size=heap.size, stored_at=heap.newest_at)


def _is_old(heap: Heap, at: datetime) -> bool:
    return heap.newest_at is not None and heap.newest_at <= at - YOUNG


def _owner_of(place: str) -> tuple[str, bool, bool]:
    """Return under whose name an object lies, whether it describes a set, and whether it is a list of attachments."""
    match place.split("/"):
        case ["base" | "dump", name, _, *_]:
            return name, False, False
        case ["sets", file] if found := _SET.fullmatch(file):
            return found[1], True, False
        case ["filestore", "points", file] if file.endswith(_LIST_SUFFIX):
            return file.removesuffix(_LIST_SUFFIX), False, True
    return "", False, False
