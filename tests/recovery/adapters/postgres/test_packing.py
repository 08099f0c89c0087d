from __future__ import annotations

import io
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import closing

import pyrage
import pytest
import zstandard

from changecontrol.errors import Permanent
from recovery.adapters.encryption import EncryptingWriter, make_key_pair
from recovery.adapters.postgres.packing import (
    BLOCK_BYTES,
    READ_BYTES,
    READS_AHEAD,
    PackingWriter,
    UnpackingReader,
    packed,
    read_ahead,
    unpacked,
)

KEY = make_key_pair()
FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(b"data")
SIZES = (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 10 * BLOCK_BYTES + 12_345)


def content_of(size: int) -> bytes:
    """Half of it packs, half does not."""
    noise = random.Random(size).randbytes(size // 2)
    return noise + bytes(size - len(noise))


def written(data: bytes, *, step: int = 1_000_000) -> bytes:
    sink = io.BytesIO()
    with PackingWriter(sink, recipients=[KEY.recipient]) as packing:
        for start in range(0, len(data), step):
            packing.write(data[start : start + step])
    return sink.getvalue()


def read(stored: bytes) -> bytes:
    content = UnpackingReader(io.BytesIO(stored), identities=[KEY.identity])
    with closing(read_ahead(content.read)) as parts:
        return b"".join(parts)


def encrypted(*parts: bytes) -> bytes:
    sink = io.BytesIO()
    with EncryptingWriter(sink, recipients=[KEY.recipient]) as writer:
        for part in parts:
            writer.write(part)
    return sink.getvalue()


def opened(stored: bytes) -> bytes:
    content: bytes = pyrage.decrypt(stored, [pyrage.x25519.Identity.from_str(KEY.identity)])
    return content


@pytest.mark.parametrize("size", SIZES)
def test_what_was_packed_comes_back(size: int) -> None:
    data = content_of(size)

    assert read(written(data)) == data


@pytest.mark.parametrize("step", [10_007, BLOCK_BYTES, 3 * BLOCK_BYTES])
def test_how_it_is_cut_on_the_way_does_not_matter(step: int) -> None:
    data = content_of(3 * BLOCK_BYTES + 5)

    assert read(written(data, step=step)) == data


def test_backup_of_before_that_is_one_frame_is_still_opened() -> None:
    data = content_of(2 * BLOCK_BYTES + 5)
    packing = zstandard.ZstdCompressor(level=1, threads=2, write_checksum=True).compressobj()

    assert read(encrypted(packing.compress(data), packing.flush())) == data


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_programs_of_age_and_zstd_open_what_was_packed() -> None:
    data = content_of(2 * BLOCK_BYTES + 5)

    done = subprocess.run(["zstd", "-d"], input=opened(written(data)), stdout=subprocess.PIPE, check=True)

    assert done.stdout == data


def test_what_fails_while_it_is_packed_leaves_a_stream_that_nobody_opens() -> None:
    sink = io.BytesIO()
    with pytest.raises(RuntimeError), PackingWriter(sink, recipients=[KEY.recipient]) as packing:
        packing.write(content_of(12 * BLOCK_BYTES))
        packing.write(content_of(BLOCK_BYTES))
        raise RuntimeError

    with pytest.raises(Permanent, match="cut off"):
        read(sink.getvalue())


def test_threads_of_what_failed_do_not_stay() -> None:
    def names() -> Sequence[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("pack")]

    with pytest.raises(RuntimeError), PackingWriter(io.BytesIO(), recipients=[KEY.recipient]) as packing:
        packing.write(content_of(BLOCK_BYTES))
        assert names()
        raise RuntimeError

    assert names() == []


@pytest.mark.parametrize("damage", [b"more", FRAME[:-1] + bytes([FRAME[-1] ^ 1])])
def test_what_follows_a_frame_and_is_none_is_refused(damage: bytes) -> None:
    with pytest.raises(Permanent, match="is not a backup of ours"):
        read(encrypted(FRAME, damage))


def test_small_content_comes_back_and_no_more_than_its_limit() -> None:
    data = content_of(3 * READ_BYTES)
    stored = packed(data, recipients=[KEY.recipient])

    assert unpacked(stored, identities=[KEY.identity], limit=len(data)) == data
    with pytest.raises(Permanent, match="holds more than the 3,145,727 bytes"):
        unpacked(stored, identities=[KEY.identity], limit=len(data) - 1)


def test_reading_ahead_keeps_to_its_bound_and_stops_when_nobody_takes_more() -> None:
    asked: list[int] = []

    def some(size: int) -> bytes:
        asked.append(size)
        return b"x"

    with closing(read_ahead(some)) as parts:
        assert next(parts) == b"x"
        time.sleep(0.1)
        # One was taken, and another asked for in its place.
        assert len(asked) <= READS_AHEAD + 1
    count = len(asked)
    time.sleep(0.1)

    assert len(asked) == count


def test_failure_of_what_is_read_ahead_comes_in_its_place() -> None:
    answers = iter([b"one", b"two"])

    def failing(size: int) -> bytes:
        try:
            return next(answers)
        except StopIteration:
            raise Permanent("Part 3 is missing.") from None

    parts = read_ahead(failing)

    assert [next(parts), next(parts)] == [b"one", b"two"]
    with pytest.raises(Permanent, match="Part 3 is missing"):
        next(parts)
