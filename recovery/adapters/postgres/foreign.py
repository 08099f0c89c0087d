"""Backups that another tool made: one object each, a dump as `pg_dump` writes it or a base backup as one tar.

What an object is, and whether it is compressed or encrypted, its first bytes say. Every byte is held against the digest
that it was registered with. What is neither is no fault of the backup, and `Hindered`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zstandard
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from changecontrol.errors import Hindered, Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.encryption import DecryptingReader
from recovery.adapters.postgres.contents import NAME, Opened, list_of, plain, restore_contents, text_of
from recovery.adapters.postgres.dumping import WITHOUT_LINKS, WITHOUT_ROLES
from recovery.adapters.postgres.entering import ensure_role
from recovery.adapters.postgres.fetching import (
    LARGE_READS,
    VERIFY_SECONDS,
    check_space,
    has_tablespaces,
    unplain_in,
)
from recovery.adapters.postgres.packing import MAX_WINDOW_BYTES, READ_BYTES
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    feed_program,
    plain_environment,
    run_program,
    undisturbed,
)
from recovery.adapters.postgres.restoring import Restored, start_consistent
from recovery.adapters.postgres.sandbox import Sandbox, written_to
from recovery.adapters.postgres.scratch import SPARE_BYTES, start_scratch
from recovery.adapters.streams import PART_BYTES

AGE, ZSTD, GZIP, DUMP = b"age-encryption.org/v1\n", b"\x28\xb5\x2f\xfd", b"\x1f\x8b", b"PGDMP"
TAR, TAR_AT = b"ustar", 257
MOST_LAYERS = 4
"""Compressed, encrypted, and once more of each: nobody packs what is packed for ever."""
MANIFEST_BYTES = 256 * 1024 * 1024
NOT_OF_THE_DUMP = re.compile(r"unsupported version")
"""What programs that are too old refuse of a dump."""
NOT_OF_THE_TAR = re.compile(r"Cannot \w+|Member name contains '\.\.'")
"""What tar does not make here: what would lie outside of its folder, behind a link, or is no file."""
ITSELF = re.compile(r"\d+; \d+ \d+ DATABASE - ")
MAKING = re.compile(
    rf"^CREATE DATABASE ({NAME}) WITH TEMPLATE = template0((?: [A-Z_]+ = (?:'(?:[^']|'')*'|\w+))*);$", re.MULTILINE
)
WORD = re.compile(r" ([A-Z_]+) = ('(?:[^']|'')*'|\w+)")
WORDS = ("ENCODING", "LOCALE_PROVIDER", "LOCALE", "LC_COLLATE", "LC_CTYPE", "ICU_LOCALE", "ICU_RULES", "BUILTIN_LOCALE")
"""What of a database is said where it is made, and cannot be changed later."""
MAJOR = re.compile(rb"(\d{1,3})\s*")
SEGMENT = re.compile(r"[0-9A-F]{24}")


@dataclass(frozen=True, slots=True)
class RegisteredFile:
    """An object as it was registered."""

    key: str
    size: int
    sha256: str


class RegisteredReader(io.RawIOBase):
    """Read an object from its beginning. Raises `Permanent` where it is missing, and at its end where it is another."""

    def __init__(self, store: ObjectStore, file: RegisteredFile) -> None:
        self._store = store
        self._file = file
        self._digest = hashlib.sha256()
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        data = self._store.observe_range(self._file.key, start=self._at, size=len(buffer))
        if data is None:
            raise Permanent(f"{self._file.key} is missing from the store.")
        self._digest.update(data)
        self._at += len(data)
        if not data:
            self._check()
        buffer[: len(data)] = data
        return len(data)

    def _check(self) -> None:
        key, size = self._file.key, self._file.size
        if self._at != size:
            raise Permanent(f"{key} has {self._at:,} bytes, and was registered with {size:,}.")
        if self._digest.hexdigest() != self._file.sha256:
            raise Permanent(f"{key} is not what was registered: its digest is another.")


def verify_file(store: ObjectStore, file: RegisteredFile) -> None:
    """Read an object to its end. Raises `Permanent` where it is missing, or not what was registered (level 1)."""
    reader = RegisteredReader(store, file)
    buffer = bytearray(PART_BYTES)
    while reader.readinto(buffer):
        pass


def start_file(
    sandbox: Sandbox,
    *,
    store: ObjectStore,
    file: RegisteredFile,
    manifest: RegisteredFile | None,
    identities: Sequence[str],
    programs: Programs,
    role: str,
    database: str = "",
    most_bytes: int | None = None,
) -> Restored:
    """Bring back in an empty sandbox what an object holds, and return the server as a superuser sees it.

    A base backup leads to where it is consistent, by the WAL within it, and is held against its manifest where there is
    one. Start from the main thread: the server ends with it. Raises `Permanent` naming what is wrong with the backup.
    """
    content = _Content(store, file, identities=identities)
    if content.is_dump:
        return start_scratch(
            sandbox,
            programs=programs,
            role=role,
            wanted=file.size + SPARE_BYTES,
            most_bytes=most_bytes,
            fill=lambda url: _restore_dump(
                lambda: _Content(store, file, identities=identities).parts(), url=url, programs=programs
            ),
        )
    check_space(sandbox, wanted=file.size + SPARE_BYTES, most_bytes=most_bytes)
    with written_to(sandbox):
        _unpack(content, sandbox=sandbox, programs=programs)
        if manifest is not None:
            text = _Content(store, manifest, identities=identities).whole(limit=MANIFEST_BYTES)
            (sandbox.data / "backup_manifest").write_bytes(text)
            sandbox.give(sandbox.data / "backup_manifest")
            _hold_against_manifest(sandbox, programs=programs)
    return start_consistent(sandbox, programs=programs, role=role, database=database)


class _Content:
    """What an object holds once it is opened, to be read once."""

    def __init__(self, store: ObjectStore, file: RegisteredFile, *, identities: Sequence[str]) -> None:
        self.key = file.key
        self._raw = io.BufferedReader(RegisteredReader(store, file), PART_BYTES)
        with self._held():
            self._plain = self._opened(identities)

    @property
    def is_dump(self) -> bool:
        """Tell whether it is a dump or a base backup. Raises `Hindered` where it is neither."""
        with self._held():
            head = self._plain.peek(TAR_AT + len(TAR))
        if head.startswith(DUMP):
            return True
        if head[TAR_AT : TAR_AT + len(TAR)] == TAR:
            return False
        raise Hindered(
            f"{self.key} is neither a dump in pg_dump's custom format nor a tar of a base backup: nothing here reads "
            "it."
        )

    def parts(self) -> Generator[bytes, None, None]:
        """Yield all of it, and hold the object against its digest at its end."""
        while data := self._read():
            yield data
        # Behind the end of what is compressed there may be more of the object.
        while self._raw.read(READ_BYTES):
            pass

    def _read(self) -> bytes:
        with self._held():
            return self._plain.read(READ_BYTES)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Turn what is wrong with the compression into a sentence."""
        try:
            yield
        except (zstandard.ZstdError, zlib.error, OSError, EOFError) as error:
            if "too much memory" in str(error):
                raise Hindered(f"{self.key} is compressed with a window too large to be read here.") from None
            raise Permanent(
                f"{self.key} is what was registered, and does not unpack: it ends within its compression or is none."
            ) from None

    def whole(self, *, limit: int) -> bytes:
        found = bytearray()
        for data in self.parts():
            found += data
            if len(found) > limit:
                raise Permanent(f"{self.key} holds more than the {limit:,} bytes it may.")
        return bytes(found)

    def _opened(self, identities: Sequence[str]) -> io.BufferedReader[Any]:
        found: io.BufferedReader[Any] = self._raw
        for _ in range(MOST_LAYERS):
            head = found.peek(len(AGE))
            if head.startswith(AGE):
                found = io.BufferedReader(self._decrypted(found, identities), READ_BYTES)
            elif head.startswith(ZSTD):
                zstd = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
                reader = zstd.stream_reader(found, read_size=READ_BYTES, read_across_frames=True)
                found = io.BufferedReader(cast("io.RawIOBase", reader), READ_BYTES)
            elif head.startswith(GZIP):
                found = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=found)), READ_BYTES)
            else:
                break
        return found

    def _decrypted(self, source: io.BufferedReader[Any], identities: Sequence[str]) -> DecryptingReader:
        if not identities:
            raise Hindered(f"{self.key} is encrypted, and the backup policy names no identity that opens it.")
        try:
            return DecryptingReader(source, identities=identities)
        except Permanent as refusal:
            # It has its digest: that our key does not open it says nothing of it.
            raise Hindered(f"{self.key} is not opened by the identity of the backup policy. {refusal.reason}") from None


def _restore_dump(opened: Opened, *, url: str, programs: Programs) -> tuple[str, ...]:
    flags = (*WITHOUT_ROLES, *WITHOUT_LINKS)
    as_role = ensure_role(url)
    try:
        database = _make_database(opened, url=url, owner=str(conninfo_to_dict(as_role)["user"]), programs=programs)
        _, left_out = restore_contents(
            opened, url=url, as_role=as_role, database=database, programs=programs, flags=flags
        )
    except Permanent as trouble:
        if NOT_OF_THE_DUMP.search(trouble.reason):
            raise Hindered(trouble.reason) from None
        raise
    return left_out


def _make_database(opened: Opened, *, url: str, owner: str, programs: Programs) -> str:
    """Make the database as a dump says that its own was, and return its name. What it sets for itself is left out."""
    with_it = ("--create", *WITHOUT_ROLES, *WITHOUT_LINKS)
    lines = [line for line in list_of(opened, programs=programs, flags=with_it) if ITSELF.match(line)]
    found = MAKING.search(text_of(opened, lines, programs=programs, flags=with_it)) if lines else None
    if found is None:
        raise Hindered("The dump does not say of which database it is: one of some tables alone is not tried.")
    name, words = plain(found[1]), {key: value for key, value in WORD.findall(found[2]) if key in WORDS}
    make = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ").format(
        sql.Identifier(name), sql.Identifier(owner)
    )
    options = [sql.SQL(f"{key} ") + sql.Literal(value.strip("'").replace("''", "'")) for key, value in words.items()]
    try:
        with connected(undisturbed(url)) as connection:
            connection.execute(make + sql.SQL(" ").join(options))
    except Permanent as refusal:
        # A locale that is not here, a name that our own server has: an empty database says nothing of a dump.
        raise Hindered(refusal.reason) from None
    return name


def _unpack(content: _Content, *, sandbox: Sandbox, programs: Programs) -> None:
    try:
        feed_program(
            ["tar", "--extract", "--file=-", *LARGE_READS, f"--directory={sandbox.data}", "--no-same-owner"],
            content=content.parts(),
            environment=plain_environment(),
            account=sandbox.account,
            name="Unpacking the base backup",
        )
    except Permanent as trouble:
        if NOT_OF_THE_TAR.search(trouble.reason):
            raise Hindered(f"{content.key} is not unpacked here. {trouble.reason}") from None
        raise
    sandbox.data.chmod(0o700)
    # Before anything of it is read or written: we would follow a link as whoever we are, and not as the server.
    _check_plain(sandbox.data, key=content.key)
    major = _major_in(sandbox.data)
    if major is None:
        raise Hindered(f"{content.key} has no data directory of PostgreSQL at its top: nothing here starts it.")
    if major != programs.major:
        raise Permanent(f"{content.key} is of PostgreSQL {major}, and {programs.major} was registered.")
    _check_apart(sandbox.data, key=content.key)


def _check_plain(data: Path, *, key: str) -> None:
    """Raise `Hindered` where a folder holds anything but folders, and files that have no other name."""
    if path := unplain_in(data):
        raise Hindered(f"{key} holds what is no plain file ({path.relative_to(data)}): nothing here starts it.")


def _major_in(data: Path) -> int | None:
    """Return the major version of a data directory; None where it is none."""
    try:
        with (data / "PG_VERSION").open("rb") as file:
            found = MAJOR.fullmatch(file.read(8))
    except OSError:
        return None
    return int(found[1]) if found else None


def _check_apart(data: Path, *, key: str) -> None:
    """Raise `Hindered` where a server would follow it out of its sandbox, or it does not bring its WAL."""
    if has_tablespaces(data):
        raise Hindered(f"{key} is of a server with tablespaces: nothing here starts one.")
    if not any(SEGMENT.fullmatch(one.name) for one in data.glob("pg_wal/*")):
        raise Hindered(f"{key} has no WAL in its pg_wal: register it with its WAL in one tar.")


def _hold_against_manifest(sandbox: Sandbox, *, programs: Programs) -> None:
    run_program(
        [programs.path("pg_verifybackup"), "--quiet", sandbox.data],
        environment=plain_environment(),
        account=sandbox.account,
        seconds=VERIFY_SECONDS,
    )
