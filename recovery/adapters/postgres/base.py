"""Base backups: `pg_basebackup` to a pipe, compressed, encrypted and uploaded as it comes, without a file in between.

A backup is in the catalogue of the store once its facts are written, which comes last.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.encryption import recipient_of
from recovery.adapters.postgres.facts import FACTS, backup_from, facts_of
from recovery.adapters.postgres.packing import BLOCK_BYTES, PackingWriter
from recovery.adapters.postgres.programs import (
    PIPE_BYTES,
    Programs,
    connected,
    connection_environment,
    observe_server,
    one_row,
    output_of,
)
from recovery.adapters.streams import StoredStream, StreamWriter, ensure_stream_absent
from recovery.ports.postgres import BaseBackup, DatabaseServer, parse_lsn

TAR_BLOCK = 512
MANIFEST = "backup_manifest"
CONTENT = "base.tar.zst.age"
FIRST_ROLE = "SELECT rolname FROM pg_roles WHERE oid = 10"
"""The role that `initdb` made, whatever it is called."""


def take_base_backup(
    *,
    url: str,
    programs: Programs,
    store: ObjectStore,
    prefix: str,
    label: str,
    recipients: Sequence[str],
    index_identity: str = "",
) -> BaseBackup:
    """Back a whole server up to `PREFIX/base/LABEL/`, and return the facts.

    The role needs REPLICATION. The manifest (names and checksums of files, nothing of their content) is encrypted to
    the owner of `index_identity` besides: only with that can an incremental backup build upon this one. Raises
    `Permanent` where the label is taken, and what the server or the store refuse.
    """
    return Taking(
        url=url,
        programs=programs,
        store=store,
        folder=f"{prefix}/base/{label}",
        label=label,
        recipients=recipients,
        index_identity=index_identity,
    ).take()


@dataclass(frozen=True, slots=True)
class Parent:
    """What an incremental backup builds upon: its label, the digest of its facts, and its manifest in a local file."""

    label: str
    sha256: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Taking:
    """A backup being taken: a full one or, with a parent, what changed since."""

    url: str = field(repr=False)
    programs: Programs
    store: ObjectStore
    folder: str
    label: str
    recipients: Sequence[str]
    index_identity: str = field(default="", repr=False)
    parent: Parent | None = None

    def take(self) -> BaseBackup:
        server = observe_server(self.url)
        check_programs(server, programs=self.programs)
        _check_tablespaces(self.url)
        self._clear_killed()
        superuser = _superuser(self.url)
        started_at = _server_time(self.url)
        manifest = tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115
        with manifest:
            tar = _TarWatch(captured=manifest)
            stream = self._stream_tar(tar)
            finished_at = _server_time(self.url)
            manifest.seek(0)
            facts = _manifest_facts(manifest.read())
            manifest.seek(0)
            kept = self._stream_manifest(manifest)
        backup = BaseBackup(
            label=self.label,
            key=stream.key,
            manifest_key=kept.key,
            system_identifier=server.system_identifier,
            server_version=server.version,
            server_major=server.major,
            segment_bytes=server.segment_bytes,
            timeline=facts.timeline,
            start_lsn=facts.start_lsn,
            stop_lsn=facts.stop_lsn,
            started_at=started_at,
            finished_at=finished_at,
            content_bytes=tar.seen,
            stored_bytes=stream.size + kept.size,
            sha256=stream.sha256,
            manifest_sha256=kept.sha256,
            parent=self.parent.label if self.parent else "",
            parent_sha256=self.parent.sha256 if self.parent else "",
            superuser=superuser,
        )
        _check_same_server(server, after=observe_server(self.url))
        self.store.ensure_object(f"{self.folder}/{FACTS}", facts_of(backup))
        return backup

    def _clear_killed(self) -> None:
        """Remove what an attempt left that was killed before its facts were written: it is no backup."""
        keys = [f"{self.folder}/{name}" for name in (CONTENT, f"{MANIFEST}.zst.age")]
        left = [key for key in keys if self.store.observe_object(key) is not None]
        if left and self.store.observe_object(f"{self.folder}/{FACTS}") is None:
            for key in left:
                ensure_stream_absent(self.store, key)

    def _stream_tar(self, tar: _TarWatch) -> StoredStream:
        environment = connection_environment(self.url)
        output = output_of(self._command(), environment=environment, part_bytes=BLOCK_BYTES)
        with StreamWriter(self.store, f"{self.folder}/{CONTENT}") as stream:
            with closing(output) as parts, PackingWriter(stream, recipients=self.recipients) as packing:
                for data in parts:
                    tar.feed(data)
                    packing.write(data)
                if not tar.is_at_end:
                    raise Permanent("What pg_basebackup sent is no whole archive, or has no manifest.")
            return stream.close()

    def _command(self) -> list[str]:
        words = [str(self.programs.path("pg_basebackup")), "--pgdata=-", "--format=tar", "--wal-method=none"]
        words += ["--checkpoint=fast", f"--label={self.label}", "--no-password", "--manifest-checksums=CRC32C"]
        return [*words, f"--incremental={self.parent.manifest}"] if self.parent else words

    def _stream_manifest(self, file: Any) -> StoredStream:
        own = [recipient_of(self.index_identity)] if self.index_identity else []
        with StreamWriter(self.store, f"{self.folder}/{MANIFEST}.zst.age") as stream:
            with PackingWriter(stream, recipients=[*self.recipients, *own]) as packing:
                while data := file.read(PIPE_BYTES):
                    packing.write(data)
            return stream.close()


def observe_base_backup(store: ObjectStore, *, prefix: str, label: str) -> BaseBackup:
    """Return the facts of a backup from the store. Raises `Permanent` where there is none."""
    return read_facts(store, f"{prefix}/base/{label}", label=label)[0]


def observe_base_backups(store: ObjectStore, *, prefix: str) -> Iterator[BaseBackup]:
    """Return the backups that are whole, in no order."""
    for found in store.observe_objects(f"{prefix}/base"):
        if found.key.endswith(f"/{FACTS}"):
            yield observe_base_backup(store, prefix=prefix, label=found.key.split("/")[-2])


class _TarWatch:
    """Follow a tar as it passes: where its members are, and the content of the manifest, which comes last."""

    def __init__(self, *, captured: Any) -> None:
        self.seen = 0
        self.is_at_end = False
        self._captured = captured
        self._has_manifest = False
        self._header = bytearray()
        self._skip = 0
        self._capture = 0

    def feed(self, data: memoryview) -> None:
        self.seen += len(data)
        at = 0
        while at < len(data):
            if self._capture:
                count = min(self._capture, len(data) - at)
                self._captured.write(data[at : at + count])
                self._capture -= count
                at += count
            elif self._skip:
                count = min(self._skip, len(data) - at)
                self._skip -= count
                at += count
            else:
                count = min(TAR_BLOCK - len(self._header), len(data) - at)
                self._header += data[at : at + count]
                at += count
                if len(self._header) == TAR_BLOCK:
                    self._enter(bytes(self._header))
                    self._header.clear()

    def _enter(self, header: bytes) -> None:
        if not header.strip(b"\0"):
            self.is_at_end = self._has_manifest
            return
        name = header[:100].rstrip(b"\0").decode(errors="replace")
        # Sizes from 8 GiB on are binary, with the top bit set.
        size = int.from_bytes(header[125:136], "big") if header[124] & 0x80 else int(header[124:135].strip(b"\0 "), 8)
        if name == MANIFEST:
            self._has_manifest = True
            self._capture, self._skip = size, -size % TAR_BLOCK
        else:
            self._capture, self._skip = 0, size + -size % TAR_BLOCK


@dataclass(frozen=True, slots=True)
class _ManifestFacts:
    timeline: int
    start_lsn: int
    stop_lsn: int


def _manifest_facts(data: bytes) -> _ManifestFacts:
    try:
        ranges = json.loads(data)["WAL-Ranges"]
        # The newest timeline comes first where somebody was promoted during the backup of a standby.
        return _ManifestFacts(
            timeline=int(ranges[0]["Timeline"]),
            start_lsn=min(parse_lsn(one["Start-LSN"]) for one in ranges),
            stop_lsn=max(parse_lsn(one["End-LSN"]) for one in ranges),
        )
    except (ValueError, TypeError, KeyError, IndexError):
        raise Permanent("The manifest of the base backup does not say which WAL it needs.") from None


def read_facts(store: ObjectStore, folder: str, *, label: str) -> tuple[BaseBackup, str]:
    """Return the facts of a backup and their digest, which covers all that the backup is."""
    data = store.observe_object(f"{folder}/{FACTS}")
    if data is None:
        raise Permanent(f"There is no base backup {label} in the store.")
    backup = backup_from(data, BaseBackup)
    if backup is None:
        raise Permanent(f"The facts of the base backup {label} were changed.")
    if backup.label != label or backup.key != f"{folder}/{CONTENT}":
        raise Permanent(f"The facts of the base backup {label} are those of {backup.key}.")
    return backup, hashlib.sha256(data).hexdigest()


def check_programs(server: DatabaseServer, *, programs: Programs) -> None:
    """Raise `Permanent` where the programs are not of the server's major version."""
    if server.major != programs.major:
        raise Permanent(f"The server is PostgreSQL {server.major}, the programs are of {programs.major}.")


def _check_tablespaces(url: str) -> None:
    with connected(url) as connection:
        count = one_row(connection, "SELECT count(*) FROM pg_tablespace WHERE spcname !~ '^pg_'")[0]
    if count:
        raise Permanent("The server has tablespaces of its own; a streamed base backup holds one data directory only.")


def _check_same_server(before: DatabaseServer, *, after: DatabaseServer) -> None:
    if before.system_identifier != after.system_identifier:
        raise Permanent("Another server answers at the address now than when the backup began.")


def _superuser(url: str) -> str:
    with connected(url) as connection:
        return str(one_row(connection, FIRST_ROLE)[0])


def _server_time(url: str) -> datetime:
    with connected(url) as connection:
        at: datetime = one_row(connection, "SELECT clock_timestamp()")[0]
    return at
