"""Compressed and encrypted bytes: whole for what is small, as a stream for what is not."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, cast

import zstandard

from changecontrol.errors import Permanent
from recovery.adapters.encryption import DecryptingReader, EncryptingWriter, Sink, Source

LEVEL = 1
MATCHES = {"min_match": 5, "hash_log": 12}
"""In place of the level's 7 and 14: shorter matches from a smaller table pack pages of tables and indexes better, and
take no longer."""
THREADS = 2
BLOCK_BYTES = 4 * 1024 * 1024
"""So much makes a frame of its own: what packs it needs no other, and copies nothing for a window."""
BLOCKS_AT_ONCE = 2 * THREADS
READ_BYTES = 1024 * 1024
READS_AHEAD = 3
MAX_WINDOW_BYTES = 128 * 1024 * 1024
"""What a frame may ask of memory. Ours ask for less than a megabyte."""


class PackingWriter:
    """Compress in threads, then encrypt in order. A block left by an exception leaves a stream that nobody opens."""

    def __init__(self, sink: Sink, *, recipients: Sequence[str]) -> None:
        self._encrypted = EncryptingWriter(sink, recipients=recipients)
        self._held: list[bytes | memoryview] = []
        self._held_bytes = 0
        self._frames: deque[Future[bytes]] = deque()
        self._pool = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="pack")

    def __enter__(self) -> PackingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._close()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def write(self, data: bytes | memoryview) -> None:
        """Take what nobody changes from now on."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= BLOCK_BYTES:
            self._pack_held()

    def _close(self) -> None:
        if self._held_bytes or not self._frames:
            self._pack_held()
        while self._frames:
            self._encrypted.write(self._frames.popleft().result())
        self._encrypted.close()

    def _pack_held(self) -> None:
        while len(self._frames) >= BLOCKS_AT_ONCE:
            self._encrypted.write(self._frames.popleft().result())
        self._frames.append(self._pool.submit(_frame, self._held))
        self._held, self._held_bytes = [], 0


class UnpackingReader:
    """Decrypt, then decompress. Raises `Permanent` for what was not written by a `PackingWriter`."""

    def __init__(self, source: Source, *, identities: Sequence[str]) -> None:
        self._plain = DecryptingReader(source, identities=identities)
        # A backup is many frames; until November 2026 it was one.
        self._reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(
            cast("IO[bytes]", self._plain), read_size=READ_BYTES, read_across_frames=True
        )

    def read(self, size: int, /) -> bytes:
        try:
            data = self._reader.read(size)
            # The last chunk of the encryption proves that nothing is missing, whatever the compression says.
            return data or self._the_end()
        except zstandard.ZstdError:
            raise Permanent("The object was opened, but what it holds is not a backup of ours.") from None

    def _the_end(self) -> bytes:
        if self._plain.read(1):
            raise Permanent("The object goes on after the end of what was compressed.")
        return b""


def read_ahead(read: Callable[[int], bytes]) -> Generator[bytes, None, None]:
    """Yield what is read, a few blocks ahead in a thread of its own; close it where not everything is taken."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unpack")
    try:
        blocks = deque(pool.submit(read, READ_BYTES) for _ in range(READS_AHEAD))
        while data := blocks.popleft().result():
            blocks.append(pool.submit(read, READ_BYTES))
            yield data
    finally:
        pool.shutdown(cancel_futures=True)


def packed(data: bytes, *, recipients: Sequence[str]) -> bytes:
    """Compress and encrypt what is small enough for memory."""
    sink = io.BytesIO()
    with EncryptingWriter(sink, recipients=recipients) as encrypted:
        encrypted.write(zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data))
    return sink.getvalue()


def unpacked(data: bytes, *, identities: Sequence[str], limit: int) -> bytes:
    """Open what `packed` made. Raises `Permanent` where it is not that, or longer than the limit in bytes."""
    reader = UnpackingReader(io.BytesIO(data), identities=identities)
    # At once, so that it is never in memory twice.
    content = reader.read(limit + 1)
    if len(content) > limit:
        raise Permanent(f"The object holds more than the {limit:,} bytes it may.")
    while more := reader.read(READ_BYTES):
        content += more
    return content


def _frame(held: Sequence[bytes | memoryview]) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, write_checksum=True, **MATCHES)
    block = held[0] if len(held) == 1 else b"".join(held)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(block)
