"""A pack in the object store: one object, or for a large file several, which in a row are one age file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.filestore.manifest import Pack, Part

PART_BYTES = 32 * 1024 * 1024
"""A pack of small files stays below it; a large file takes several parts."""


class PackUpload:
    """A pack on its way into the store, held until a part is full."""

    def __init__(self, store: ObjectStore, *, pack: str, key_of: Callable[[str, int], str]) -> None:
        self._store = store
        self._pack = pack
        self._key_of = key_of
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._parts: list[Part] = []

    def write(self, data: bytes, /) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= PART_BYTES:
            self._store_part()

    def finish(self) -> Pack:
        if self._held:
            self._store_part()
        return Pack(id=self._pack, parts=tuple(self._parts))

    def _store_part(self) -> None:
        data = b"".join(self._held)
        self._held, self._held_bytes = [], 0
        stored = self._store.ensure_object(self._key_of(self._pack, len(self._parts)), data)
        self._parts.append(Part(size=stored.size, sha256=stored.sha256))


class StoredPack:
    """The parts of a stored pack as one stream, one part in memory at a time."""

    def __init__(self, store: ObjectStore, *, keys: Iterable[str]) -> None:
        self._store = store
        self._keys = iter(keys)
        self._data = io.BytesIO()

    def read(self, size: int, /) -> bytes:
        while not (data := self._data.read(size)):
            key = next(self._keys, None)
            if key is None:
                return b""
            found = self._store.observe_object(key)
            if found is None:
                raise Permanent(f"{key} is not in the store.")
            self._data = io.BytesIO(found)
        return data
