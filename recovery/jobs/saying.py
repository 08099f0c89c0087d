"""How a job says how far it is, and when each of its phases began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from changecontrol import clock
from changecontrol.ports import ObjectLock, ObjectStore, StoredObject
from changecontrol.workflows.jobs import Report


@dataclass
class Saying:
    """Keeps what was said last: `phases` holds when each began, from which the parts of a recovery are measured."""

    report: Report
    phases: dict[str, str] = field(default_factory=dict)
    _phase: str = ""
    _since: str = ""
    _sentence: str = ""
    _done: int = 0
    _total: int | None = None

    def begin(self, phase: str, sentence: str, *, total_bytes: int | None = None, at: datetime | None = None) -> None:
        """Say that a phase begins, now or at a time that the far side tells."""
        self._since = self.phases[phase] = (at or clock.now()).isoformat()
        self._phase, self._sentence, self._done, self._total = phase, sentence, 0, total_bytes
        self._tell()

    def say(self, sentence: str, *, total_bytes: int | None = None) -> None:
        """Say what is done within the phase."""
        self._since = clock.now().isoformat()
        self._sentence, self._done, self._total = sentence, 0, total_bytes
        self._tell()

    def moved(self, count: int) -> None:
        """Say that so many bytes more were read or written."""
        self._done += count
        self._tell()

    def _tell(self) -> None:
        progress: dict[str, Any] = {"phase": self._phase, "sentence": self._sentence, "done_bytes": self._done}
        times = {"since": self._since, "phases": dict(self.phases)}
        self.report({**progress, "total_bytes": self._total, **times})


class CountedStore:
    """A store whose bytes count as progress, read or written."""

    def __init__(self, store: ObjectStore, saying: Saying) -> None:
        self._store = store
        self._saying = saying

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        stored = self._store.ensure_object(key, data)
        self._saying.moved(len(data))
        return stored

    def observe_object(self, key: str) -> bytes | None:
        data = self._store.observe_object(key)
        self._saying.moved(len(data or b""))
        return data

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        data = self._store.observe_range(key, start=start, size=size)
        self._saying.moved(len(data or b""))
        return data

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        return self._store.observe_objects(prefix)

    def observe_lock(self, key: str) -> ObjectLock | None:
        return self._store.observe_lock(key)

    def ensure_absent(self, key: str) -> None:
        self._store.ensure_absent(key)

    def observe_reachable(self) -> None:
        self._store.observe_reachable()
