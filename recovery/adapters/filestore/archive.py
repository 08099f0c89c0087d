"""The `FilestoreArchive` port: copies of one environment's filestore in an object store.

Below `<prefix>/filestore/` lie `packs/<id>.tar.zst.age`, beside each its index (`packs/<id>.files.zst.age`), and
`points/<point>.files.zst.age`, a manifest for each recovery point. Nothing is ever overwritten, and the manifest comes
last: a copy that was killed leaves packs that the next one goes on from, and no point.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore, StoredObject
from recovery.adapters.encryption import Source, recipient_of
from recovery.adapters.filestore import copying, reading
from recovery.adapters.filestore.manifest import DIGEST_LENGTH, Entry, Manifest, Pack, Part, from_text, merged, to_text
from recovery.adapters.filestore.names import is_name
from recovery.adapters.filestore.packs import opened, sealed
from recovery.adapters.filestore.parts import PackUpload, StoredPack
from recovery.ports.filestore import (
    FilestoreCopied,
    FilestoreFinding,
    FilestoreOrphan,
    FilestorePoint,
    FilestoreRead,
    FilestoreSource,
    FindingKind,
)

WORKER_COUNT = 2
REUSE_FOR = timedelta(hours=12)
"""How long a copy goes on from packs that no point names."""
LEAST_GRACE = 2 * REUSE_FOR
"""Orphans are older than this before they go, or a copy might name one that is being removed."""
PACK, INDEX = ".tar.zst.age", ".files.zst.age"
NEVER = datetime.max.replace(tzinfo=UTC)
_PACK_ID = re.compile(r"[0-9a-f]{32}")
_POINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class StoredFilestores:
    """The copies of the environment whose objects lie below `prefix`.

    Packs are encrypted to `recipients`. Manifests and indexes are encrypted to the owner of `index_identity` besides:
    who has that identity, as the worker does, can say which files there are, and cannot read one.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        prefix: str,
        recipients: Sequence[str],
        index_identity: str,
        worker_count: int = WORKER_COUNT,
    ) -> None:
        if not _PREFIX.fullmatch(prefix):
            raise Permanent("The prefix of an environment's backups is plain words with slashes between.")
        self._store = store
        self._prefix = prefix
        self._root = f"{prefix}/filestore"
        self._recipients = tuple(recipients)
        self._index_identity = index_identity
        self._worker_count = worker_count

    def ensure_copy(
        self,
        *,
        point: str,
        source: FilestoreSource,
        at: datetime,
        distrusted: Collection[str] = (),
    ) -> FilestoreCopied:
        key = self._point_key(point)
        if (data := self._store.observe_object(key)) is not None:
            manifest = self._open_manifest(data, key=key, identity=self._index_identity)
            return FilestoreCopied(point=_facts(manifest, key=key, data=data))
        base, unreadable = self._base(at=at, distrusted=distrusted)
        walk = copying.Walk(base, names=source.observe_names())
        done = copying.packed(
            walk,
            source=source,
            packs=self,
            recipients=self._recipients,
            worker_count=self._worker_count,
        )
        new = [part for worker in done for part in worker.parts]
        parts = [(base.packs, walk.kept), *new]
        manifest = merged(prefix=self._prefix, point=point, taken_at=at, parts=parts, gone=walk.gone)
        self._check_stored(manifest)
        data = sealed(to_text(manifest), recipients=self._index_recipients())
        self._store.ensure_object(key, data)
        return FilestoreCopied(
            point=_facts(manifest, key=key, data=data),
            copied_count=sum(len(lines) for _, lines in new),
            copied_bytes=sum(worker.copied_bytes for worker in done),
            stored_bytes=sum(pack.size for packs, _ in new for pack in packs),
            kept_count=len(walk.kept),
            vanished=tuple(sorted(name for worker in done for name in worker.vanished)),
            wrong=tuple(sorted(finding for worker in done for finding in worker.wrong)),
            unreadable=tuple(unreadable),
        )

    def observe_point(self, name: str) -> FilestorePoint | None:
        key = self._point_key(name)
        data = self._store.observe_object(key)
        if data is None:
            return None
        return _facts(self._open_manifest(data, key=key, identity=self._index_identity), key=key, data=data)

    def observe_damage(self, point: FilestorePoint) -> tuple[FilestoreFinding, ...]:
        manifest, findings = self._expected_manifest(point, identity=self._index_identity)
        if manifest is None:
            return findings
        parts = [found for pack in manifest.packs for found in self._part_keys(pack)]
        others = {part.sha256: key for key, part in parts}

        def check(found: tuple[str, Part]) -> FilestoreFinding | None:
            key, part = found
            return reading.damaged_part(part, key=key, data=self._store.observe_object(key), others=others)

        with ThreadPoolExecutor(self._worker_count) as pool:
            return tuple(sorted(finding for finding in pool.map(check, parts) if finding is not None))

    def observe_keys(self, point: FilestorePoint) -> tuple[str, ...]:
        """Return the keys of all objects that a point needs: its manifest and every part of every pack."""
        manifest, findings = self._expected_manifest(point, identity=self._index_identity)
        if manifest is None:
            raise Permanent(findings[0].sentence)
        return (point.key, *(key for pack in manifest.packs for key, _ in self._part_keys(pack)))

    def observe_contents(
        self, point: FilestorePoint, *, identity: str, named: Collection[str] | None = None
    ) -> FilestoreRead:
        manifest, findings = self._readable_manifest(point, identity=identity)
        if manifest is None:
            return FilestoreRead(file_count=0, byte_count=0, findings=findings)
        return self._read(manifest, identity=identity, named=named)

    def ensure_restored(
        self, point: FilestorePoint, *, target: Path, identity: str, named: Collection[str] | None = None
    ) -> FilestoreRead:
        manifest, findings = self._readable_manifest(point, identity=identity)
        if manifest is None:
            raise Permanent(findings[0].sentence)
        folder = reading.TargetFolder(target, restoring=point.sha256)
        result = self._read(manifest, identity=identity, named=named, keep=folder.keep, has=folder.has)
        if all(one.kind is FindingKind.LOST for one in result.findings):
            folder.finish()
        return result

    def ensure_removed(self, point: FilestorePoint) -> None:
        self._check_own(point)
        self._store.ensure_absent(point.key)

    def observe_orphans(self, *, at: datetime, grace: timedelta) -> tuple[FilestoreOrphan, ...]:
        if grace < LEAST_GRACE:
            raise Permanent("Objects that no point names are kept for a day at least.")
        # The packs first: one that a copy stores after this look is not taken for an orphan.
        stored = self._stored_packs()
        named = {pack.id for manifest in self._manifests() for pack in manifest.packs}
        return tuple(
            FilestoreOrphan(key=key, size=found.size, stored_at=found_at, is_due=at - found_at >= grace)
            for key, found in sorted(stored.items())
            if _pack_id(key) not in named
            for found_at in [_stored_at(found)]
        )

    def ensure_pruned(self, *, at: datetime, grace: timedelta) -> tuple[FilestoreOrphan, ...]:
        due = tuple(orphan for orphan in self.observe_orphans(at=at, grace=grace) if orphan.is_due)
        for orphan in due:
            self._store.ensure_absent(orphan.key)
        return due

    def begin_pack(self) -> copying.PackUpload:
        return PackUpload(self._store, pack=uuid.uuid4().hex, key_of=self._part_key)

    def ensure_index(self, pack: Pack, *, lines: list[bytes]) -> None:
        index = Manifest(prefix=self._prefix, point="", taken_at=NEVER, packs=(pack,), lines=lines)
        data = sealed(to_text(index), recipients=self._index_recipients())
        self._store.ensure_object(self._index_key(pack.id), data)

    def _opened_pack(self, pack: Pack) -> Source:
        return StoredPack(self._store, keys=[key for key, _ in self._part_keys(pack)])

    def _base(self, *, at: datetime, distrusted: Collection[str]) -> tuple[Manifest, list[FilestoreFinding]]:
        """Return what the archive holds that a copy may build upon, and the manifests that could not be read.

        That is the newest point that can be read, and young packs it does not name, which a killed copy left.
        """
        unreadable: list[FilestoreFinding] = []
        found = Manifest(prefix=self._prefix, point="", taken_at=at, packs=(), lines=[])
        points = self._store.observe_objects(f"{self._root}/points")
        for stored in sorted(points, key=lambda stored: (_stored_at(stored), stored.key), reverse=True):
            try:
                found = self._manifest_at(stored.key)
                break
            except Permanent as problem:
                unreadable.append(FilestoreFinding(stored.key, FindingKind.UNREADABLE, problem.reason))
        packs = self._stored_packs()
        known = {pack.id for pack in found.packs}
        parts = [(found.packs, found.lines)]
        for key, stored in packs.items():
            is_young = at - _stored_at(stored) < REUSE_FOR
            if key.endswith(INDEX) and is_young and (pack := _pack_id(key)) not in known:
                parts += self._left_behind(key, pack=pack)
        bad = {_pack_id(key) for key in distrusted}
        usable = {pack for held, _ in parts for pack in held if pack.id not in bad and self._is_stored(pack, packs)}
        return _usable(found, parts=parts, usable=usable), unreadable

    def _left_behind(self, key: str, *, pack: str) -> list[tuple[tuple[Pack, ...], list[bytes]]]:
        """Return what the index of a pack says, unless it is not one of ours: then its files are copied anew."""
        try:
            index = self._manifest_at(key)
        except Permanent:
            return []
        is_own = [held.id for held in index.packs] == [pack]
        return [(index.packs, index.lines)] if is_own else []

    def _manifests(self) -> Iterator[Manifest]:
        for stored in list(self._store.observe_objects(f"{self._root}/points")):
            yield self._manifest_at(stored.key)

    def _manifest_at(self, key: str) -> Manifest:
        data = self._store.observe_object(key)
        if data is None:
            raise Transient(f"{key} was there and is gone again.")
        return self._open_manifest(data, key=key, identity=self._index_identity)

    def _open_manifest(self, data: bytes, *, key: str, identity: str) -> Manifest:
        try:
            text = opened(data, identity=identity)
        except Permanent as problem:
            raise Permanent(f"The manifest {key} cannot be read. {problem.reason}") from None
        manifest = from_text(text, key=key)
        if manifest.prefix != self._prefix:
            raise Permanent(f"The manifest {key} is that of another environment: {manifest.prefix}.")
        if manifest.point and key != self._point_key(manifest.point):
            raise Permanent(f"The manifest {key} is that of another point: {manifest.point}.")
        return manifest

    def _expected_manifest(
        self, point: FilestorePoint, *, identity: str
    ) -> tuple[Manifest | None, tuple[FilestoreFinding, ...]]:
        """Return the point's manifest, or what is wrong with it. Raises `Permanent` where the identity is wrong."""
        self._check_own(point)
        data = self._store.observe_object(point.key)
        if data is not None and hashlib.sha256(data).hexdigest() == point.sha256:
            return self._open_manifest(data, key=point.key, identity=identity), ()
        kind, words = self._difference(data, point=point, identity=identity)
        return None, (FilestoreFinding(point.key, kind, words),)

    def _readable_manifest(
        self, point: FilestorePoint, *, identity: str
    ) -> tuple[Manifest | None, tuple[FilestoreFinding, ...]]:
        """Return the manifest, for one who will read packs next. Raises `Permanent` for a key that opens none."""
        owner = recipient_of(identity)
        if owner == recipient_of(self._index_identity) and owner not in self._recipients:
            raise Permanent("The key given opens the list of files and none of the files.")
        return self._expected_manifest(point, identity=identity)

    def _difference(self, data: bytes | None, *, point: FilestorePoint, identity: str) -> tuple[FindingKind, str]:
        """Say what lies where the manifest should, as far as it can be read."""
        if data is None:
            return FindingKind.MISSING, f"The manifest {point.key} is not in the store."
        try:
            other = from_text(opened(data, identity=identity), key=point.key)
        except Permanent:
            if len(data) < point.size:
                sentence = f"The manifest {point.key} is truncated: {len(data):,} of {point.size:,} bytes are there."
                return FindingKind.TRUNCATED, sentence
            return FindingKind.CHANGED, f"The manifest {point.key} holds other bytes than were written."
        words = f"In place of the manifest {point.key} lies that of the point {other.point} of {other.prefix}."
        return FindingKind.SWAPPED, words

    def _read(
        self,
        manifest: Manifest,
        *,
        identity: str,
        named: Collection[str] | None,
        keep: reading.Keep = reading.discard,
        has: Callable[[Entry], bool] = lambda entry: False,
    ) -> FilestoreRead:
        read = reading.read_files(
            manifest,
            digests=None if named is None else {name[3:].encode() for name in named if is_name(name)},
            open_pack=self._opened_pack,
            identity=identity,
            keep=keep,
            has=has,
            worker_count=self._worker_count,
        )
        return reading.joined([read, FilestoreRead(0, 0, _missing(manifest, named))])

    def _point_key(self, point: str) -> str:
        if not _POINT.fullmatch(point):
            raise Permanent("A point's name is letters, digits, dots, dashes and underscores.")
        return f"{self._root}/points/{point}{INDEX}"

    def _part_keys(self, pack: Pack) -> list[tuple[str, Part]]:
        return [(self._part_key(pack.id, number), part) for number, part in enumerate(pack.parts)]

    def _part_key(self, pack: str, number: int) -> str:
        return f"{self._pack_stem(pack)}{PACK}" + (f".{number:04d}" if number else "")

    def _index_key(self, pack: str) -> str:
        return f"{self._pack_stem(pack)}{INDEX}"

    def _pack_stem(self, pack: str) -> str:
        if not _PACK_ID.fullmatch(pack):
            raise Permanent("A manifest names a pack that this program never wrote.")
        return f"{self._root}/packs/{pack}"

    def _check_own(self, point: FilestorePoint) -> None:
        if point.key != self._point_key(point.name):
            raise Permanent(f"The point {point.name} is not one of {self._prefix}.")

    def _check_stored(self, manifest: Manifest) -> None:
        """Raise `Transient` unless every pack is in the store as it was written, before a point is told of them."""
        stored = self._stored_packs()
        for pack in manifest.packs:
            if not self._is_stored(pack, stored):
                raise Transient(f"The pack {pack.id} is not in the store as written. Its files are copied again.")

    def _is_stored(self, pack: Pack, stored: Mapping[str, StoredObject]) -> bool:
        return all((found := stored.get(key)) and found.size == part.size for key, part in self._part_keys(pack))

    def _stored_packs(self) -> dict[str, StoredObject]:
        return {stored.key: stored for stored in self._store.observe_objects(f"{self._root}/packs")}

    def _index_recipients(self) -> list[str]:
        return [*self._recipients, recipient_of(self._index_identity)]


def _facts(manifest: Manifest, *, key: str, data: bytes) -> FilestorePoint:
    return FilestorePoint(
        name=manifest.point,
        key=key,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        taken_at=manifest.taken_at,
        file_count=len(manifest.lines),
        byte_count=manifest.byte_count(),
    )


def _missing(manifest: Manifest, named: Collection[str] | None) -> tuple[FilestoreFinding, ...]:
    """Return what the database names and the point does not hold: the source had it no more, or never."""
    if named is None:
        return ()
    held = {line[:DIGEST_LENGTH] for line in manifest.lines}
    words = "is named by the database and is not in the point: it was not there, or not whole, when it was copied."
    return tuple(
        FilestoreFinding(name, FindingKind.LOST, f"{name} {words}")
        for name in sorted(set(named))
        if not is_name(name) or name[3:].encode() not in held
    )


def _usable(
    found: Manifest, *, parts: list[tuple[tuple[Pack, ...], list[bytes]]], usable: Collection[Pack]
) -> Manifest:
    """Return the newest manifest with what else may be used, and without what may not."""
    if len(parts) == 1 and usable == set(found.packs):
        return found
    chosen = [(packs, [line for line in lines if packs[int(line.split(b" ")[2])] in usable]) for packs, lines in parts]
    facts: dict[str, Any] = {"prefix": found.prefix, "point": found.point, "taken_at": found.taken_at}
    both = merged(**facts, parts=chosen, gone=found.gone)
    once = [line for before, line in pairwise([b"", *both.lines]) if before[:DIGEST_LENGTH] != line[:DIGEST_LENGTH]]
    return replace(both, lines=once)


def _pack_id(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]


def _stored_at(stored: StoredObject) -> datetime:
    """Return when an object was stored: an unknown time counts as just now, so that nothing is removed for it."""
    return stored.modified_at or NEVER
