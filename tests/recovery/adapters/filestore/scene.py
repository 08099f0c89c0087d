"""A filestore in a folder, an archive of it in memory, and the keys of those who may read."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from changecontrol.adapters.fakes.objects import FakeObjectStore
from changecontrol.ports import ObjectStore
from recovery.adapters.encryption import make_key_pair
from recovery.adapters.filestore import FolderSource, StoredFilestores
from recovery.ports.filestore import FilestoreArchive, FilestoreCopied

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
OWNER, WORKER, STRANGER = make_key_pair(), make_key_pair(), make_key_pair()
"""Who may restore, who copies and knows the names, and who may do neither."""


def name_for(content: bytes) -> str:
    digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    return f"{digest[:2]}/{digest}"


def archive_in(store: ObjectStore, *, prefix: str = "acme/production", worker_count: int = 2) -> FilestoreArchive:
    return StoredFilestores(
        store, prefix=prefix, recipients=[OWNER.recipient], index_identity=WORKER.identity, worker_count=worker_count
    )


@dataclass(slots=True)
class Filestore:
    """A folder in Odoo's layout. `files` is what was put there, by name."""

    root: Path
    random: random.Random = field(default_factory=lambda: random.Random(7))
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, content: bytes) -> str:
        name = name_for(content)
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)
        self.files[name] = content
        return name

    def grow(self, count: int, *, most_bytes: int = 3000) -> list[str]:
        return [self.add(self.random.randbytes(self.random.randrange(1, most_bytes))) for _ in range(count)]

    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        del self.files[name]

    @property
    def source(self) -> FolderSource:
        return FolderSource(self.root)


@dataclass(slots=True)
class Scene:
    filestore: Filestore
    store: FakeObjectStore = field(default_factory=FakeObjectStore)

    def __post_init__(self) -> None:
        self.store.modified_at = AT

    @property
    def archive(self) -> FilestoreArchive:
        return archive_in(self.store)

    def copy(self, point: str, **words: object) -> FilestoreCopied:
        return self.archive.ensure_copy(point=point, source=self.filestore.source, at=AT, **words)  # type: ignore[arg-type]

    def keys(self, *, ending: str) -> list[str]:
        return sorted(key for key in self.store.objects if key.endswith(ending))


def restored(target: Path) -> dict[str, bytes]:
    """Return everything below a folder, by its path there."""
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
