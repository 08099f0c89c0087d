"""Packs are tar archives, so that `age -d pack | tar --zstd -x` puts their files back without this program.

Headers are written by hand: `tarfile` takes as long for one as reading, hashing and compressing a small file does.
"""

from __future__ import annotations

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)

_HEAD = b"0000644\x000000000\x000000000\x00"
_TIME = b"00000000000\x00"
_TAIL = b"0" + bytes(100) + b"ustar\x0000"
_CHECKSUM_OF_CONSTANTS = sum(_HEAD) + sum(_TIME) + sum(_TAIL) + 8 * ord(" ")
_MOST_OCTAL_BYTES = 8**11 - 1


def header(name: str, *, size: int) -> bytes:
    """Return the header of a plain file, as POSIX (ustar) has it; for sizes from 8 GiB on as GNU tar has it."""
    path = name.encode().ljust(100, b"\x00")
    length = b"%011o\x00" % size if size <= _MOST_OCTAL_BYTES else b"\x80" + size.to_bytes(11, "big")
    checksum = b"%06o\x00 " % (_CHECKSUM_OF_CONSTANTS + sum(path) + sum(length))
    return b"".join((path, _HEAD, length, _TIME, checksum, _TAIL)).ljust(BLOCK_BYTES, b"\x00")


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK_BYTES)
