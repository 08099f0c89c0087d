"""Real bare repositories for tests and rehearsals: the Git port needs no fake where a folder does as well.

`changecontrol.adapters.fakes.script.Scripted(open_repository(…))` adds failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pygit2
from pygit2.enums import FileMode

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class BareRepository:
    """A bare repository at `path`, made where there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "objects").exists():
            pygit2.init_repository(str(path), bare=True, initial_head="main")
        self._repository = pygit2.Repository(str(path))

    @property
    def url(self) -> str:
        return str(self.path)

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        *,
        ref: str = "refs/heads/main",
        author: str = "ada@example.com",
        committer: str = "",
        message: str = "Change something.",
        at: datetime = START,
        links: Mapping[str, str] | None = None,
    ) -> str:
        """Put a commit on the ref and return its hash. A file that is None is taken away; others stay."""
        tip = self.ref(ref)
        index = self._index(tip)
        for path, content in files.items():
            if content is None:
                index.remove(path)
                continue
            blob = self._repository.create_blob(content.encode() if isinstance(content, str) else content)
            index.add(pygit2.IndexEntry(path, blob, FileMode.BLOB))
        for path, target in (links or {}).items():
            index.add(pygit2.IndexEntry(path, self._repository.create_blob(target.encode()), FileMode.LINK))
        moment = int(at.timestamp())
        sha = self._repository.create_commit(
            None,
            pygit2.Signature("Author", author, moment, 0),
            pygit2.Signature("Committer", committer or author, moment, 0),
            message,
            index.write_tree(self._repository),
            [tip] if tip else [],
        )
        self.move(ref, str(sha))
        return str(sha)

    def _index(self, tip: str | None) -> pygit2.Index:
        index = pygit2.Index()
        if tip:
            index.read_tree(self._repository[tip].peel(pygit2.Tree))
        return index

    def move(self, ref: str, sha: str) -> None:
        """Move the ref, as a stranger would."""
        self._repository.references.create(ref, pygit2.Oid(hex=sha), force=True)

    def drop(self, ref: str) -> None:
        self._repository.references.delete(ref)

    def ref(self, ref: str) -> str | None:
        """Return what the ref names now."""
        reference = self._repository.references.get(ref)
        return str(reference.target) if reference is not None else None

    def log(self, ref: str = "refs/heads/main") -> list[str]:
        """Return the messages on the ref, newest first."""
        tip = self.ref(ref)
        return [commit.message for commit in self._repository.walk(pygit2.Oid(hex=tip))] if tip else []
