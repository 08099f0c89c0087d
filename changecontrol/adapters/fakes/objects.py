"""The `ObjectStore` and `Secrets` ports in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from changecontrol.adapters.fakes.script import Call, Script
from changecontrol.errors import Permanent
from changecontrol.ports import ObjectLock, StoredObject


class FakeObjectStore:
    """A create-only store of bytes. `objects` is what it holds, each as if written at `modified_at`.

    `lock` is what it says of its lock on each of them; None: it does not say.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified_at = datetime(2026, 1, 1, tzinfo=UTC)
        self.lock: ObjectLock | None = None
        self.script = Script()

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        def act() -> StoredObject:
            if self.objects.setdefault(key, data) != data:
                raise Permanent(f"The object {key} exists with other content.")
            return StoredObject(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())

        stored: StoredObject = self.script.run(Call("ensure_object", (key,), {"size": len(data)}), act)
        return stored

    def observe_object(self, key: str) -> bytes | None:
        found: bytes | None = self.script.run(Call("observe_object", (key,)), lambda: self.objects.get(key))
        return found

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        def act() -> bytes | None:
            data = self.objects.get(key)
            return None if data is None else data[start : start + size]

        found: bytes | None = self.script.run(Call("observe_range", (key,), {"start": start, "size": size}), act)
        return found

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        def act() -> list[StoredObject]:
            below = f"{prefix}/"
            return [
                StoredObject(key=key, size=len(data), modified_at=self.modified_at)
                for key, data in self.objects.items()
                if key.startswith(below)
            ]

        yield from self.script.run(Call("observe_objects", (prefix,)), act)

    def observe_lock(self, key: str) -> ObjectLock | None:
        def act() -> ObjectLock | None:
            return self.lock if key in self.objects else None

        found: ObjectLock | None = self.script.run(Call("observe_lock", (key,)), act)
        return found

    def ensure_absent(self, key: str) -> None:
        self.script.run(Call("ensure_absent", (key,)), lambda: self.objects.pop(key, None))

    def observe_reachable(self) -> None:
        self.script.run(Call("observe_reachable"), lambda: None)


class FakeSecrets:
    """Secrets by reference, from a mapping a test may change."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values = dict(values or {})
        self.script = Script()

    def read(self, reference: str) -> str:
        def act() -> str:
            if reference not in self.values:
                raise Permanent("There is no such secret.")
            return self.values[reference]

        value: str = self.script.run(Call("read", (reference,)), act)
        return value
