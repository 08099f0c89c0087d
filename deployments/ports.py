"""What rollouts ask of machines elsewhere: a Git repository and a metrics server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit. `author` and `committer` are e-mail addresses."""

    sha: str
    author: str
    committer: str
    at: datetime
    summary: str


@dataclass(frozen=True, slots=True)
class RefMoved:
    """What the ref names after `ensure_ref` or `ensure_reverted`."""

    ref: str
    sha: str
    moved: bool


class GitRepository(Protocol):
    """One source, through a bare mirror that `ensure_fetched` brings up to date."""

    def ensure_fetched(self, *, since: datetime | None = None) -> None:
        """Fetch all branches, tags and environment refs. Raises `Transient` when the remote does not answer.

        What a fetch begun before `since` has found does not count: name it where a branch is to be read as it is now.
        """

    def observe_commit(self, revision: str) -> CommitInfo:
        """Resolve a branch, tag or (abbreviated) hash to one commit. Raises `Permanent` when there is none."""

    def observe_range(self, *, old: str | None, new: str) -> tuple[CommitInfo, ...]:
        """List the commits reachable from `new` and not from `old`, newest first, at most 1,000."""

    def observe_tree(self, *, sha: str, path: str) -> Mapping[str, bytes]:
        """Return the files below `path` at the commit, by their path relative to it."""

    def observe_diff(self, *, old: str | None, new: str, path: str) -> str:
        """Return the unified diff of `path` between two commits."""

    def observe_ref(self, ref: str) -> str | None:
        """Return the commit the remote's ref names, or None."""

    def ensure_ref(self, *, ref: str, sha: str, expected: str | None) -> RefMoved:
        """Move the remote's ref if it still names `expected`; a ref that names `sha` already is left.

        Raises `Permanent` when it names something else.
        """

    def ensure_commit_of(
        self, *, ref: str, tree_of: str, path: str, message: str, expected: str, at: datetime
    ) -> RefMoved:
        """Put a commit on top of `expected` whose `path` is that of commit `tree_of`, and move the ref to it.

        Asked again with the same words it finds its own commit (same bytes, same hash).
        """


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a series; `value` may be NaN."""

    labels: Mapping[str, str]
    at: datetime
    value: float


class Indicators(Protocol):
    """A metrics server that speaks the Prometheus query API."""

    def observe_query(self, query: str, *, at: datetime) -> Sequence[Sample]:
        """Evaluate an instant query. No series is an empty sequence, never an error."""
