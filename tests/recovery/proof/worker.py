"""A worker that stands still at a chosen moment, so that a test can kill it there.

`python -m tests.recovery.proof.worker` reads its order as JSON from standard input. Says `begun` at its beginning,
`here` where it stands still, `done` where it has come to its end.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from changecontrol.adapters.object_store import open_store
from changecontrol.errors import Transient
from changecontrol.ports import ObjectLock, ObjectStore, StoredObject
from recovery.adapters.postgres.archiving import WalArchiver
from recovery.adapters.postgres.base import observe_base_backup, take_base_backup
from recovery.adapters.postgres.programs import Programs
from recovery.adapters.postgres.restoring import restore
from recovery.adapters.postgres.wal import observe_archive


class WatchedStore:
    """A store that calls somebody before each of its acts, with the act's name and the key."""

    def __init__(self, store: ObjectStore, before: Callable[[str, str], None]) -> None:
        self._store = store
        self._before = before

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        self._before("ensure_object", key)
        return self._store.ensure_object(key, data)

    def observe_object(self, key: str) -> bytes | None:
        self._before("observe_object", key)
        return self._store.observe_object(key)

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        self._before("observe_range", key)
        return self._store.observe_range(key, start=start, size=size)

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        self._before("observe_objects", prefix)
        return self._store.observe_objects(prefix)

    def observe_lock(self, key: str) -> ObjectLock | None:
        self._before("observe_lock", key)
        return self._store.observe_lock(key)

    def ensure_absent(self, key: str) -> None:
        self._before("ensure_absent", key)
        self._store.ensure_absent(key)

    def observe_reachable(self) -> None:
        self._store.observe_reachable()


def say(word: str) -> None:
    print(word, flush=True)


def halting(order: dict[str, Any]) -> Callable[[str, str], None]:
    """Return what stands still for ever before the act on the key that the order names, the so-manieth time."""
    left = [int(order.get("after", 0))]
    lock = threading.Lock()

    def before(act: str, key: str) -> None:
        if act != order.get("act") or order.get("key", "") not in key:
            return
        with lock:
            left[0] -= 1
            if left[0] >= 0:
                return
            # Others may come here at the same moment: it is said once.
            if left[0] == -1:
                say("here")
        time.sleep(3600)

    return before


def work(order: dict[str, Any]) -> None:
    store = WatchedStore(open_store(order["store"]), halting(order))
    programs = Programs(folder=Path(order["programs"]), major=17)
    say("begun")
    if order["work"] == "back_up":
        take_base_backup(
            url=order["url"],
            programs=programs,
            store=store,
            prefix=order["prefix"],
            label=order["label"],
            recipients=[order["recipient"]],
        )
    elif order["work"] == "archive":
        archiver = WalArchiver(
            url=order["url"],
            slot=order["slot"],
            programs=programs,
            store=store,
            prefix=order["prefix"],
            folder=Path(order["folder"]),
            recipients=[order["recipient"]],
        )
        archiver.start()
        say("here")
        while True:
            with suppress(Transient):
                archiver.ship()
            time.sleep(0.05)
    else:
        base = observe_base_backup(store, prefix=order["prefix"], label=order["label"])
        restore(
            store=store,
            base=base,
            archive=observe_archive(
                store,
                prefix=order["prefix"],
                system_identifier=base.system_identifier,
                segment_bytes=base.segment_bytes,
            ),
            at=datetime.fromisoformat(order["at"]),
            identities=[order["identity"]],
            parent=Path(order["runs"]),
            run_id=order["run_id"],
            programs=programs,
            role="postgres",
        )
        say("here")
        time.sleep(3600)
    say("done")


if __name__ == "__main__":
    work(json.load(sys.stdin))
