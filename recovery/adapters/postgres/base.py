"""Base backups: `pg_basebackup` to a pipe, compressed, encrypted and uploaded as it comes, without a file in between.

A backup is in the catalogue of the store once its facts are written, which comes last.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from changecontrol.project.local.processes import stop_child
from recovery.adapters.postgres.packing import PackingWriter
from recovery.adapters.postgres.programs import (
    Programs,
    connected,
    connection_environment,
    failure,
    observe_server,
    one_row,
)
from recovery.adapters.streams import StoredStream, StreamWriter
from recovery.ports import BaseBackup, DatabaseServer, parse_lsn

PIPE_BYTES = 1024 * 1024
TAR_BLOCK = 512
MANIFEST = "backup_manifest"
FACTS = "facts.json"
STOP_STEPS = ((signal.SIGTERM, 10.0),)


def take_base_backup(
    *, url: str, programs: Programs, store: ObjectStore, prefix: str, label: str, recipients: Sequence[str]
) -> BaseBackup:
    """Back a whole server up to `PREFIX/base/LABEL/`, and return the facts.

    The role needs REPLICATION. Raises `Permanent` where the label is taken, and what the server or the store refuse.
    """
    server = observe_server(url)
    if server.major != programs.major:
        raise Permanent(f"The server is PostgreSQL {server.major}, the programs are of {programs.major}.")
    _check_tablespaces(url)
    folder = f"{prefix}/base/{label}"
    started_at = _server_time(url)
    manifest = tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115
    with manifest:
        tar = _TarWatch(captured=manifest)
        stream = _stream_tar(
            url,
            programs=programs,
            store=store,
            key=f"{folder}/base.tar.zst.age",
            tar=tar,
            label=label,
            recipients=recipients,
        )
        finished_at = _server_time(url)
        manifest.seek(0)
        facts = _manifest_facts(manifest.read())
        manifest.seek(0)
        kept = _stream_file(manifest, store=store, key=f"{folder}/{MANIFEST}.zst.age", recipients=recipients)
    backup = BaseBackup(
        label=label,
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
    )
    _check_same_server(server, after=observe_server(url))
    store.ensure_object(f"{folder}/{FACTS}", _to_json(backup))
    return backup


def observe_base_backup(store: ObjectStore, *, prefix: str, label: str) -> BaseBackup:
    """Return the facts of a backup from the store. Raises `Permanent` where there is none."""
    data = store.observe_object(f"{prefix}/base/{label}/{FACTS}")
    if data is None:
        raise Permanent(f"There is no base backup {label} in the store.")
    try:
        return _from_json(data)
    except (ValueError, TypeError, KeyError):
        raise Permanent(f"The facts of the base backup {label} were changed.") from None


def observe_base_backups(store: ObjectStore, *, prefix: str) -> Iterator[BaseBackup]:
    """Return the backups that are whole, in no order."""
    for found in store.observe_objects(f"{prefix}/base"):
        if found.key.endswith(f"/{FACTS}"):
            yield observe_base_backup(store, prefix=prefix, label=found.key.split("/")[-2])


def _stream_tar(
    url: str,
    *,
    programs: Programs,
    store: ObjectStore,
    key: str,
    tar: _TarWatch,
    label: str,
    recipients: Sequence[str],
) -> StoredStream:
    environment = connection_environment(url)
    command = [programs.path("pg_basebackup"), "--pgdata=-", "--format=tar", "--wal-method=none", "--checkpoint=fast"]
    command_words = [*map(str, command), f"--label={label}", "--no-password", "--manifest-checksums=CRC32C"]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603
            command_words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        assert child.stdout is not None
        try:
            fcntl.fcntl(child.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            with child.stdout as pipe, StreamWriter(store, key) as stream:
                packing = PackingWriter(stream, recipients=recipients)
                while data := os.read(pipe.fileno(), PIPE_BYTES):
                    tar.feed(data)
                    packing.write(data)
                if child.wait() != 0:
                    said.seek(0)
                    words = said.read().decode(errors="replace")
                    raise failure("pg_basebackup", words=words, environment=environment)
                if not tar.is_at_end:
                    raise Permanent("What pg_basebackup sent is no whole archive, or has no manifest.")
                packing.close()
                return stream.close()
        finally:
            stop_child(child, steps=STOP_STEPS)


def _stream_file(file: Any, *, store: ObjectStore, key: str, recipients: Sequence[str]) -> StoredStream:
    with StreamWriter(store, key) as stream:
        packing = PackingWriter(stream, recipients=recipients)
        while data := file.read(PIPE_BYTES):
            packing.write(data)
        packing.close()
        return stream.close()


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

    def feed(self, data: bytes) -> None:
        self.seen += len(data)
        view, at = memoryview(data), 0
        while at < len(view):
            if self._capture:
                count = min(self._capture, len(view) - at)
                self._captured.write(view[at : at + count])
                self._capture -= count
                at += count
            elif self._skip:
                count = min(self._skip, len(view) - at)
                self._skip -= count
                at += count
            else:
                count = min(TAR_BLOCK - len(self._header), len(view) - at)
                self._header += view[at : at + count]
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


def _check_tablespaces(url: str) -> None:
    with connected(url) as connection:
        count = one_row(connection, "SELECT count(*) FROM pg_tablespace WHERE spcname !~ '^pg_'")[0]
    if count:
        raise Permanent("The server has tablespaces of its own; a streamed base backup holds one data directory only.")


def _check_same_server(before: DatabaseServer, *, after: DatabaseServer) -> None:
    if before.system_identifier != after.system_identifier:
        raise Permanent("Another server answers at the address now than when the backup began.")


def _server_time(url: str) -> datetime:
    with connected(url) as connection:
        at: datetime = one_row(connection, "SELECT clock_timestamp()")[0]
    return at


def _to_json(backup: BaseBackup) -> bytes:
    facts = asdict(backup) | {name: getattr(backup, name).isoformat() for name in ("started_at", "finished_at")}
    return json.dumps(facts, indent=1, sort_keys=True).encode()


def _from_json(data: bytes) -> BaseBackup:
    facts = json.loads(data)
    times = {name: datetime.fromisoformat(facts[name]) for name in ("started_at", "finished_at")}
    return BaseBackup(**facts | times)
