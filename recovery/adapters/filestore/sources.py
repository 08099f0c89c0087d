"""Filestores in use: a folder, or a bucket. Both hand files over in Odoo's layout, and take a file that vanishes
meanwhile for a fact.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import RawIOBase
from pathlib import Path

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.filestore.names import is_name
from recovery.ports.filestore import FileState, SourceFile

LARGE_BYTES = 4 * 1024 * 1024
PART_BYTES = 1024 * 1024
READS_AT_ONCE = 8
FOLDER = re.compile(r"[0-9a-f]{2}")


class FolderSource:
    """`<data_dir>/filestore/<database>` on a disk this process can read."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def observe_names(self) -> Iterator[str]:
        try:
            folders = sorted(entry.name for entry in os.scandir(self._root) if FOLDER.fullmatch(entry.name))
        except OSError:
            raise Permanent(f"The filestore {self._root} is not there or cannot be read.") from None
        for folder in folders:
            yield from self._names_below(folder)

    def observe_files(self, names: Collection[str]) -> Iterator[SourceFile]:
        for name in names:
            yield self._read(name)

    def stream(self, name: str) -> Iterator[bytes] | None:
        try:
            file = (self._root / name).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError:
            raise Permanent(f"{name} cannot be read.") from None
        return _parts(name, file)

    def _names_below(self, folder: str) -> list[str]:
        try:
            # A named pipe would block its reader for ever, so only plain files count.
            entries = [e.name for e in os.scandir(self._root / folder) if e.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError:
            raise Permanent(f"The folder {folder} of the filestore {self._root} cannot be read.") from None
        return sorted(name for entry in entries if is_name(name := f"{folder}/{entry}"))

    def _read(self, name: str) -> SourceFile:
        try:
            descriptor = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return SourceFile(name, FileState.GONE)
        except OSError:
            return SourceFile(name, FileState.UNREADABLE)
        try:
            return _read_open(name, descriptor)
        except OSError:
            return SourceFile(name, FileState.UNREADABLE)
        finally:
            os.close(descriptor)


class BucketSource:
    """A filestore below a prefix of an object store, where Odoo keeps its attachments in one."""

    def __init__(self, store: ObjectStore, *, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._large: dict[str, int] = {}

    def observe_names(self) -> Iterator[str]:
        names = []
        for stored in self._store.observe_objects(self._prefix):
            name = stored.key.removeprefix(f"{self._prefix}/")
            if is_name(name):
                names.append(name)
                if stored.size > LARGE_BYTES:
                    self._large[name] = stored.size
        # A store need not list in order.
        yield from sorted(names)

    def observe_files(self, names: Collection[str]) -> Iterator[SourceFile]:
        # A request takes milliseconds of waiting; the results that nobody has taken yet are what memory must hold.
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            waiting: deque[Future[SourceFile]] = deque()
            for name in names:
                if len(waiting) == READS_AT_ONCE:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(self._read, name))
            while waiting:
                yield waiting.popleft().result()

    def stream(self, name: str) -> Iterator[bytes] | None:
        key = f"{self._prefix}/{name}"
        first = self._store.observe_range(key, start=0, size=LARGE_BYTES)
        return None if first is None else self._ranges(name, first=first)

    def _ranges(self, name: str, *, first: bytes) -> Iterator[bytes]:
        part: bytes | None = first
        start = 0
        while part:
            yield part
            start += len(part)
            part = self._store.observe_range(f"{self._prefix}/{name}", start=start, size=LARGE_BYTES)
        if part is None:
            raise Permanent(f"{name} went away while it was read.")

    def _read(self, name: str) -> SourceFile:
        if name in self._large:
            return SourceFile(name, FileState.LARGE, self._large[name])
        content = self._store.observe_object(f"{self._prefix}/{name}")
        if content is None:
            return SourceFile(name, FileState.GONE)
        return SourceFile(name, FileState.READ, len(content), content)


def _parts(name: str, file: RawIOBase) -> Iterator[bytes]:
    with file:
        try:
            while part := file.read(PART_BYTES):
                yield part
        except OSError:
            raise Permanent(f"{name} cannot be read to its end.") from None


def _read_open(name: str, descriptor: int) -> SourceFile:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        return SourceFile(name, FileState.UNREADABLE)
    if facts.st_size > LARGE_BYTES:
        return SourceFile(name, FileState.LARGE, facts.st_size)
    content = os.read(descriptor, facts.st_size)
    # A network file system may answer short, which is no truncation.
    while more := os.read(descriptor, PART_BYTES):
        content += more
    return SourceFile(name, FileState.READ, len(content), content)
