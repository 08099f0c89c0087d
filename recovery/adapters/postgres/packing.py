"""Compressed and encrypted bytes: whole for what is small, as a stream for what is not."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, cast

import zstandard

from changecontrol.errors import Permanent
from recovery.adapters.encryption import DecryptingReader, EncryptingWriter, Sink, Source

LEVEL = 1
THREADS = 2
READ_BYTES = 1024 * 1024
MAX_WINDOW_BYTES = 128 * 1024 * 1024
"""What a frame may ask of memory. Ours ask for less than a megabyte."""


class PackingWriter:
    """Compress, then encrypt. `close` ends both; a block left by an exception leaves a stream that nobody opens."""

    def __init__(self, sink: Sink, *, recipients: Sequence[str]) -> None:
        self._encrypted = EncryptingWriter(sink, recipients=recipients)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, threads=THREADS, write_checksum=True).compressobj()

    def write(self, data: bytes) -> None:
        self._encrypted.write(self._compressor.compress(data))

    def close(self) -> None:
        self._encrypted.write(self._compressor.flush())
        self._encrypted.close()


class UnpackingReader:
    """Decrypt, then decompress. Raises `Permanent` for what was not written by a `PackingWriter`."""

    def __init__(self, source: Source, *, identities: Sequence[str]) -> None:
        self._plain = DecryptingReader(source, identities=identities)
        self._reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).stream_reader(
            cast("IO[bytes]", self._plain), read_size=READ_BYTES
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


def packed(data: bytes, *, recipients: Sequence[str]) -> bytes:
    """Compress and encrypt what is small enough for memory."""
    sink = io.BytesIO()
    with EncryptingWriter(sink, recipients=recipients) as encrypted:
        encrypted.write(zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data))
    return sink.getvalue()


def unpacked(data: bytes, *, identities: Sequence[str], limit: int) -> bytes:
    """Open what `packed` made. Raises `Permanent` where it is not that, or longer than the limit in bytes."""
    reader = UnpackingReader(io.BytesIO(data), identities=identities)
    parts, size = [], 0
    while part := reader.read(READ_BYTES):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise Permanent(f"The object holds more than the {limit:,} bytes it may.")
    return b"".join(parts)
