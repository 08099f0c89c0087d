"""The mirror as workers share it: together, damaged, on a full disk, before a server that says nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pygit2
import pytest

from changecontrol import clock
from changecontrol.errors import Permanent, Transient, UnderWay
from deployments.adapters.fakes.git import BareRepository
from deployments.adapters.git import fetching, open_repository, repository
from deployments.adapters.git.repository import MirroredRepository
from tests.deployments.adapters.git_server import serve_git

READS = 15


@pytest.fixture
def bare(tmp_path: Path) -> BareRepository:
    return BareRepository(tmp_path / "estate.git")


@pytest.fixture
def source(bare: BareRepository, tmp_path: Path) -> MirroredRepository:
    return _open(bare.url, tmp_path)


def _open(url: str, folder: Path) -> MirroredRepository:
    return open_repository(url=url, mirror=folder / "mirror", is_local_allowed=True)


def _read_often(url: str, folder: Path, sha: str, seen: multiprocessing.Queue[str]) -> None:
    source = _open(url, folder)
    for _ in range(READS):
        try:
            source.ensure_fetched()
            seen.put(source.observe_tree(sha=sha, path="")["a"].decode())
        except Transient:
            seen.put("again")


def test_workers_share_a_mirror_while_it_is_lost_again_and_again(
    source: MirroredRepository, bare: BareRepository, tmp_path: Path
) -> None:
    sha = bare.commit({"a": "1"})
    context = multiprocessing.get_context("fork")
    seen: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_read_often, args=(bare.url, tmp_path, sha, seen)) for _ in range(2)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers) and seen.qsize() < 2 * READS:
        source.discard_mirror()
        time.sleep(0.01)

    answers = [seen.get(timeout=10) for _ in range(2 * READS)]
    for worker in workers:
        worker.join(10)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert set(answers) <= {"1", "again"}
    assert "1" in answers
    assert source.observe_tree(sha=sha, path="") == {"a": b"1"}
    copy = (tmp_path / "mirror").resolve().name
    assert {path.name for path in tmp_path.iterdir()} == {"estate.git", "mirror", "mirror.lock", copy}


@pytest.mark.parametrize("where", ["pack", "packed-refs", "HEAD", "config"])
def test_mirror_damaged_on_disk_is_built_anew(
    source: MirroredRepository, bare: BareRepository, tmp_path: Path, where: str
) -> None:
    sha = bare.commit({"a": "1" * 500})
    source.ensure_fetched()
    mirror = tmp_path / "mirror"
    damaged = (
        [*mirror.glob("objects/pack/*.pack"), *mirror.glob("objects/??/*")] if where == "pack" else [mirror / where]
    )
    for path in damaged:
        path.chmod(0o600) if path.exists() else None
        path.write_bytes(b"\0garbage\0")

    for _ in range(2):
        try:
            content = source.observe_tree(sha=sha, path="")
            break
        except Transient:
            continue

    assert content == {"a": b"1" * 500}


def test_mirror_built_meanwhile_is_left_alone(
    source: MirroredRepository, bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = bare.commit({"a": "1"})
    source.ensure_fetched()

    def lose_it_meanwhile(*args: object, **words: object) -> None:
        source.discard_mirror()
        _open(bare.url, tmp_path).ensure_fetched()
        raise KeyError(sha)

    with monkeypatch.context() as patch:
        patch.setattr(repository, "read_files", lose_it_meanwhile)
        with pytest.raises(Transient, match="built anew"):
            source.observe_tree(sha=sha, path="")

    assert (tmp_path / "mirror" / "HEAD").exists()


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_said_and_costs_no_mirror(
    source: MirroredRepository, bare: BareRepository, tmp_path: Path
) -> None:
    first = bare.commit({"a": "1"})
    source.ensure_fetched()
    bare.commit({"b": os.urandom(200_000)})

    with _largest_file(64_000), pytest.raises(Transient, match="this worker's disk is full"):
        source.ensure_fetched()

    shutil.rmtree(bare.path)
    assert source.observe_tree(sha=first, path="") == {"a": b"1"}


def test_branch_that_was_forced_keeps_no_old_name_and_a_commit_that_is_gone_is_said(
    source: MirroredRepository, bare: BareRepository
) -> None:
    bare.move("refs/heads/other", bare.commit({"a": "1"}))
    gone = bare.commit({"a": "2"})
    source.ensure_fetched()
    bare.move("refs/heads/main", bare.ref("refs/heads/other") or "")
    source.ensure_fetched()
    named = source.observe_commit("main").sha
    shutil.rmtree(bare.path / "objects" / gone[:2])
    source.discard_mirror()

    with pytest.raises(Permanent, match=f"has no branch, tag or commit '{gone}'"):
        source.observe_commit(gone)

    assert named == bare.ref("refs/heads/other")


@contextmanager
def _silence() -> Iterator[str]:
    """Let a server accept connections and say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []
        thread = threading.Thread(target=lambda: held.append(listener.accept()[0]), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/x.git"
        finally:
            for connection in held:
                connection.close()


def test_server_that_never_answers_is_left_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SILENT_MILLISECONDS", 300)

    with _silence() as url, pytest.raises(Transient, match="could not be reached, or did not") as trouble:
        _open(url, tmp_path).ensure_fetched()

    assert not isinstance(trouble.value, UnderWay)


def test_fetch_that_gets_nowhere_ends_as_a_failed_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STALLED_SECONDS", 1)

    with _silence() as url, pytest.raises(Transient, match="broke off") as trouble:
        _open(url, tmp_path).ensure_fetched()

    assert not isinstance(trouble.value, UnderWay)


def test_no_call_waits_longer_than_a_tick_allows() -> None:
    assert (pygit2.settings.server_connect_timeout + pygit2.settings.server_timeout) / 1000 <= 10
    assert fetching.WAIT_SECONDS <= 10
    assert repository.LOCK_SECONDS <= 10


def _slowly(bare: BareRepository, tmp_path: Path, url: str) -> MirroredRepository:
    bare.commit({"a": os.urandom(400_000)})
    return open_repository(url=f"{url}/{bare.path.name}", mirror=tmp_path / "mirror", is_local_allowed=True)


def _fetched_in(source: MirroredRepository, *, limit: int = 60) -> list[str]:
    """Ask again and again, as ticks do, and return what was said meanwhile."""
    said: list[str] = []
    for _ in range(limit):
        try:
            source.ensure_fetched()
        except UnderWay as word:
            said.append(word.reason)
        else:
            return said
    raise AssertionError(f"It never came to an end: {said}")


def test_first_fetch_that_outlasts_ticks_goes_on_and_is_not_begun_again(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.5)
    with serve_git(tmp_path) as server:
        server.is_token_wanted = False
        server.bytes_per_second = 200_000
        source = _slowly(bare, tmp_path, server.url)

        with pytest.raises(UnderWay):
            source.ensure_fetched()
        said = _fetched_in(source)

    assert len(said) >= 2
    # Before the fetch has said anything, and once it is over, nothing tells that it is the first.
    told = [one for one in said if one.startswith("Fetching the source for the first time (")]
    assert len(told) >= len(said) - 2, said
    assert any(int(one.split("(")[1].split()[0]) > 100 for one in told), said
    assert server.packs == 1  # the pack came over the wire once
    assert source.observe_commit("main").summary


def test_fetch_begun_before_it_was_asked_for_is_no_answer(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    with serve_git(tmp_path) as server:
        server.is_token_wanted = False
        source = _slowly(bare, tmp_path, server.url)
        with pytest.raises(UnderWay):
            source.ensure_fetched()
        while not fetching.note_of(tmp_path / "mirror").read_text().startswith('{"state": "done"'):
            time.sleep(0.02)
        pushed = bare.commit({"b": b"1"})
        monkeypatch.setattr(fetching, "WAIT_SECONDS", 20.0)

        source.ensure_fetched(since=clock.now())

    assert source.observe_commit("main").sha == pushed


def test_fetch_that_is_killed_is_said_once_and_begun_anew(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.5)
    begun: list[int] = []
    original = fetching._begun
    monkeypatch.setattr(fetching, "_begun", lambda order: _noted(begun, original(order)))
    with serve_git(tmp_path) as server:
        server.is_token_wanted = False
        server.bytes_per_second = 50_000
        source = _slowly(bare, tmp_path, server.url)
        with pytest.raises(UnderWay):
            source.ensure_fetched()
        while '"bytes": 0' in (note := fetching.note_of(tmp_path / "mirror").read_text()) or not note:
            time.sleep(0.01)

        os.kill(begun[0], signal.SIGKILL)
        while fetching._is_going(fetching.note_of(tmp_path / "mirror")):
            time.sleep(0.01)
        server.bytes_per_second = 0
        with pytest.raises(Transient, match="broke off") as trouble:
            source.ensure_fetched()
        _fetched_in(source)

    assert not isinstance(trouble.value, UnderWay)
    assert not list((tmp_path / "mirror").glob("objects/pack/*_git2_*"))
    assert source.observe_commit("main").summary


def _noted(begun: list[int], process: Any) -> Any:
    begun.append(process.pid)
    return process


def test_refusal_while_nobody_waits_is_told_to_the_next_who_asks(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "WAIT_SECONDS", 0.0)
    with serve_git(tmp_path) as server:
        server.status = 403
        source = _slowly(bare, tmp_path, server.url)
        with pytest.raises(UnderWay):
            source.ensure_fetched()
        while not fetching.note_of(tmp_path / "mirror").read_text().startswith('{"state": "permanent"'):
            time.sleep(0.02)

        with pytest.raises(Permanent, match="does not let this credential"):
            source.ensure_fetched()


def test_fetch_that_cannot_begin_costs_no_mirror(
    bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_git(tmp_path) as server:
        server.is_token_wanted = False
        source = _slowly(bare, tmp_path, server.url)
        source.ensure_fetched()
        kept = (tmp_path / "mirror").resolve()

        def refuse(*args: Any, **words: Any) -> Any:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

        monkeypatch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(Transient, match="Resource temporarily unavailable"):
            source.observe_commit("a" * 40)
        with pytest.raises(Transient, match="Resource temporarily unavailable"):
            source.ensure_fetched()

    assert (tmp_path / "mirror").resolve() == kept
    assert source.observe_commit("main").summary
