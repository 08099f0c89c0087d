"""A point's manifest: which files it holds, and where in which pack each of them lies.

Its text is one line of JSON (what it is and which packs it names), then a line a file, sorted by name:
`sha1 size pack offset`, the pack being its place in the list and the offset that of the content in the pack's tar.
Lines stay bytes: a copy takes some 270 MB of memory for a million files. An index says the same of one pack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from changecontrol.errors import Permanent
from recovery.adapters.filestore.names import name_of

FORMAT = "changecontrol filestore 1"
LINE = re.compile(rb"[0-9a-f]{40} [0-9]+ ([0-9]+) [0-9]+")
DIGEST_LENGTH = 40
"""Of a SHA-1 in hexadecimal, with which every line begins."""


@dataclass(frozen=True, slots=True)
class Part:
    """One stored object of a pack. `sha256` and `size` are those of its encrypted bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Many small files, or a large one. Only that takes more than one part; parts in a row are one age file."""

    id: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a pack."""

    digest: str
    size: int
    pack: int
    offset: int

    @property
    def name(self) -> str:
        return name_of(self.digest)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a point, or for an empty `point` a pack, holds. `lines` are sorted.

    `gone` are the digests of files that a point before had and the source no more, and how often each was held since.
    """

    prefix: str
    point: str
    taken_at: datetime
    packs: tuple[Pack, ...]
    lines: list[bytes]
    gone: Mapping[bytes, int] = field(default_factory=dict)

    def byte_count(self) -> int:
        return sum(int(line.split(b" ", 2)[1]) for line in self.lines)


def format_line(digest: str, *, size: int, pack: int, offset: int) -> bytes:
    return b"%s %d %d %d" % (digest.encode(), size, pack, offset)


def parse_line(line: bytes) -> Entry:
    digest, size, pack, offset = line.decode().split(" ")
    return Entry(digest, int(size), int(pack), int(offset))


def merged(
    *,
    prefix: str,
    point: str,
    taken_at: datetime,
    parts: Iterable[tuple[tuple[Pack, ...], list[bytes]]],
    gone: Mapping[bytes, int] = MappingProxyType({}),
) -> Manifest:
    """Return the manifest of a point from parts of others. Packs of which no line is left are not named."""
    places: dict[Pack, int] = {}
    lines: list[bytes] = []
    for packs, chosen in parts:
        numbers = sorted({int(line.split(b" ", 3)[2]) for line in chosen})
        moves = {number: places.setdefault(packs[number], len(places)) for number in numbers}
        if all(number == moved for number, moved in moves.items()):
            # The usual case, in which a million lines need not be made twice.
            lines += chosen
            continue
        for line in chosen:
            digest, size, place, offset = line.split(b" ")
            lines.append(b"%s %s %d %s" % (digest, size, moves[int(place)], offset))
    lines.sort()
    return Manifest(prefix=prefix, point=point, taken_at=taken_at, packs=tuple(places), lines=lines, gone=gone)


def to_text(manifest: Manifest) -> bytes:
    head = {
        "format": FORMAT,
        "prefix": manifest.prefix,
        "point": manifest.point,
        "taken_at": manifest.taken_at.isoformat(),
        "packs": [[pack.id, [[part.size, part.sha256] for part in pack.parts]] for pack in manifest.packs],
        "gone": {digest.decode(): times for digest, times in manifest.gone.items()},
    }
    return b"\n".join([json.dumps(head).encode(), *manifest.lines])


def from_text(text: bytes, *, key: str) -> Manifest:
    """Return the manifest. Raises `Permanent` for another format."""
    first, *lines = text.split(b"\n")
    try:
        head: Any = json.loads(first)
        if head["format"] != FORMAT:
            raise Permanent(f"The manifest {key} has a format this version does not read.")
        packs = tuple(Pack(pack, tuple(Part(*part) for part in parts)) for pack, parts in head["packs"])
        # What does not name a place in one of the packs would fail later, in the middle of a copy or a restore.
        places = {found[1] if (found := LINE.fullmatch(line)) else b"-1" for line in lines}
        if not {int(place) for place in places} <= set(range(len(packs))):
            raise ValueError
        return Manifest(
            prefix=head["prefix"],
            point=head["point"],
            taken_at=datetime.fromisoformat(head["taken_at"]),
            packs=packs,
            lines=lines,
            gone={digest.encode(): int(times) for digest, times in head.get("gone", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Permanent(f"The manifest {key} is not one.") from None
