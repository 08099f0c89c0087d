"""The `GitRepository` port on a bare mirror. Losing the mirror costs one fetch; it holds nothing of its own.

One process at a time writes a mirror, by a lock beside it; readers need none.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

import pygit2
from pygit2.enums import RepositoryOpenFlag, SortMode

from changecontrol.errors import Permanent, Transient
from deployments.adapters.git import fetching
from deployments.adapters.git.remote import MIRRORED, RefChanged, Remote
from deployments.adapters.git.trees import find_entry, read_files, with_path_of
from deployments.adapters.git.urls import check_path, check_ref, is_short_name
from deployments.ports import CommitInfo, RefMoved

AUTHOR_NAME = "ChangeControl"
MAX_COMMITS = 1_000
MAX_DIFF_CHARACTERS = 5_000_000
MIN_ABBREVIATION = 7
LOCK_SECONDS = 5.0

_HEX = set("0123456789abcdef")
_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Words = ParamSpec("Words")
Result = TypeVar("Result")


def _mended(
    method: Callable[Concatenate[MirroredRepository, Words], Result],
) -> Callable[Concatenate[MirroredRepository, Words], Result]:
    """Throw a damaged mirror away, so that the next look builds it anew."""

    @wraps(method)
    def read(self: MirroredRepository, /, *args: Words.args, **words: Words.kwargs) -> Result:
        seen = _identity(self._mirror)
        try:
            return method(self, *args, **words)
        except (pygit2.GitError, KeyError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _ROOM:
                raise Transient("The mirror of a Git source cannot be written: this worker's disk is full.") from None
            # One that another worker has built since is sound, and may be in use.
            if _identity(self._mirror) == seen:
                self.discard_mirror()
            raise Transient("The mirror of a Git source was damaged and is built anew.") from None

    return read


class MirroredRepository:
    """One source through its mirror. `author_email` signs the commits made here.

    `fetch_elsewhere` fetches in another process, and raises `UnderWay` while that lasts.
    """

    def __init__(
        self,
        remote: Remote,
        *,
        mirror: Path,
        author_email: str,
        fetch_elsewhere: Callable[[datetime | None], None] | None = None,
    ) -> None:
        self._remote = remote
        self._mirror = mirror
        self._author_email = author_email
        self._fetch_elsewhere = fetch_elsewhere

    def ensure_fetched(self, *, since: datetime | None = None) -> None:
        if self._fetch_elsewhere is not None:
            self._fetch_elsewhere(since)
        else:
            self.fetch_here()

    @_mended
    def fetch_here(self, *, progress: Callable[[int], None] | None = None) -> None:
        """Fetch in this process, however long it takes."""
        with self._writing() as repository:
            self._remote.fetch(repository, progress=progress)

    @_mended
    def observe_commit(self, revision: str) -> CommitInfo:
        repository = self._reading()
        commit = _find_commit(repository, revision)
        if commit is None and _is_hash(revision):
            # A pinned commit may be younger than the mirror, or the mirror may be new.
            commit = self._fetched_commit(revision)
        if commit is None:
            raise Permanent(f"The Git source at {self._remote.host} has no branch, tag or commit {revision[:80]!r}.")
        return _info(commit)

    @_mended
    def observe_range(self, *, old: str | None, new: str) -> tuple[CommitInfo, ...]:
        hidden = self._commit(old) if old is not None else None
        walker = self._reading().walk(self._commit(new).id, SortMode.TOPOLOGICAL | SortMode.TIME)
        if hidden is not None:
            walker.hide(hidden.id)
        return tuple(_info(commit) for commit in islice(walker, MAX_COMMITS))

    @_mended
    def observe_tree(self, *, sha: str, path: str) -> Mapping[str, bytes]:
        parts = check_path(path)
        commit = self._commit(sha)
        return read_files(self._reading(), commit.tree, parts=parts)

    @_mended
    def observe_diff(self, *, old: str | None, new: str, path: str) -> str:
        parts = check_path(path)
        new_tree = find_entry(self._commit(new).tree, parts)
        old_tree = find_entry(self._commit(old).tree, parts) if old is not None else None
        diff = self._diff(old_tree, new_tree)
        patch = (diff.patch or "") if diff is not None else ""
        if len(patch) > MAX_DIFF_CHARACTERS:
            return patch[:MAX_DIFF_CHARACTERS] + "\n… the difference is longer than can be shown here.\n"
        return patch

    def observe_ref(self, ref: str) -> str | None:
        check_ref(ref)
        return self._remote.heads(self._reading()).get(ref)

    @_mended
    def ensure_ref(self, *, ref: str, sha: str, expected: str | None) -> RefMoved:
        commit = self._commit(sha)
        return self._ensure_ref(ref=check_ref(ref), sha=str(commit.id), expected=expected)

    @_mended
    def ensure_commit_of(
        self, *, ref: str, tree_of: str, path: str, message: str, expected: str, at: datetime
    ) -> RefMoved:
        check_ref(ref)
        parts = check_path(path)
        base, source = self._commit(expected), self._commit(tree_of)
        # Every word of the commit comes from the request, so that asking again makes the same commit, not a second one.
        signature = pygit2.Signature(AUTHOR_NAME, self._author_email, int(at.timestamp()), 0)
        with self._writing() as repository:
            tree = with_path_of(repository, base.tree_id, source.tree_id, parts=parts)
            words = message.strip() + "\n"
            sha = str(repository.create_commit(None, signature, signature, words, tree, [base.id]))
        return self._ensure_ref(ref=ref, sha=sha, expected=str(base.id))

    def discard_mirror(self) -> None:
        """Throw the mirror away; the next call fetches it again."""
        with _locked(self._mirror):
            _sweep(self._mirror)

    def _ensure_ref(self, *, ref: str, sha: str, expected: str | None) -> RefMoved:
        with self._writing() as repository:
            named = self._remote.heads(repository).get(ref)
            if named == sha:
                _remember(repository, ref=ref, sha=sha)
                return RefMoved(ref=ref, sha=sha, moved=False)
            if named != expected:
                raise _moved_elsewhere(ref, named=named, expected=expected)
            try:
                self._remote.push(repository, ref=ref, sha=sha, expected=expected)
            except (RefChanged, Permanent) as refusal:
                # Somebody else was faster, or the server says so in words of its own: look at what is there.
                named = self._remote.heads(repository).get(ref)
                if named == sha:
                    return RefMoved(ref=ref, sha=sha, moved=False)
                if named != expected or isinstance(refusal, RefChanged):
                    raise _moved_elsewhere(ref, named=named, expected=expected) from None
                raise
            _remember(repository, ref=ref, sha=sha)
        return RefMoved(ref=ref, sha=sha, moved=True)

    def _commit(self, sha: str) -> pygit2.Commit:
        if not _is_hash(sha):
            raise Permanent("A commit is named by its full hash.")
        commit = _find_commit(self._reading(), sha) or self._fetched_commit(sha)
        if commit is None:
            raise Permanent(f"The Git source at {self._remote.host} has no commit {sha}.")
        return commit

    def _fetched_commit(self, sha: str) -> pygit2.Commit | None:
        self.ensure_fetched()
        return _find_commit(self._reading(), sha)

    def _diff(self, old: pygit2.Object | None, new: pygit2.Object | None) -> pygit2.Diff | None:
        if isinstance(old, pygit2.Tree) and isinstance(new, pygit2.Tree):
            return old.diff_to_tree(new)
        if isinstance(new, pygit2.Tree):
            return new.diff_to_tree(swap=True)
        if isinstance(old, pygit2.Tree):
            return old.diff_to_tree()
        if old is None and new is None:
            return None
        raise Permanent("The path of a difference is a folder.")

    def _reading(self) -> pygit2.Repository:
        repository = _open(self._mirror)
        if repository is None:
            self.ensure_fetched()
            repository = _open(self._mirror)
        if repository is None:
            raise Transient("The mirror of a Git source vanished while it was being read.")
        return repository

    @contextmanager
    def _writing(self) -> Iterator[pygit2.Repository]:
        with _locked(self._mirror):
            yield _open(self._mirror) or _make(self._mirror)


def _find_commit(repository: pygit2.Repository, revision: str) -> pygit2.Commit | None:
    if not is_short_name(revision):
        raise Permanent("A revision is a branch, a tag or a commit hash.")
    if _is_hash(revision):
        return _peel(repository.get(revision))
    if revision.startswith("refs/"):
        return _by_ref(repository, revision)
    branch, tag = _by_ref(repository, f"refs/heads/{revision}"), _by_ref(repository, f"refs/tags/{revision}")
    if branch is not None and tag is not None and branch.id != tag.id:
        raise Permanent(f"{revision} is both a branch and a tag. Name refs/heads/{revision} or refs/tags/{revision}.")
    if branch is not None or tag is not None:
        return branch if branch is not None else tag
    if MIN_ABBREVIATION <= len(revision) < 40 and set(revision) <= _HEX:
        try:
            return _peel(repository.get(revision))
        except ValueError:
            raise Permanent(f"More than one commit begins with {revision}. Give more of the hash.") from None
    return None


def _by_ref(repository: pygit2.Repository, name: str) -> pygit2.Commit | None:
    reference = repository.references.get(name)
    # A ref whose commit is missing is damage (KeyError), unlike a ref that is missing itself.
    return _peel(repository[reference.resolve().target]) if reference is not None else None


def _remember(repository: pygit2.Repository, *, ref: str, sha: str) -> None:
    """Let the mirror name what the remote was just seen to name, so that reading needs no fetch."""
    if ref.startswith(MIRRORED):
        repository.references.create(ref, pygit2.Oid(hex=sha), force=True)


def _peel(item: pygit2.Object | None) -> pygit2.Commit | None:
    target: Any = item
    while isinstance(target, pygit2.Tag):
        target = target.get_object()
    return target if isinstance(target, pygit2.Commit) else None


def _is_hash(text: str) -> bool:
    return len(text) == 40 and set(text) <= _HEX


def _info(commit: pygit2.Commit) -> CommitInfo:
    lines = commit.message.strip().splitlines()
    return CommitInfo(
        sha=str(commit.id),
        author=commit.author.email,
        committer=commit.committer.email,
        at=datetime.fromtimestamp(commit.commit_time, UTC),
        summary=lines[0][:200] if lines else "",
    )


def _moved_elsewhere(ref: str, *, named: str | None, expected: str | None) -> Permanent:
    return Permanent(
        f"{ref} names {(named or 'nothing')[:12]}, not {(expected or 'nothing')[:12]} as expected: somebody moved it. "
        "Look at what they did before going on."
    )


def _identity(mirror: Path) -> Path | None:
    try:
        return mirror.resolve(strict=True)
    except FileNotFoundError:  # also where it goes while we look
        return None


def _open(mirror: Path) -> pygit2.Repository | None:
    try:
        flags = RepositoryOpenFlag.BARE | RepositoryOpenFlag.NO_SEARCH | RepositoryOpenFlag.NO_DOTGIT
        return pygit2.Repository(str(mirror), flags)
    except pygit2.GitError:
        return None


def _make(mirror: Path) -> pygit2.Repository:
    if mirror.is_dir() and any(mirror.iterdir()) and not (mirror / "objects").is_dir():
        # Only half a mirror is ever swept away, never a folder that a wrong setting names.
        raise Permanent("The folder for the mirror of a Git source holds something else. Name another folder.")
    _sweep(mirror)
    # libgit2 knows packs by their path for as long as a process lives: in the place of a damaged one, a sound one of
    # the same name would count as damaged. So each copy has a place of its own.
    fresh = mirror.with_name(f"{mirror.name}.copy-{uuid4().hex}")
    pygit2.init_repository(str(fresh), bare=True)
    mirror.symlink_to(fresh.name)
    return pygit2.Repository(str(mirror))


def _sweep(mirror: Path) -> None:
    if mirror.is_symlink():
        mirror.unlink()
    for copy in [mirror, *mirror.parent.glob(f"{escape(mirror.name)}.copy-*")]:
        shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def _locked(mirror: Path) -> Iterator[None]:
    path = mirror.with_name(f"{mirror.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    busy = Transient("Another worker is busy with the mirror of this Git source.", after=5)
                    raise fetching.is_going_on(mirror) or busy from None
                time.sleep(0.05)
        yield
