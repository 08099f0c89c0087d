"""What a question needs to see of machines elsewhere. Whoever refuses to be asked says nothing of the copy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from changecontrol.errors import Hindered, Permanent
from changecontrol.ports import ObjectLock, ObjectStore, StoredObject
from recovery.adapters.streams import PART_BYTES


@contextmanager
def observing() -> Iterator[None]:
    """Raise `Hindered` for a `Permanent` of the block: a credential that expired is no answer about a backup."""
    try:
        yield
    except Permanent as refusal:
        raise Hindered(refusal.reason) from None


class ObservedStore:
    """A store from which a copy is read. What is missing there is None, and an answer; what it refuses is none.

    Some stores answer for what is missing as for what they do not show (403): that is no answer either.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        return self._store.ensure_object(key, data)

    def observe_object(self, key: str) -> bytes | None:
        with observing():
            return self._store.observe_object(key)

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        with observing():
            return self._store.observe_range(key, start=start, size=size)

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        with observing():
            yield from self._store.observe_objects(prefix)

    def observe_lock(self, key: str) -> ObjectLock | None:
        with observing():
            return self._store.observe_lock(key)

    def ensure_absent(self, key: str) -> None:
        self._store.ensure_absent(key)

    def observe_reachable(self) -> None:
        with observing():
            self._store.observe_reachable()


class SteadyStore(ObservedStore):
    """A store of whose objects any range reads as it did the first time, or not at all.

    What was held against its digest once, to its end, is so what is read of it later: nobody changes it in between.
    `Permanent` says which was. A digest is kept of each part of 8 MiB.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._digests: dict[tuple[str, int], bytes] = {}
        self._last: tuple[tuple[str, int], bytes] | None = None

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        number, offset = divmod(start, PART_BYTES)
        data = self._part(key, number)
        return None if data is None else data[offset : offset + size]

    def _part(self, key: str, number: int) -> bytes | None:
        if self._last is not None and self._last[0] == (key, number):
            return self._last[1]
        data = super().observe_range(key, start=number * PART_BYTES, size=PART_BYTES)
        if data is None:
            return None
        digest = hashlib.sha256(data).digest()
        if self._digests.setdefault((key, number), digest) != digest:
            raise Permanent(f"{key} was changed while it was read.")
        self._last = (key, number), data
        return data
