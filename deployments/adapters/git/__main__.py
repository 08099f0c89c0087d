"""The process that fetches (`fetching`): reads an order, notes how far it is, and leaves behind what went wrong."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

import pygit2

from changecontrol.errors import Permanent, Transient
from deployments.adapters.git import open_repository
from deployments.adapters.git.fetching import BUSY, is_locked_by_us, note_of, size_words

LASTS_SECONDS = 1800
LARGEST_BYTES = 5 * 10**9
NOTE_EVERY_SECONDS = 0.25


class Given:
    """Holds the secret that came with the order."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def read(self, reference: str) -> str:
        return self._secret


class Notes:
    """Writes into the file whose lock it holds."""

    def __init__(self, file: IO[str], *, is_first: bool, stalled_seconds: int) -> None:
        self._stalled_seconds = stalled_seconds
        self._ends_at = time.monotonic() + LASTS_SECONDS
        self._file = file
        self._is_first = is_first
        self._noted_at = 0.0

    def write(self, state: str, **facts: Any) -> None:
        text = json.dumps({"state": state, "at": time.time(), "is_first": self._is_first, **facts})
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def clear(self) -> None:
        self._file.truncate(0)

    def progress(self, received: int) -> None:
        if received > LARGEST_BYTES:
            raise Permanent(f"The Git source is larger than {size_words(LARGEST_BYTES)}, which is too much to mirror.")
        # Without a handler this ends the process: what is noted then tells whoever asks next.
        signal.alarm(max(1, min(self._stalled_seconds, int(self._ends_at - time.monotonic()))))
        if time.monotonic() >= self._noted_at + NOTE_EVERY_SECONDS:
            self._noted_at = time.monotonic()
            self.write("going", bytes=received)


def main() -> int:
    begun = time.monotonic()
    order = json.load(sys.stdin)
    mirror = Path(order["mirror"])
    with note_of(mirror).open("a+") as file:
        if not is_locked_by_us(file):
            return BUSY
        os.nice(5)
        notes = Notes(file, is_first=not mirror.exists(), stalled_seconds=order["stalled_seconds"])
        notes.progress(0)
        for part in mirror.glob("objects/pack/*_git2_*"):
            part.unlink(missing_ok=True)  # what an earlier fetch that was killed had got so far
        try:
            _fetch(order, mirror, notes)
        except (Transient, Permanent) as trouble:
            notes.write("permanent" if isinstance(trouble, Permanent) else "transient", reason=trouble.reason)
            return 1
        if time.monotonic() < begun + order["wait_seconds"]:
            notes.clear()
        else:
            # Nobody waits any more. Whoever asks next need not fetch again, or a slow server would be asked for ever.
            notes.write("done", begun_at=order["begun_at"])
    return 0


def _fetch(order: dict[str, Any], mirror: Path, notes: Notes) -> None:
    source = open_repository(
        url=order["url"],
        mirror=mirror,
        credential="" if order["secret"] is None else "given",
        secrets=None if order["secret"] is None else Given(order["secret"]),
        is_local_allowed=order["is_local_allowed"],
        hosts=order["hosts"],
    )
    pygit2.settings.server_timeout = order["silent_milliseconds"]
    source.fetch_here(progress=notes.progress)


if __name__ == "__main__":
    raise SystemExit(main())
