"""Read what the archive lacks, and pack it. Workers share one walk through the source; each fills its own packs."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from changecontrol.errors import Permanent
from recovery.adapters.encryption import Sink
from recovery.adapters.filestore.manifest import DIGEST_LENGTH, Manifest, Pack
from recovery.adapters.filestore.packs import PackWriter
from recovery.ports.filestore import FileState, FilestoreFinding, FilestoreSource, FindingKind, SourceFile

PACK_BYTES = 16 * 1024 * 1024
BATCH_COUNT = 256
"""Names a worker takes at once: fewer than that make one pack, not one for each worker."""
GONE_TIMES = 2
"""How many copies still hold a file that the source no more has."""
SETTLE_SECONDS, SETTLE_ROUNDS = 0.2, 50
"""How long a file that is being written is waited for: as long as it changes from look to look, 10 s at most."""


class Packs(Protocol):
    """Where packs go."""

    def begin_pack(self) -> PackUpload: ...

    def ensure_index(self, pack: Pack, *, lines: list[bytes]) -> None:
        """Say beside a stored pack what it holds, so that a copy which is killed later can be gone on from."""


class PackUpload(Sink, Protocol):
    def finish(self) -> Pack:
        """Store what is left, and say what was stored."""


@dataclass(slots=True)
class Packed:
    """What one worker did."""

    parts: list[tuple[tuple[Pack, ...], list[bytes]]] = field(default_factory=list)
    copied_bytes: int = 0
    vanished: list[str] = field(default_factory=list)
    wrong: list[FilestoreFinding] = field(default_factory=list)


@dataclass(slots=True)
class Walk:
    """The names of a source against the lines of a base: `kept` gathers the lines that go on.

    Iterate over it for the names that the base lacks. Lines that the source no more has go on twice, as `gone`: a file
    that Odoo collected is named by the database at every time until it was, which may be after this copy began.
    """

    base: Manifest
    names: Iterable[str]
    kept: list[bytes] = field(default_factory=list)
    gone: dict[bytes, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        lines = iter(self.base.lines)
        line = next(lines, b"")
        for name in self.names:
            digest = name[3:].encode()
            while line and line[:DIGEST_LENGTH] < digest:
                self._let_go(line)
                line = next(lines, b"")
            if line[:DIGEST_LENGTH] == digest:
                self.kept.append(line)
                line = next(lines, b"")
            else:
                yield name
        for left in itertools.chain([line] if line else [], lines):
            self._let_go(left)

    def _let_go(self, line: bytes) -> None:
        digest = line[:DIGEST_LENGTH]
        if (times := self.base.gone.get(digest, 0)) < GONE_TIMES:
            self.kept.append(line)
            self.gone[digest] = times + 1


def packed(
    names: Iterable[str],
    *,
    source: FilestoreSource,
    packs: Packs,
    recipients: Sequence[str],
    worker_count: int,
) -> list[Packed]:
    """Pack the files. A wrong file is named and left out; the first failure of source or store ends the whole."""
    feed = _Feed(names)

    def work() -> Packed:
        worker = _Worker(source, packs=packs, recipients=recipients)
        try:
            worker.run(feed)
        except BaseException:
            feed.end()
            raise
        return worker.done

    with ThreadPoolExecutor(worker_count) as pool:
        futures = [pool.submit(work) for _ in range(worker_count)]
    return [future.result() for future in futures]


class _Feed:
    """Batches of names for several workers, out of one iterator."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = iter(names)
        self._lock = threading.Lock()

    def next(self) -> list[str]:
        with self._lock:
            return list(itertools.islice(self._names, BATCH_COUNT))

    def end(self) -> None:
        with self._lock:
            self._names = iter(())


class _Worker:
    def __init__(self, source: FilestoreSource, *, packs: Packs, recipients: Sequence[str]) -> None:
        self.done = Packed()
        self._source = source
        self._packs = packs
        self._recipients = recipients
        self._doubtful: dict[str, str] = {}

    def run(self, feed: _Feed) -> None:
        files = self._files(feed)
        for first in files:
            # A pack is begun once there is a file for it, so that none is empty.
            self._fill_pack(itertools.chain([first], files))

    def _files(self, feed: _Feed) -> Iterator[SourceFile]:
        """Yield the files whose content is what their name says; name the others."""
        while names := feed.next():
            yield from self._right(names)
        for _ in range(SETTLE_ROUNDS):
            if not self._doubtful:
                return
            # Odoo writes a file where it is read: what was half there is whole a moment later.
            time.sleep(SETTLE_SECONDS)
            before, self._doubtful = self._doubtful, {}
            yield from self._right(list(before))
            for name in [name for name, digest in self._doubtful.items() if digest == before[name]]:
                self._refuse_changed(name)
                del self._doubtful[name]
        for name in self._doubtful:
            self._refuse_changed(name)

    def _right(self, names: Collection[str]) -> Iterator[SourceFile]:
        """Yield those of the files that are right, and remember what the others held."""
        for file in self._source.observe_files(names):
            if file.state is FileState.GONE:
                self.done.vanished.append(file.name)
            elif file.state is FileState.UNREADABLE:
                self._refuse(file.name, FindingKind.UNREADABLE, "cannot be read")
            elif file.state is FileState.LARGE:
                yield from self._large(file)
            elif (digest := _sha1(file.content)) == file.name[3:]:
                yield file
            else:
                self._doubtful[file.name] = digest

    def _large(self, file: SourceFile) -> Iterator[SourceFile]:
        """Yield the file if one pass over it shows the right content: it does not fit into memory."""
        size, seen = 0, hashlib.sha1(usedforsecurity=False)
        try:
            parts = self._source.stream(file.name)
            if parts is None:
                self.done.vanished.append(file.name)
                return
            for part in parts:
                size += len(part)
                seen.update(part)
        except Permanent:
            self._refuse(file.name, FindingKind.UNREADABLE, "cannot be read to its end")
            return
        if seen.hexdigest() == file.name[3:]:
            yield SourceFile(file.name, FileState.LARGE, size)
        else:
            self._doubtful[file.name] = seen.hexdigest()

    def _fill_pack(self, files: Iterator[SourceFile]) -> None:
        upload = self._packs.begin_pack()
        writer = PackWriter(upload, recipients=self._recipients)
        for file in files:
            if file.state is FileState.READ:
                writer.add(file.name[3:], file.content)
            else:
                self._add_large(writer, file)
            if writer.size >= PACK_BYTES:
                break
        writer.close()
        pack = upload.finish()
        self._packs.ensure_index(pack, lines=writer.lines)
        self.done.parts.append(((pack,), writer.lines))
        self.done.copied_bytes += sum(int(line.split(b" ", 2)[1]) for line in writer.lines)

    def _add_large(self, writer: PackWriter, file: SourceFile) -> None:
        parts = self._source.stream(file.name)
        if parts is None:
            self.done.vanished.append(file.name)
        elif not writer.add_parts(file.name[3:], parts, size=file.size):
            self._refuse_changed(file.name)

    def _refuse_changed(self, name: str) -> None:
        self._refuse(name, FindingKind.CHANGED, "has content at the source that its name, its SHA-1, does not fit")

    def _refuse(self, name: str, kind: FindingKind, words: str) -> None:
        self.done.wrong.append(FilestoreFinding(name, kind, f"{name} {words}; it is not in the point."))


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
