"""A copy of which one part is broken on purpose (BCK-9): what was written stays as it is, and is read broken.

Nothing is ever written: the store that a drill reads through answers for one object as if it had been truncated,
flipped, removed or swapped. Which one is drawn by the drill's own key, so that a report can be gone over again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectLock, ObjectStore, StoredObject
from recovery import doors
from recovery.adapters.streams import observe_stream_keys
from recovery.jobs import attachments
from recovery.models import BackupPolicy, Drill
from recovery.models.drill import Sabotage
from recovery.models.point import PartKind
from recovery.models.policy import Engine
from recovery.queries.attachments import copy_for

MOST_BYTES = 64 * 1024 * 1024
"""What is broken is held in memory. Our own objects are smaller; those of another tool may be of any size."""


class SabotagedStore:
    """A store that can only be read, and of which one object is not what it was."""

    def __init__(self, store: ObjectStore, *, key: str, how: Sabotage, other: str, chance: random.Random) -> None:
        self._store = store
        self.key = key
        self.how = how
        self._other = other
        self._chance = chance
        self._broken: bytes | None = None
        self._is_drawn = False

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        raise Permanent("A sabotaged copy is only read.")

    def ensure_absent(self, key: str) -> None:
        raise Permanent("A sabotaged copy is only read.")

    def observe_object(self, key: str) -> bytes | None:
        return self._read() if key == self.key else self._store.observe_object(key)

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        if key != self.key:
            return self._store.observe_range(key, start=start, size=size)
        data = self._read()
        return None if data is None else data[start : start + size]

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        for one in self._store.observe_objects(prefix):
            if one.key != self.key or self.how != Sabotage.REMOVE:
                yield one

    def observe_lock(self, key: str) -> ObjectLock | None:
        return self._store.observe_lock(key)

    def observe_reachable(self) -> None:
        self._store.observe_reachable()

    def _read(self) -> bytes | None:
        if not self._is_drawn:
            self._broken, self._is_drawn = self._break(), True
        return self._broken

    def _break(self) -> bytes | None:
        data = self._store.observe_object(self.key) or b""
        if self.how == Sabotage.REMOVE:
            return None
        if self.how == Sabotage.SWAP:
            return self._store.observe_object(self._other)
        place = self._chance.randrange(max(1, len(data)))
        if self.how == Sabotage.TRUNCATE:
            return data[:place]
        return data[:place] + bytes([data[place] ^ 1 << self._chance.randrange(8)]) + data[place + 1 :]


def sabotaged(drill: Drill) -> SabotagedStore:
    """Return the store of a drill's environment with one object of its point, or of what follows it, broken."""
    policy = drill.point.policy
    store = doors.open_store_to_read(policy)
    chance = random.Random(str(drill.key))  # noqa: S311  drawn, not secret
    keys = sorted(_keys(drill, policy, store))
    if len(keys) < 2:
        raise Permanent("There is nothing of this point in the store that could be broken.")
    key, other = chance.sample(keys, 2)
    return SabotagedStore(store, key=key, how=Sabotage(drill.sabotage), other=other, chance=chance)


def _keys(drill: Drill, policy: BackupPolicy, store: ObjectStore) -> Iterator[str]:
    """Yield what the drill must read: parts of the database, packs of attachments and the lists that name them."""
    # Neither the facts beside them, which the catalogue has, nor what an attempt left that was killed.
    if policy.engine in (Engine.POSTGRES, Engine.PG_DUMP):
        for part in drill.point.parts.filter(kind__in=[PartKind.DATABASE, PartKind.DATABASE_MANIFEST]):
            yield from observe_stream_keys(store, part.key)
    if policy.engine == Engine.EXTERNAL:
        # Whole, for it is broken in memory.
        files = drill.point.parts.filter(size__lte=MOST_BYTES).values_list("key", flat=True)
        yield from (f"{doors.prefix_of(policy.environment)}/{key}" for key in files)
        return
    yield from drill.point.parts.filter(kind=PartKind.CONFIGURATION).values_list("key", flat=True)
    if (copy := copy_for(drill.point, drill.target_at)) is not None:
        yield from attachments.archive_of(policy, store).observe_keys(attachments.point_of(copy))
