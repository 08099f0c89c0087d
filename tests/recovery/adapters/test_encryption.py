from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest

from changecontrol.errors import Permanent
from recovery.adapters.encryption import (
    CHUNK_BYTES,
    CHUNKS_AT_ONCE,
    SEALED_BYTES,
    DecryptingReader,
    EncryptingWriter,
    check_recipient,
    make_key_pair,
    recipient_of,
)

ADA, BEN, EVE = make_key_pair(), make_key_pair(), make_key_pair()
MANY = CHUNKS_AT_ONCE * CHUNK_BYTES
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, MANY - 1, MANY, MANY + 1, 2 * MANY + 12_345)


def content_of(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def encrypted(data: bytes, *recipients: str, step: int = 300_000) -> bytes:
    sink = io.BytesIO()
    with EncryptingWriter(sink, recipients=recipients or (ADA.recipient,)) as writer:
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
    return sink.getvalue()


def decrypted(data: bytes, *identities: str) -> bytes:
    return DecryptingReader(io.BytesIO(data), identities=identities or (ADA.identity,)).readall()


def payload_start(data: bytes) -> int:
    return data.index(b"\n--- ") + 5 + 43 + 1 + 16


@pytest.mark.parametrize("size", SIZES)
def test_what_was_written_is_read(size: int) -> None:
    data = content_of(size)

    assert decrypted(encrypted(data)) == data


@pytest.mark.parametrize("step", [1, CHUNK_BYTES, 7 * MANY])
def test_how_it_is_cut_on_the_way_does_not_matter(step: int) -> None:
    data = content_of(2 * CHUNK_BYTES + 5)
    stored = encrypted(data, step=step)
    reader = DecryptingReader(ShortReads(stored), identities=[ADA.identity])

    parts = list(iter(lambda: reader.read(997), b""))

    assert b"".join(parts) == data


class ShortReads:
    """A source that answers with less than was asked for, as pipes and networks do."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, 1000))


@pytest.mark.parametrize("size", SIZES)
def test_another_implementation_reads_what_we_write(size: int) -> None:
    data = content_of(size)

    opened = pyrage.decrypt(encrypted(data), [pyrage.x25519.Identity.from_str(ADA.identity)])

    assert opened == data


@pytest.mark.parametrize("size", SIZES)
def test_we_read_what_another_implementation_writes(size: int) -> None:
    data = content_of(size)
    recipients = [pyrage.x25519.Recipient.from_str(one.recipient) for one in (BEN, ADA)]

    assert decrypted(pyrage.encrypt(data, recipients)) == data


@pytest.mark.skipif(shutil.which("age") is None, reason="the age program is not installed")
def test_the_age_program_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    data = content_of(MANY + 1)
    key = tmp_path / "key"
    key.write_text(BEN.identity)

    opened = subprocess.run(
        ["age", "-d", "-i", key], input=encrypted(data, BEN.recipient), capture_output=True, check=True
    ).stdout
    written = subprocess.run(["age", "-r", BEN.recipient], input=data, capture_output=True, check=True).stdout

    assert opened == data
    assert decrypted(written, BEN.identity) == data


def test_keys_are_those_of_other_implementations() -> None:
    theirs = pyrage.x25519.Identity.generate()

    assert recipient_of(str(theirs)) == str(theirs.to_public())
    assert str(pyrage.x25519.Identity.from_str(ADA.identity).to_public()) == ADA.recipient == recipient_of(ADA.identity)


def test_every_recipient_opens_it_and_nobody_else() -> None:
    stored = encrypted(b"the books", ADA.recipient, BEN.recipient)

    assert decrypted(stored, BEN.identity) == decrypted(stored, ADA.identity) == b"the books"
    assert decrypted(stored, EVE.identity, BEN.identity) == b"the books"
    with pytest.raises(Permanent, match="encrypted to other recipients"):
        decrypted(stored, EVE.identity)
    with pytest.raises(Permanent, match="encrypted to other recipients"):
        DecryptingReader(io.BytesIO(stored), identities=[])


def test_same_content_is_never_the_same_object() -> None:
    assert encrypted(b"") != encrypted(b"")


def test_truncation_is_refused_wherever_it_happens() -> None:
    stored = encrypted(content_of(3 * CHUNK_BYTES + 100))
    start = payload_start(stored)
    places = [0, 5, 21, 22, start - 17, start - 16, start - 1, start, start + 1, len(stored) - 1]
    places += [start + number * SEALED_BYTES + more for number in (1, 2, 3) for more in (-1, 0, 1, 16)]

    for place in places:
        with pytest.raises(Permanent, match="cut off"):
            decrypted(stored[:place])


def test_whole_chunks_missing_at_the_end_are_named_as_cut_off() -> None:
    stored = encrypted(content_of(3 * CHUNK_BYTES + 100))

    with pytest.raises(Permanent, match="object is cut off, after 65,536 bytes of content"):
        decrypted(stored[: payload_start(stored) + 2 * SEALED_BYTES])


def test_a_changed_bit_is_refused_wherever_it_is() -> None:
    stored = encrypted(content_of(MANY + CHUNK_BYTES + 100), ADA.recipient)
    start = payload_start(stored)

    for place in [*range(start), start, start + 1, start + SEALED_BYTES - 1, start + 5 * SEALED_BYTES, len(stored) - 1]:
        changed = bytearray(stored)
        changed[place] ^= 1
        with pytest.raises(Permanent):
            decrypted(bytes(changed))


def test_nothing_after_a_changed_chunk_is_handed_out() -> None:
    data = content_of(2 * MANY)
    stored = bytearray(encrypted(data))
    stored[payload_start(bytes(stored)) + 20 * SEALED_BYTES - 1] ^= 1
    reader = DecryptingReader(io.BytesIO(bytes(stored)), identities=[ADA.identity])

    assert reader.read(MANY) == data[:MANY]
    with pytest.raises(Permanent, match="was changed or cut off after"):
        reader.read(1)


def test_swapped_repeated_and_dropped_chunks_are_refused() -> None:
    stored = encrypted(content_of(4 * CHUNK_BYTES))
    start = payload_start(stored)
    head, chunks = stored[:start], [stored[start + n * SEALED_BYTES : start + (n + 1) * SEALED_BYTES] for n in range(4)]

    for order in ([1, 0, 2, 3], [0, 0, 1, 2, 3], [0, 2, 3], [0, 1, 3, 2], [0, 1, 2, 3, 3]):
        with pytest.raises(Permanent):
            decrypted(head + b"".join(chunks[number] for number in order))


def test_a_chunk_of_another_object_is_refused() -> None:
    ours, theirs = encrypted(content_of(10)), encrypted(content_of(10))

    with pytest.raises(Permanent, match="was changed"):
        decrypted(ours[: payload_start(ours)] + theirs[payload_start(theirs) :])


def test_bytes_after_the_end_are_refused() -> None:
    for size in (10, CHUNK_BYTES, MANY):
        with pytest.raises(Permanent):
            decrypted(encrypted(content_of(size)) + b"x")


def test_a_block_left_by_an_exception_leaves_nothing_that_could_be_taken_for_whole() -> None:
    sink = io.BytesIO()
    with pytest.raises(RuntimeError), EncryptingWriter(sink, recipients=[ADA.recipient]) as writer:
        writer.write(content_of(CHUNK_BYTES * 2))
        raise RuntimeError

    with pytest.raises(Permanent, match="cut off"):
        decrypted(sink.getvalue())


def test_what_is_not_encrypted_is_refused() -> None:
    for data in (b"", b"plain\n", b"\x00" * 100_000, b"age-encryption.org/v1\n-> X25519 " + b"A" * 100_000):
        with pytest.raises(Permanent, match="not encrypted in the age format"):
            decrypted(data)


def test_encrypting_to_nobody_is_refused() -> None:
    with pytest.raises(Permanent, match="at least one age recipient"):
        EncryptingWriter(io.BytesIO(), recipients=[])


@pytest.mark.parametrize(
    "recipient",
    ["", "age1", ADA.recipient[:-1], ADA.recipient[:-1] + "b", ADA.recipient.upper(), ADA.identity],
    # Named, since the keys are new in every process.
    ids=["nothing", "a beginning", "cut off", "another checksum", "in capitals", "an identity"],
)
def test_words_that_are_no_recipient_are_refused(recipient: str) -> None:
    with pytest.raises(Permanent, match="An age recipient is"):
        check_recipient(recipient)


def test_a_wrong_identity_is_not_echoed() -> None:
    with pytest.raises(Permanent, match="An age identity is") as raised:
        recipient_of(ADA.identity[:-1] + "Q")

    assert ADA.identity[20:40] not in raised.value.reason
