"""Incremental base backups (PostgreSQL 17 on): what changed since a parent, and the chain that a restore puts together.

Each names its parent and the digest of the parent's facts, which hold the digests of everything else, so a chain is
whole or refused: no other backup takes a parent's place.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore
from recovery.adapters.postgres.base import Parent, Taking, check_programs, read_facts
from recovery.adapters.postgres.packing import READ_BYTES, UnpackingReader
from recovery.adapters.postgres.programs import Programs, connected, observe_server, one_row
from recovery.adapters.streams import StreamReader, observe_stream_gap
from recovery.ports.postgres import BaseBackup, DatabaseServer

FIRST_MAJOR = 17
LONGEST_CHAIN = 50
NO_SUMMARIES = re.compile(r"WAL summaries are required|WAL summarization is not progressing|summarize_wal")


class FaultIn(Permanent):
    """A fault of one backup of a chain, which breaks whatever builds upon it. `label` is the backup's."""

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(reason)
        self.label = label


def take_incremental_backup(
    *,
    url: str,
    programs: Programs,
    store: ObjectStore,
    prefix: str,
    label: str,
    recipients: Sequence[str],
    parent: str,
    index_identity: str,
) -> BaseBackup:
    """Back up what changed since the backup `parent` to `PREFIX/base/LABEL/`, and return the facts.

    Raises `Permanent` where the parent or its manifest is missing, damaged, of another server or not encrypted to the
    index key, and where the server keeps no summaries of its WAL back to it: a full backup is due then.
    """
    server = observe_server(url)
    check_programs(server, programs=programs)
    _check_summaries(url, server=server)
    base, digest = read_facts(store, f"{prefix}/base/{parent}", label=parent)
    if base.system_identifier != server.system_identifier:
        raise Permanent(f"The base backup {parent} is of another server. Take a full one.")
    _check_chain(store, base)
    with tempfile.NamedTemporaryFile(prefix="manifest-") as manifest:
        _write_manifest(store, base=base, index_identity=index_identity, file=manifest)
        manifest.flush()
        taking = Taking(
            url=url,
            programs=programs,
            store=store,
            folder=f"{prefix}/base/{label}",
            label=label,
            recipients=recipients,
            index_identity=index_identity,
            parent=Parent(label=parent, sha256=digest, manifest=manifest.name),
        )
        try:
            return taking.take()
        except Permanent as error:
            if NO_SUMMARIES.search(error.reason):
                raise Permanent(
                    f"The server has no summaries of its WAL back to the base backup {parent}. Take a full one."
                ) from None
            raise


def chain_of(store: ObjectStore, base: BaseBackup) -> tuple[BaseBackup, ...]:
    """Return the backups a restore needs, the full one first and the one given last.

    Raises `Permanent` where a parent is missing, or is not the one that was built upon.
    """
    chain = [base]
    while child := chain[-1].parent:
        folder = base.key.rsplit("/", 2)[0]
        try:
            parent, digest = read_facts(store, f"{folder}/{child}", label=child)
        except Permanent as error:
            raise FaultIn(child, f"The base backup {chain[-1].label} builds upon {child}: {error.reason}") from None
        if digest != chain[-1].parent_sha256:
            reason = f"{chain[-1].label} builds upon {child}, which was changed or has another in its place."
            raise FaultIn(child, f"The base backup {reason}")
        chain.append(parent)
        if len(chain) > LONGEST_CHAIN:
            raise Permanent(f"The base backup {base.label} builds upon more than {LONGEST_CHAIN} others.")
    return tuple(reversed(chain))


def _check_chain(store: ObjectStore, base: BaseBackup) -> None:
    """Raise `Permanent` where the store has lost something of what would be built upon. No part is read."""
    for member in chain_of(store, base):
        for key in (member.key, member.manifest_key):
            if gap := observe_stream_gap(store, key):
                raise FaultIn(member.label, gap)


def _check_summaries(url: str, *, server: DatabaseServer) -> None:
    if server.major < FIRST_MAJOR:
        raise Permanent(f"Incremental base backups need PostgreSQL {FIRST_MAJOR}; the server is {server.major}.")
    with connected(url) as connection:
        if one_row(connection, "SELECT current_setting('summarize_wal')::bool") != (True,):
            raise Permanent(
                "The server does not summarise its WAL: set summarize_wal = on there, reload it, and take a full base"
                " backup before the first incremental one."
            )


def _write_manifest(
    store: ObjectStore, *, base: BaseBackup, index_identity: str, file: tempfile._TemporaryFileWrapper[bytes]
) -> None:
    with StreamReader(store, base.manifest_key, sha256=base.manifest_sha256) as stored:
        try:
            content = UnpackingReader(stored, identities=[index_identity])
        except Permanent as error:
            raise Permanent(f"The manifest of the base backup {base.label}: {error.reason} Take a full one.") from None
        while data := content.read(READ_BYTES):
            file.write(data)
