"""The `ObjectStore` and `Secrets` ports in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from changecontrol.adapters.fakes.script import Call, Script
from changecontrol.errors import Permanent
from changecontrol.ports import StoredObject


class FakeObjectStore:
    """A create-only store of bytes. `objects` is what it holds."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
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
