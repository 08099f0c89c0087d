"""Objects of any size as parts: written once, never half-visible, read back with every byte checked.

A multipart upload of S3 cannot be made create-only through obstore, and what a killed one leaves cannot be listed. So a
stream is stored as parts, each an object of its own below `KEY.parts/`, and a head at `KEY` that names their sizes and
digests and is written last: until then there is no stream. Concatenated in the order of their names the parts are the
content. Memory is a few parts, whatever the size.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore

Result = TypeVar("Result")

PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 2
UPLOADS_AT_ONCE = 4
"""So many parts are on their way while the next is made: a store that takes its time does not hold up what packs."""
RETRY_SECONDS = (0.5, 1, 2, 4, 8, 16)
"""A backup of hours outlives a store that stumbles: so long it waits between attempts at one part."""
FORMAT = "changecontrol.parts/1"
PARTS_SUFFIX = ".parts"


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `name` is what follows `KEY.parts/`; `size` is in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredStream:
    """A stream that is whole. `sha256` is its head's digest, which covers the digest of every part."""

    key: str
    size: int
    sha256: str
    parts: tuple[Part, ...]


class StreamWriter:
    """Write a stream. `close` makes it visible; a block left by an exception removes what was uploaded.

    Raises `Permanent` at `close` where the key is taken already; the stream there stays as it is.
    """

    def __init__(
        self, store: ObjectStore, key: str, *, part_bytes: int = PART_BYTES, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._store = store
        self._key = key
        self._part_bytes = part_bytes
        self._sleep = sleep
        # Attempts never meet: what a killed one left is neither overwritten nor taken for a part of this one.
        self._attempt = secrets.token_hex(8)
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._parts: list[Part] = []
        self._uploads: deque[Future[Part]] = deque()
        self._names: list[str] = []
        self._pool = ThreadPoolExecutor(max_workers=UPLOADS_AT_ONCE, thread_name_prefix="upload")
        self.stored: StoredStream | None = None

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        size = len(data)
        # Bytes never change, so they are kept as they came and copied once, when their part is whole.
        rest = data if isinstance(data, bytes) else bytes(data)
        while self._held_bytes + len(rest) >= self._part_bytes:
            room = self._part_bytes - self._held_bytes
            self._hold(rest[:room])
            self._upload_held()
            rest = rest[room:]
        self._hold(rest)
        return size

    def close(self) -> StoredStream:
        """Upload what is left, compare the sizes the store reports, and write the head."""
        if self.stored is not None:
            return self.stored
        try:
            if self._held_bytes or not self._names:
                self._upload_held()
            while self._uploads:
                self._parts.append(self._uploads.popleft().result())
            self._check_sizes()
            self.stored = self._write_head()
        except BaseException:
            self.abort()
            raise
        self._pool.shutdown()
        return self.stored

    def abort(self) -> None:
        """Remove what was uploaded, as far as the store lets us; what stays is found by `leftovers`."""
        self._pool.shutdown(cancel_futures=True)
        for name in self._names:
            try:
                self._store.ensure_absent(_part_key(self._key, name))
            except (Transient, Permanent):
                # Whoever may only create cannot delete; the store is perhaps what failed.
                return

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._held_bytes += len(data)

    def _upload_held(self) -> None:
        data = b"".join(self._held)
        self._held, self._held_bytes = [], 0
        while len(self._uploads) >= UPLOADS_AT_ONCE:
            self._parts.append(self._uploads.popleft().result())
        name = f"{self._attempt}/{len(self._names):08d}"
        self._names.append(name)
        self._uploads.append(self._pool.submit(self._store_part, name, data))

    def _store_part(self, name: str, data: bytes) -> Part:
        key = _part_key(self._key, name)
        stored = _patiently(lambda: self._store.ensure_object(key, data), sleep=self._sleep)
        return Part(name=name, size=stored.size, sha256=stored.sha256)

    def _check_sizes(self) -> None:
        prefix = _part_key(self._key, self._attempt)
        listed = _patiently(
            lambda: {one.key: one.size for one in self._store.observe_objects(prefix)}, sleep=self._sleep
        )
        wanted = {_part_key(self._key, part.name): part.size for part in self._parts}
        if listed != wanted:
            raise Transient(f"The object store does not hold all that was written of {self._key}.")

    def _write_head(self) -> StoredStream:
        size = sum(part.size for part in self._parts)
        head = {"format": FORMAT, "size": size, "parts": [asdict(part) for part in self._parts]}
        data = json.dumps(head, separators=(",", ":")).encode()
        stored = _patiently(lambda: self._store.ensure_object(self._key, data), sleep=self._sleep)
        return StoredStream(key=self._key, size=size, sha256=stored.sha256, parts=tuple(self._parts))


class StreamReader(io.RawIOBase):
    """Read a stream, a few parts ahead. Raises `Permanent` naming a part that is missing or not what was written."""

    def __init__(self, store: ObjectStore, key: str, *, sha256: str = "") -> None:
        self._stream = observe_stream(store, key, sha256=sha256)
        self._store = store
        self._parts = iter(self._stream.parts)
        self._ahead: deque[Future[bytes]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=PARTS_AT_ONCE, thread_name_prefix="download")
        self._plain = memoryview(b"")
        self._fetch_ahead()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        part = self._take(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def read(self, size: int = -1, /) -> bytes:
        return self.readall() if size < 0 else bytes(self._take(size))

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(PART_BYTES), b""))

    def _take(self, size: int) -> memoryview:
        while not self._plain and self._ahead:
            self._plain = memoryview(self._ahead.popleft().result())
            self._fetch_ahead()
        part, self._plain = self._plain[:size], self._plain[size:]
        return part

    def _fetch_ahead(self) -> None:
        while len(self._ahead) < PARTS_AT_ONCE and (part := next(self._parts, None)) is not None:
            self._ahead.append(self._pool.submit(_checked_part, self._store, self._stream.key, part))


def observe_stream(store: ObjectStore, key: str, *, sha256: str = "") -> StoredStream:
    """Return what the head says. Raises `Permanent` where there is none, or its digest is not the one given."""
    return _told(key, _patiently(lambda: store.observe_object(key), sleep=time.sleep), sha256=sha256)


def observe_stream_keys(store: ObjectStore, key: str) -> tuple[str, ...]:
    """Return the keys of what makes a stream: its head and the parts that it names."""
    return (key, *(_part_key(key, part.name) for part in observe_stream(store, key).parts))


def observe_stream_gap(store: ObjectStore, key: str) -> str:
    """Say what of a stream is missing or has another size, as the store lists it; empty where nothing is.

    The head is read and no part. What the store refuses or cannot answer is raised, and is no gap.
    """
    data = _patiently(lambda: store.observe_object(key), sleep=time.sleep)
    listed = {one.key: one.size for one in store.observe_objects(f"{key}{PARTS_SUFFIX}")}
    try:
        stream = _told(key, data)
    except Permanent as wrong:
        return wrong.reason
    return next((problem for part in stream.parts if (problem := _size_problem(key, part, listed))), "")


def _size_problem(key: str, part: Part, listed: Mapping[str, int]) -> str:
    size = listed.get(_part_key(key, part.name))
    if size is None:
        return f"Part {_number(part)} of {key} is missing from the store."
    return "" if size == part.size else _wrong_size(key, part, size)


def _told(key: str, data: bytes | None, *, sha256: str = "") -> StoredStream:
    """Return what a head says. Raises `Permanent` where there is none, or it is not the one that was written."""
    if data is None:
        raise Permanent(f"There is no object {key} in the store.")
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise Permanent(f"The object {key} is not the one that was written: its digest is another.")
    try:
        head: dict[str, Any] = json.loads(data)
        parts = tuple(Part(**part) for part in head["parts"])
        size = int(head["size"])
        is_ours = head["format"] == FORMAT and size == sum(part.size for part in parts)
    except (ValueError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise Permanent(f"The object {key} does not describe a stream of parts, or was changed.")
    return StoredStream(key=key, size=size, sha256=digest, parts=parts)


def verify_stream(store: ObjectStore, key: str, *, sha256: str = "") -> StoredStream:
    """Read every byte back from the store. Raises `Permanent` naming what is missing or changed."""
    stream = observe_stream(store, key, sha256=sha256)
    with ThreadPoolExecutor(max_workers=PARTS_AT_ONCE) as pool:
        for start in range(0, len(stream.parts), PARTS_AT_ONCE):
            some = stream.parts[start : start + PARTS_AT_ONCE]
            for _ in pool.map(lambda part: len(_checked_part(store, key, part)), some):
                pass
    return stream


def ensure_stream_absent(store: ObjectStore, key: str) -> None:
    """Delete a stream, its head first so that it is never seen without its parts."""
    store.ensure_absent(key)
    for found in list(store.observe_objects(f"{key}{PARTS_SUFFIX}")):
        store.ensure_absent(found.key)


def leftovers(store: ObjectStore, prefix: str, *, before: datetime) -> Iterator[str]:
    """Return the keys of parts below a prefix that no head names and that were written before a time."""
    named: dict[str, frozenset[str]] = {}
    for found in store.observe_objects(prefix):
        key, suffix, name = found.key.partition(f"{PARTS_SUFFIX}/")
        if not suffix or found.modified_at is None or found.modified_at >= before:
            continue
        if key not in named:
            is_whole = store.observe_object(key) is not None
            named[key] = frozenset(part.name for part in observe_stream(store, key).parts) if is_whole else frozenset()
        if name not in named[key]:
            yield found.key


def _checked_part(store: ObjectStore, key: str, part: Part) -> bytes:
    data = _patiently(lambda: store.observe_object(_part_key(key, part.name)), sleep=time.sleep)
    if data is None:
        raise Permanent(f"Part {_number(part)} of {key} is missing from the store.")
    if len(data) != part.size:
        raise Permanent(_wrong_size(key, part, len(data)))
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise Permanent(f"Part {_number(part)} of {key} was changed: its digest is another.")
    return data


def _number(part: Part) -> int:
    return int(part.name.rpartition("/")[2]) + 1


def _wrong_size(key: str, part: Part, size: int) -> str:
    return f"Part {_number(part)} of {key} has {size:,} bytes and should have {part.size:,}."


def _part_key(key: str, name: str) -> str:
    return f"{key}{PARTS_SUFFIX}/{name}"


def _patiently(act: Callable[[], Result], *, sleep: Callable[[float], None]) -> Result:
    """Ask again while the store cannot answer; raise its last `Transient` after that."""
    for seconds in RETRY_SECONDS:
        try:
            return act()
        except Transient as error:
            sleep(error.after if error.after is not None else seconds)
    return act()
