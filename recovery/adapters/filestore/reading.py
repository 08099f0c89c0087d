"""Read points back: verify their packs, and hand every file to whoever keeps or only hashes it.

A file counts once its SHA-1 is what its name says; what does not is named and does not stop the rest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Protocol

from changecontrol.errors import Permanent, Transient
from recovery.adapters.encryption import Source
from recovery.adapters.filestore.manifest import DIGEST_LENGTH, Entry, Manifest, Pack, Part, parse_line
from recovery.adapters.filestore.packs import PackReader
from recovery.ports.filestore import FilestoreFinding, FilestoreRead, FindingKind

STATE_FOLDER = ".changecontrol-restore"
"""In a target until its restore is done: what is being restored, and the files being written."""


class Keep(Protocol):
    """Where a file's content goes. Nothing is kept of a file before its block ends without an exception."""

    def __call__(self, entry: Entry) -> AbstractContextManager[Callable[[bytes], object]]: ...


def read_files(
    manifest: Manifest,
    *,
    digests: Collection[bytes] | None,
    open_pack: Callable[[Pack], Source],
    identity: str,
    keep: Keep,
    has: Callable[[Entry], bool],
    worker_count: int,
) -> FilestoreRead:
    """Read the files of these digests, or all, but for those that are there already (`has`)."""
    wanted: dict[int, list[bytes]] = defaultdict(list)
    for line in manifest.lines:
        if digests is None or line[:DIGEST_LENGTH] in digests:
            wanted[int(line.split(b" ", 3)[2])].append(line)

    def read(number: int) -> FilestoreRead:
        entries = sorted(map(parse_line, wanted[number]), key=attrgetter("offset"))
        there = [entry for entry in entries if has(entry)]
        done = {entry.digest for entry in there}
        left = [entry for entry in entries if entry.digest not in done]
        earlier = FilestoreRead(len(there), sum(entry.size for entry in there))
        if not left:
            return earlier
        pack = manifest.packs[number]
        return joined([earlier, _read_pack(pack, left, open_pack=open_pack, identity=identity, keep=keep)])

    with ThreadPoolExecutor(worker_count) as pool:
        return joined(list(pool.map(read, wanted)))


def joined(results: list[FilestoreRead]) -> FilestoreRead:
    return FilestoreRead(
        file_count=sum(result.file_count for result in results),
        byte_count=sum(result.byte_count for result in results),
        findings=tuple(sorted(finding for result in results for finding in result.findings)),
    )


def _read_pack(
    pack: Pack, entries: list[Entry], *, open_pack: Callable[[Pack], Source], identity: str, keep: Keep
) -> FilestoreRead:
    findings: list[FilestoreFinding] = []
    read: list[Entry] = []
    try:
        reader = PackReader(open_pack(pack), identity=identity)
        for entry in entries:
            if _kept(entry, reader.parts(entry), keep=keep):
                read.append(entry)
            else:
                findings.append(_changed(entry))
    except Permanent as problem:
        left = entries[len(read) + len(findings) :]
        findings += [
            FilestoreFinding(entry.name, FindingKind.MISSING, f"{entry.name} cannot be read. {problem.reason}")
            for entry in left
        ]
    return FilestoreRead(len(read), sum(entry.size for entry in read), tuple(findings))


class _WrongContent(Exception):
    pass


def _kept(entry: Entry, parts: Iterator[bytes], *, keep: Keep) -> bool:
    seen = hashlib.sha1(usedforsecurity=False)
    try:
        with keep(entry) as write:
            for part in parts:
                seen.update(part)
                write(part)
            if seen.hexdigest() != entry.digest:
                raise _WrongContent
    except _WrongContent:
        return False
    return True


def _changed(entry: Entry) -> FilestoreFinding:
    sentence = f"{entry.name} has content that its name, its SHA-1, does not fit."
    return FilestoreFinding(entry.name, FindingKind.CHANGED, sentence)


@contextmanager
def discard(entry: Entry) -> Iterator[Callable[[bytes], object]]:
    """Keep nothing."""
    yield len


class TargetFolder:
    """An empty folder that a filestore is restored into, or one in which the same restore was killed.

    Raises `Permanent` for any other. Files come to their place by rename, so that what is there is whole.
    """

    def __init__(self, target: Path, *, restoring: str) -> None:
        self._target = target
        self._state = target / STATE_FOLDER
        marker = self._state / "point"
        try:
            target.mkdir(parents=True, exist_ok=True)
            is_resumed = marker.is_file() and marker.read_bytes() == restoring.encode()
            if not is_resumed and any(entry != STATE_FOLDER or marker.exists() for entry in os.listdir(target)):
                raise Permanent(
                    f"The folder {target} is not empty, and a filestore is restored into an empty one only."
                )
            self._state.mkdir(exist_ok=True)
            (self._state / "point.new").write_text(restoring)
            (self._state / "point.new").rename(marker)
        except OSError as error:
            raise _not_written(target, error) from None

    def has(self, entry: Entry) -> bool:
        """Say whether the file is there with the right content, from a restore that was killed."""
        try:
            with (self._target / entry.name).open("rb", buffering=0) as file:
                return hashlib.file_digest(file, "sha1").hexdigest() == entry.digest
        except OSError:
            return False

    @contextmanager
    def keep(self, entry: Entry) -> Iterator[Callable[[bytes], object]]:
        new = self._state / entry.digest
        place = self._target / entry.name
        try:
            with new.open("wb") as file:
                yield file.write
            place.parent.mkdir(exist_ok=True)
            new.rename(place)
        except OSError as error:
            raise _not_written(self._target, error) from None

    def finish(self) -> None:
        shutil.rmtree(self._state, ignore_errors=True)


def _not_written(target: Path, error: OSError) -> Transient:
    return Transient(f"The filestore could not be restored to {target}: {error.strerror}.")


def damaged_part(part: Part, *, key: str, data: bytes | None, others: Mapping[str, str]) -> FilestoreFinding | None:
    """Return what is wrong with a stored part of a pack. `others` are the keys of the point's parts by digest."""
    if data is None:
        return FilestoreFinding(key, FindingKind.MISSING, f"{key} is not in the store.")
    digest = hashlib.sha256(data).hexdigest()
    if digest == part.sha256:
        return None
    if digest in others:
        return FilestoreFinding(key, FindingKind.SWAPPED, f"{key} holds what belongs into {others[digest]}.")
    if len(data) < part.size:
        sentence = f"{key} is truncated: {len(data):,} of {part.size:,} bytes are there."
        return FilestoreFinding(key, FindingKind.TRUNCATED, sentence)
    return FilestoreFinding(key, FindingKind.CHANGED, f"{key} holds other bytes than were written.")
