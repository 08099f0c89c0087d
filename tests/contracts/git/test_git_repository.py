"""What every Git source must do, held against a local bare repository and one behind `git http-backend`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.errors import Permanent
from deployments.adapters.fakes.git import START, BareRepository
from deployments.adapters.git import open_repository
from deployments.adapters.git.repository import MirroredRepository
from deployments.ports import CommitInfo, RefMoved
from tests.deployments.adapters.git_server import TOKEN, serve_git

REF = "refs/environments/acme/production"
AT = datetime(2026, 1, 6, 3, 0, tzinfo=UTC)


@pytest.fixture
def bare(tmp_path: Path) -> BareRepository:
    return BareRepository(tmp_path / "served" / "estate.git")


@pytest.fixture(params=["local", "http"])
def open_source(
    request: pytest.FixtureRequest, bare: BareRepository, tmp_path: Path
) -> Iterator[Callable[[], MirroredRepository]]:
    mirror = tmp_path / "mirrors" / "estate"
    if request.param == "local":
        yield lambda: open_repository(url=bare.url, mirror=mirror, is_local_allowed=True)
        return
    with serve_git(tmp_path / "served") as server:
        secrets = FakeSecrets({"env:GIT_TOKEN": TOKEN})
        yield lambda: open_repository(
            url=f"{server.url}/estate.git",
            mirror=mirror,
            credential="env:GIT_TOKEN",
            secrets=secrets,
            is_local_allowed=True,
        )


@pytest.fixture
def source(open_source: Callable[[], MirroredRepository]) -> MirroredRepository:
    return open_source()


def test_branch_tag_and_hash_name_the_same_commit(source: MirroredRepository, bare: BareRepository) -> None:
    sha = bare.commit({"a": "1"}, author="ada@example.com", committer="cy@example.com", message="Add a.\n\nMore.")
    bare.move("refs/tags/v1", sha)

    found = [source.observe_commit(name) for name in ("main", "v1", sha, sha[:8], "refs/heads/main")]

    assert found == [CommitInfo(sha, "ada@example.com", "cy@example.com", START, "Add a.")] * 5


def test_mirror_follows_the_remote_when_fetched(source: MirroredRepository, bare: BareRepository) -> None:
    bare.commit({"a": "1"})
    bare.move("refs/heads/old", bare.commit({"a": "2"}))
    source.ensure_fetched()
    newest = bare.commit({"a": "3"})
    bare.drop("refs/heads/old")

    source.ensure_fetched()

    assert source.observe_commit("main").sha == newest
    with pytest.raises(Permanent, match="no branch, tag or commit 'old'"):
        source.observe_commit("old")


def test_pinned_commit_younger_than_the_mirror_is_fetched(source: MirroredRepository, bare: BareRepository) -> None:
    bare.commit({"a": "1"})
    source.ensure_fetched()
    sha = bare.commit({"a": "2"})

    assert source.observe_tree(sha=sha, path="") == {"a": b"2"}


def test_commit_that_is_nowhere_is_refused(source: MirroredRepository, bare: BareRepository) -> None:
    bare.commit({"a": "1"})

    for revision in ("f" * 40, "nosuch", "main~1", "--all"):
        with pytest.raises(Permanent):
            source.observe_commit(revision)


def test_name_of_both_a_branch_and_a_tag_is_refused(source: MirroredRepository, bare: BareRepository) -> None:
    bare.move("refs/tags/main", bare.commit({"a": "1"}))
    bare.commit({"a": "2"})

    with pytest.raises(Permanent, match="both a branch and a tag"):
        source.observe_commit("main")


def test_range_names_every_author_since(source: MirroredRepository, bare: BareRepository) -> None:  # APR-1
    old = bare.commit({"a": "1"}, author="old@example.com")
    bare.commit({"a": "2"}, author="ada@example.com", committer="cy@example.com", at=START + timedelta(hours=1))
    new = bare.commit({"a": "3"}, author="eve@example.com", at=START + timedelta(hours=2))

    found = source.observe_range(old=old, new=new)

    assert [(commit.author, commit.committer) for commit in found] == [
        ("eve@example.com", "eve@example.com"),
        ("ada@example.com", "cy@example.com"),
    ]
    assert len(source.observe_range(old=None, new=new)) == 3
    assert source.observe_range(old=new, new=new) == ()


def test_tree_is_that_of_the_pinned_commit_below_the_path(source: MirroredRepository, bare: BareRepository) -> None:
    sha = bare.commit({"acme/production/web.yaml": "kind: A", "acme/production/pos/till.yaml": "kind: B", "other": "x"})
    bare.commit({"acme/production/web.yaml": "kind: C"})

    assert source.observe_tree(sha=sha, path="acme/production") == {"web.yaml": b"kind: A", "pos/till.yaml": b"kind: B"}
    assert source.observe_tree(sha=sha, path="other") == {"other": b"x"}
    with pytest.raises(Permanent, match="has no acme/staging"):
        source.observe_tree(sha=sha, path="acme/staging")


def test_difference_is_that_of_the_path_alone(source: MirroredRepository, bare: BareRepository) -> None:
    old = bare.commit({"acme/web.yaml": "replicas: 1\n", "other": "x"})
    new = bare.commit({"acme/web.yaml": "replicas: 2\n", "other": "y"})

    patch = source.observe_diff(old=old, new=new, path="acme")

    assert "-replicas: 1\n+replicas: 2\n" in patch
    assert "other" not in patch
    assert source.observe_diff(old=new, new=new, path="acme") == ""
    assert "+replicas: 2" in source.observe_diff(old=None, new=new, path="acme")
    assert source.observe_diff(old=old, new=new, path="absent") == ""


def test_ref_moves_from_what_was_expected(source: MirroredRepository, bare: BareRepository) -> None:  # GIT-2
    first = bare.commit({"a": "1"})
    second = bare.commit({"a": "2"})

    made = source.ensure_ref(ref=REF, sha=first, expected=None)
    again = source.ensure_ref(ref=REF, sha=first, expected=None)
    moved = source.ensure_ref(ref=REF, sha=second, expected=first)
    back = source.ensure_ref(ref=REF, sha=first, expected=second)

    assert (made, again) == (RefMoved(REF, first, True), RefMoved(REF, first, False))
    assert (moved, back) == (RefMoved(REF, second, True), RefMoved(REF, first, True))
    assert source.observe_ref(REF) == first == bare.ref(REF)
    assert source.observe_commit(REF).sha == first
    assert source.observe_ref("refs/heads/absent") is None


def test_ref_that_somebody_moved_is_left(source: MirroredRepository, bare: BareRepository) -> None:  # GIT-2
    first = bare.commit({"a": "1"})
    second = bare.commit({"a": "2"})
    third = bare.commit({"a": "3"})
    bare.move(REF, third)

    for expected in (first, None):
        with pytest.raises(Permanent, match=f"names {third[:12]}, not"):
            source.ensure_ref(ref=REF, sha=second, expected=expected)

    assert bare.ref(REF) == third


def test_rollback_is_a_commit_that_names_the_change(source: MirroredRepository, bare: BareRepository) -> None:  # RBK-4
    good = bare.commit({"acme/web.yaml": "good", "other": "1"})
    bad = bare.commit({"acme/web.yaml": "bad", "acme/new.yaml": "x", "other": "2"})
    bare.move(REF, bad)

    moved = source.ensure_commit_of(
        ref=REF, tree_of=good, path="acme", message="CHG-000007: Roll back.", expected=bad, at=AT
    )

    assert moved == RefMoved(REF, bare.ref(REF) or "", True)
    assert source.observe_tree(sha=moved.sha, path="") == {"acme/web.yaml": b"good", "other": b"2"}
    assert bare.log(REF)[0] == "CHG-000007: Roll back.\n"
    made = source.observe_commit(moved.sha)
    assert (made.author, made.committer, made.at) == ("changecontrol@localhost", "changecontrol@localhost", AT)


def test_rollback_asked_again_finds_its_own_commit(
    source: MirroredRepository, open_source: Callable[[], MirroredRepository], bare: BareRepository, tmp_path: Path
) -> None:  # RUN-1
    good = bare.commit({"acme/web.yaml": "good"})
    bad = bare.commit({"acme/web.yaml": "bad"})
    bare.move(REF, bad)
    words = {"ref": REF, "tree_of": good, "path": "acme", "message": "CHG-000007: Roll back.", "expected": bad}
    first = source.ensure_commit_of(**words, at=AT)
    shutil.rmtree(tmp_path / "mirrors")

    again = open_source().ensure_commit_of(**words, at=AT)

    assert again == RefMoved(REF, first.sha, False)
    assert len(bare.log(REF)) == 3


def test_path_absent_in_the_source_is_taken_away(source: MirroredRepository, bare: BareRepository) -> None:
    before = bare.commit({"other": "1"})
    after = bare.commit({"acme/production/web.yaml": "new"})
    bare.move(REF, after)

    moved = source.ensure_commit_of(
        ref=REF, tree_of=before, path="acme/production", message="Roll back.", expected=after, at=AT
    )

    assert source.observe_tree(sha=moved.sha, path="") == {"other": b"1"}


def test_lost_or_damaged_mirror_is_built_anew(source: MirroredRepository, bare: BareRepository, tmp_path: Path) -> None:
    sha = bare.commit({"a": "1"})
    mirror = tmp_path / "mirrors" / "estate"
    source.ensure_fetched()

    shutil.rmtree(mirror.resolve())
    lost = source.observe_commit("main").sha
    (mirror / "HEAD").write_text("nonsense")
    damaged = source.observe_commit("main").sha

    assert [lost, damaged] == [sha, sha]
