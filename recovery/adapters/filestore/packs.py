"""One pack: many files as a tar archive, compressed with zstd, encrypted to age recipients.

Written and read in one pass. Sealed and opened texts (manifests and indexes) go the same way, without the tar.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import IO, cast

import zstandard

from changecontrol.errors import Permanent
from recovery.adapters.encryption import DecryptingReader, EncryptingWriter, Sink, Source
from recovery.adapters.filestore import tar
from recovery.adapters.filestore.manifest import Entry, format_line
from recovery.adapters.filestore.names import name_of

LEVEL = 1
PART_BYTES = 1024 * 1024


class PackWriter:
    """Write files into a pack. `lines` say where they lie, for a manifest in which this pack is the first."""

    def __init__(self, sink: Sink, *, recipients: Sequence[str]) -> None:
        self.size = 0
        self.lines: list[bytes] = []
        self._encrypting = EncryptingWriter(sink, recipients=recipients)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL).compressobj()
        self._held: list[bytes] = []
        self._held_bytes = 0

    def add(self, digest: str, content: bytes) -> None:
        size = len(content)
        self._write(tar.header(name_of(digest), size=size))
        self.lines.append(format_line(digest, size=size, pack=0, offset=self.size))
        self._write(content)
        self._write(tar.padding(size))

    def add_parts(self, digest: str, parts: Iterator[bytes], *, size: int) -> bool:
        """Add a file in parts that are known to have this size and digest; say whether they had them again.

        Where they had not, the archive stays well formed and no line names the file.
        """
        self._write(tar.header(name_of(digest), size=size))
        offset, seen, left = self.size, hashlib.sha1(usedforsecurity=False), size
        # A source that fails in the middle is one that had not the same again.
        with contextlib.suppress(Permanent):
            for part in parts:
                seen.update(part)
                self._write(part[:left])
                left -= min(left, len(part))
        is_same = left == 0 and seen.hexdigest() == digest
        while left:
            filling = bytes(min(left, PART_BYTES))
            self._write(filling)
            left -= len(filling)
        self._write(tar.padding(size))
        if is_same:
            self.lines.append(format_line(digest, size=size, pack=0, offset=offset))
        return is_same

    def close(self) -> None:
        self._write(tar.END)
        self._compress()
        self._encrypting.write(self._compressor.flush())
        self._encrypting.close()

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        self._held.append(data)
        self._held_bytes += len(data)
        # Small files are compressed many at once: a call for each would take longer than the work.
        if self._held_bytes >= PART_BYTES:
            self._compress()

    def _compress(self) -> None:
        self._encrypting.write(self._compressor.compress(b"".join(self._held)))
        self._held.clear()
        self._held_bytes = 0


class PackReader:
    """Read files out of a pack, in the order in which they lie. Raises `Permanent` where it is not as written."""

    def __init__(self, source: Source, *, identity: str) -> None:
        plain = DecryptingReader(source, identities=[identity])
        self._reader = zstandard.ZstdDecompressor().stream_reader(
            cast("IO[bytes]", plain), read_size=PART_BYTES, closefd=False
        )
        self._offset = 0

    def parts(self, entry: Entry) -> Iterator[bytes]:
        """Yield the file's content. The parts of one file are to be taken before the next file is asked for."""
        if entry.offset < self._offset:
            raise Permanent(f"{entry.name} lies where another file does.")
        while self._offset < entry.offset:
            self._read(entry.offset - self._offset)
        left = entry.size
        while left:
            part = self._read(left)
            left -= len(part)
            yield part

    def _read(self, most: int) -> bytes:
        try:
            part = self._reader.read(min(most, PART_BYTES))
        except zstandard.ZstdError:
            raise Permanent("The pack holds what was never compressed.") from None
        if not part:
            raise Permanent("The pack ends before its files do.")
        self._offset += len(part)
        return part


def sealed(text: bytes, *, recipients: Sequence[str]) -> bytes:
    sink = io.BytesIO()
    with EncryptingWriter(sink, recipients=recipients) as writer:
        writer.write(zstandard.ZstdCompressor(level=LEVEL).compress(text))
    return sink.getvalue()


def opened(data: bytes, *, identity: str) -> bytes:
    """Return the text. Raises `Permanent` where the identity does not open it or it is not as written."""
    compressed = DecryptingReader(io.BytesIO(data), identities=[identity]).readall() or b""
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(compressed)
    except zstandard.ZstdError:
        raise Permanent("The encrypted object holds what was never compressed.") from None
