"""Streaming encryption in the age v1 format (X25519), so that the `age` program opens what is written here.

Whoever writes needs recipients alone and cannot read it again. Memory is bounded; every byte handed out by the reader
has been authenticated, and whoever reads to the end knows that nothing is missing. Raises only `Permanent`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from changecontrol.errors import Permanent

# https://c2sp.org/age
INTRODUCTION = b"age-encryption.org/v1"
WRAP_LABEL = b"age-encryption.org/v1/X25519"
CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
SEALED_BYTES = CHUNK_BYTES + TAG_BYTES
FILE_KEY_BYTES = 16
NONCE_BYTES = 16
HEADER_BYTES = 64 * 1024
"""A longer header is none that we wrote; it is refused instead of gathered."""
WRAPPED_COLUMNS = 64
CHUNKS_AT_ONCE = 16

RECIPIENT_PREFIX, IDENTITY_PREFIX = "age", "age-secret-key-"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32_CHECKSUM_LENGTH = 6


class Sink(Protocol):
    """Where encrypted bytes go. It has used `data` up when it returns."""

    def write(self, data: bytes, /) -> object: ...


class Source(Protocol):
    """Where encrypted bytes come from. An empty answer is the end; a short one is not."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new key: the recipient is public, the identity is the secret."""

    recipient: str
    identity: str


def make_key_pair() -> KeyPair:
    """Make a key as `age-keygen` does."""
    key = X25519PrivateKey.generate()
    return KeyPair(
        recipient=_bech32(RECIPIENT_PREFIX, key.public_key().public_bytes_raw()),
        identity=_bech32(IDENTITY_PREFIX, key.private_bytes_raw()).upper(),
    )


def recipient_of(identity: str) -> str:
    """Return the recipient whose files this identity opens. Raises `Permanent` without echoing the identity."""
    return _bech32(RECIPIENT_PREFIX, _private_key(identity).public_key().public_bytes_raw())


def check_recipient(text: str) -> None:
    """Raise `Permanent` where the text is no recipient that could be encrypted to."""
    _public_key(text)


class EncryptingWriter:
    """Encrypt what is written to several recipients, any of whom can read it.

    `close` ends the stream; without it what was written is refused as truncated, which is what a block left by an
    exception does. The sink stays open.
    """

    def __init__(self, sink: Sink, *, recipients: Sequence[str]) -> None:
        if not recipients:
            raise Permanent("Nothing is encrypted to nobody: name at least one age recipient.")
        keys = [_public_key(recipient) for recipient in recipients]
        file_key, nonce = os.urandom(FILE_KEY_BYTES), os.urandom(NONCE_BYTES)
        self._sink = sink
        self._cipher = ChaCha20Poly1305(_derive(file_key, salt=nonce, label=b"payload"))
        self._counter = 0
        self._held = bytearray()
        self._is_closed = False
        sink.write(_header(file_key, recipients=keys) + nonce)

    def __enter__(self) -> EncryptingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._is_closed:
            raise ValueError("The encrypted stream has been closed.")
        self._held += data
        # The last chunk carries a mark, so a full one is held back until something follows it.
        self._seal(full=(len(self._held) - 1) // CHUNK_BYTES if self._held else 0)
        return len(data)

    def close(self) -> None:
        """Write the chunk that ends the stream. Closing twice is harmless."""
        if self._is_closed:
            return
        self._is_closed = True
        self._sink.write(self._cipher.encrypt(_nonce(self._counter, is_last=True), bytes(self._held), None))
        self._held.clear()

    def _seal(self, *, full: int) -> None:
        for start in range(0, full, CHUNKS_AT_ONCE):
            count = min(CHUNKS_AT_ONCE, full - start)
            sealed = bytearray(count * SEALED_BYTES)
            with memoryview(self._held) as plain, memoryview(sealed) as target:
                for number in range(count):
                    at, to = (start + number) * CHUNK_BYTES, number * SEALED_BYTES
                    nonce = _nonce(self._counter, is_last=False)
                    self._cipher.encrypt_into(nonce, plain[at : at + CHUNK_BYTES], None, target[to : to + SEALED_BYTES])
                    self._counter += 1
            self._sink.write(bytes(sealed))
        if full:
            del self._held[: full * CHUNK_BYTES]


class DecryptingReader(io.RawIOBase):
    """Read what an identity opens.

    Raises `Permanent` where no identity opens it, or where a chunk is changed, moved or missing; until then every
    byte read is as it was written.
    """

    def __init__(self, source: Source, *, identities: Sequence[str]) -> None:
        self._source = source
        keys = [_private_key(identity) for identity in identities]
        file_key = _opened(_read_header(source), keys=keys)
        nonce = _read_exactly(source, NONCE_BYTES)
        if len(nonce) < NONCE_BYTES:
            raise Permanent("The encrypted object is cut off before its content.")
        self._cipher = ChaCha20Poly1305(_derive(file_key, salt=nonce, label=b"payload"))
        self._counter = 0
        self._sealed = bytearray()
        self._plain = memoryview(b"")
        self._is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        part = self._take(len(buffer))
        buffer[: len(part)] = part
        return len(part)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to this many bytes without the copy that the base class makes; all of them for -1."""
        return self.readall() if size < 0 else bytes(self._take(size))

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNKS_AT_ONCE * CHUNK_BYTES), b""))

    def _take(self, size: int) -> memoryview:
        while not self._plain and not self._is_at_end:
            self._plain = memoryview(self._next())
        part, self._plain = self._plain[:size], self._plain[size:]
        return part

    def _next(self) -> bytes | bytearray:
        """Return the content of the chunks that come next."""
        wanted = CHUNKS_AT_ONCE * SEALED_BYTES + 1
        self._sealed += _read_exactly(self._source, wanted - len(self._sealed))
        if len(self._sealed) < wanted:
            return self._the_end()
        plain = bytearray(CHUNKS_AT_ONCE * CHUNK_BYTES)
        with memoryview(self._sealed) as sealed, memoryview(plain) as target:
            for number in range(CHUNKS_AT_ONCE):
                at, to = number * SEALED_BYTES, number * CHUNK_BYTES
                self._open(sealed[at : at + SEALED_BYTES], into=target[to : to + CHUNK_BYTES])
        del self._sealed[: CHUNKS_AT_ONCE * SEALED_BYTES]
        return plain

    def _the_end(self) -> bytearray:
        """Open all that is left, the last chunk as the last one."""
        sealed, plain = bytes(self._sealed), bytearray()
        self._sealed.clear()
        full = max(0, len(sealed) - 1) // SEALED_BYTES
        for number in range(full):
            chunk = bytearray(CHUNK_BYTES)
            self._open(memoryview(sealed)[number * SEALED_BYTES : (number + 1) * SEALED_BYTES], into=memoryview(chunk))
            plain += chunk
        last = sealed[full * SEALED_BYTES :]
        try:
            content = self._cipher.decrypt(_nonce(self._counter, is_last=True), last, None)
        except (InvalidTag, ValueError):
            raise self._refused(last) from None
        if not content and self._counter:
            raise Permanent("The encrypted object ends in an empty chunk, which no writer makes.")
        self._is_at_end = True
        return plain + content

    def _open(self, sealed: memoryview, *, into: memoryview) -> None:
        try:
            self._cipher.decrypt_into(_nonce(self._counter, is_last=False), sealed, None, into)
        except InvalidTag:
            raise self._refused(bytes(sealed)) from None
        self._counter += 1

    def _refused(self, sealed: bytes) -> Permanent:
        """Say what is wrong with a chunk that does not open in its place."""
        place = f"after {self._counter * CHUNK_BYTES:,} bytes of content"
        for is_last, words in ((True, "goes on after its end"), (False, "is cut off")):
            try:
                self._cipher.decrypt(_nonce(self._counter, is_last=is_last), sealed, None)
            except (InvalidTag, ValueError):
                continue
            return Permanent(f"The encrypted object {words}, {place}.")
        return Permanent(f"The encrypted object was changed or cut off {place}.")


def _header(file_key: bytes, *, recipients: Sequence[X25519PublicKey]) -> bytes:
    lines = [INTRODUCTION]
    for recipient in recipients:
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        wrapped = _wrapping(_shared(ephemeral, recipient), share=share, recipient=recipient).encrypt(
            _nonce(0, is_last=False), file_key, None
        )
        lines += [b"-> X25519 " + _encode(share), *_wrap_lines(_encode(wrapped))]
    signed = b"\n".join([*lines, b"---"])
    return signed + b" " + _encode(_header_mac(file_key, signed)) + b"\n"


@dataclass(frozen=True, slots=True)
class _Header:
    shares: list[tuple[bytes, bytes]]
    """For each X25519 recipient the ephemeral share and the wrapped file key."""
    signed: bytes
    mac: bytes


def _read_header(source: Source) -> _Header:
    seen = bytearray()
    lines = _HeaderLines(source, seen=seen)
    if lines.next() != INTRODUCTION:
        raise Permanent("The object is not encrypted in the age format.")
    shares = []
    line = lines.next()
    while not line.startswith(b"--- "):
        kind, *arguments = line.removeprefix(b"-> ").split(b" ")
        body = b""
        while len(part := lines.next()) == WRAPPED_COLUMNS:
            body += part
        body += part
        if not line.startswith(b"-> "):
            raise _damaged_header()
        if kind == b"X25519" and len(arguments) == 1:
            shares.append((_decode(arguments[0]), _decode(body)))
        line = lines.next()
    signed = bytes(seen[: len(seen) - len(line) - 1]) + b"---"
    return _Header(shares=shares, signed=signed, mac=_decode(line[4:]))


class _HeaderLines:
    """The lines of a header, one byte at a time so that nothing of the content is taken."""

    def __init__(self, source: Source, *, seen: bytearray) -> None:
        self._source = source
        self._seen = seen

    def next(self) -> bytes:
        start = len(self._seen)
        while not self._seen.endswith(b"\n") or len(self._seen) == start:
            byte = self._source.read(1)
            if not byte or len(self._seen) > HEADER_BYTES:
                raise Permanent("The object is not encrypted in the age format, or its header is cut off.")
            self._seen += byte
        return bytes(self._seen[start:-1])


def _opened(header: _Header, *, keys: Sequence[X25519PrivateKey]) -> bytes:
    """Return the file key. Raises `Permanent` where no key opens it or the header was changed."""
    for key in keys:
        for share, wrapped in header.shares:
            if len(share) != 32 or len(wrapped) != FILE_KEY_BYTES + TAG_BYTES:
                raise _damaged_header()
            shared = _shared(key, X25519PublicKey.from_public_bytes(share))
            wrapping = _wrapping(shared, share=share, recipient=key.public_key())
            try:
                file_key = wrapping.decrypt(_nonce(0, is_last=False), wrapped, None)
            except InvalidTag:
                continue
            if not hmac.compare_digest(header.mac, _header_mac(file_key, header.signed)):
                raise _damaged_header()
            return file_key
    raise Permanent("None of the keys given opens the encrypted object: it was encrypted to other recipients.")


def _damaged_header() -> Permanent:
    return Permanent("The header of the encrypted object was changed.")


def _shared(own: X25519PrivateKey, other: X25519PublicKey) -> bytes:
    try:
        return own.exchange(other)
    except ValueError:
        raise Permanent("The key of an encrypted object is a point that no honest writer uses.") from None


def _wrapping(shared: bytes, *, share: bytes, recipient: X25519PublicKey) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(_derive(shared, salt=share + recipient.public_bytes_raw(), label=WRAP_LABEL))


def _header_mac(file_key: bytes, signed: bytes) -> bytes:
    return hmac.digest(_derive(file_key, salt=b"", label=b"header"), signed, hashlib.sha256)


def _derive(secret: bytes, *, salt: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=label).derive(secret)


def _nonce(counter: int, *, is_last: bool) -> bytes:
    return counter.to_bytes(11, "big") + (b"\x01" if is_last else b"\x00")


def _read_exactly(source: Source, size: int) -> bytes:
    """Read this many bytes; fewer only where the source ends."""
    parts = []
    while size and (part := source.read(size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise _damaged_header() from None
    if _encode(data) != text:
        raise _damaged_header()
    return data


def _wrap_lines(text: bytes) -> list[bytes]:
    # The last line of a body is shorter than the others, if need be empty.
    return [text[start : start + WRAPPED_COLUMNS] for start in range(0, len(text) + 1, WRAPPED_COLUMNS)]


def _public_key(recipient: str) -> X25519PublicKey:
    data = _from_bech32(recipient.strip(), prefix=RECIPIENT_PREFIX)
    if data is None or recipient.strip().lower() != recipient.strip():
        raise Permanent("An age recipient is the word age1… with 58 letters and digits after it, as age-keygen prints.")
    return X25519PublicKey.from_public_bytes(data)


def _private_key(identity: str) -> X25519PrivateKey:
    data = _from_bech32(identity.strip(), prefix=IDENTITY_PREFIX)
    if data is None:
        raise Permanent("An age identity is the word AGE-SECRET-KEY-1… as age-keygen prints it.")
    return X25519PrivateKey.from_private_bytes(data)


def _bech32(prefix: str, data: bytes) -> str:
    # https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki
    number = int.from_bytes(data, "big") << (-len(data) * 8 % 5)
    values = [number >> shift & 31 for shift in range((len(data) * 8 + 4) // 5 * 5 - 5, -1, -5)]
    rest = _polymod(prefix, [*values, *[0] * BECH32_CHECKSUM_LENGTH]) ^ 1
    values += [rest >> shift & 31 for shift in range(25, -1, -5)]
    return f"{prefix}1" + "".join(BECH32[value] for value in values)


def _from_bech32(text: str, *, prefix: str) -> bytes | None:
    """Return the 32 bytes of a key, or None."""
    lower = text.lower()
    if text not in (lower, text.upper()) or not lower.startswith(f"{prefix}1"):
        return None
    letters = lower.removeprefix(f"{prefix}1")
    if len(letters) != 52 + BECH32_CHECKSUM_LENGTH or set(letters) - set(BECH32):
        return None
    values = [BECH32.index(letter) for letter in letters]
    if _polymod(prefix, values) != 1:
        return None
    number = 0
    for value in values[:-BECH32_CHECKSUM_LENGTH]:
        number = number << 5 | value
    # 52 letters are 260 bits: the four that are left over are zero.
    return None if number & 15 else (number >> 4).to_bytes(32, "big")


def _polymod(prefix: str, values: Sequence[int]) -> int:
    check = 1
    for value in [*(ord(letter) >> 5 for letter in prefix), 0, *(ord(letter) & 31 for letter in prefix), *values]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    return check
