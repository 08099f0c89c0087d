from __future__ import annotations

import base64
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.errors import Permanent, Transient
from deployments.adapters.fakes.git import START, BareRepository
from deployments.adapters.git import open_repository, repository, trees
from deployments.adapters.git.repository import MirroredRepository
from deployments.ports import RefMoved
from tests.changecontrol.adapters.https_server import Reply, serve
from tests.deployments.adapters.git_server import TOKEN, GitServer, serve_git

REF = "refs/environments/acme/production"


@pytest.fixture
def bare(tmp_path: Path) -> BareRepository:
    return BareRepository(tmp_path / "served" / "estate.git")


@pytest.fixture
def local(bare: BareRepository, tmp_path: Path) -> MirroredRepository:
    return open_repository(url=bare.url, mirror=tmp_path / "mirror", is_local_allowed=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with serve_git(tmp_path / "served") as server:
        yield server


@pytest.fixture
def open_remote(server: GitServer, tmp_path: Path) -> Callable[[str], MirroredRepository]:
    def open_with(token: str) -> MirroredRepository:
        return open_repository(
            url=f"{server.url}/estate.git",
            mirror=tmp_path / "mirror",
            credential="env:GIT_TOKEN",
            secrets=FakeSecrets({"env:GIT_TOKEN": token}),
            is_local_allowed=True,
        )

    return open_with


def test_token_is_sent_as_a_password(
    open_remote: Callable[[str], MirroredRepository], server: GitServer, bare: BareRepository
) -> None:
    bare.commit({"a": "1"})

    open_remote(f"deploy:{TOKEN}").ensure_fetched()

    sent = next(header for header in server.authorizations if header)
    assert base64.b64decode(sent.removeprefix("Basic ")).decode() == f"deploy:{TOKEN}"


def test_wrong_token_is_permanent_and_offered_once(
    open_remote: Callable[[str], MirroredRepository], server: GitServer, bare: BareRepository
) -> None:
    bare.commit({"a": "1"})

    with pytest.raises(Permanent, match="does not accept this credential") as refusal:
        open_remote("canary").ensure_fetched()

    assert "canary" not in refusal.value.reason
    assert len([header for header in server.authorizations if header]) == 1


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (403, Permanent, "does not let this credential"),
        (404, Permanent, "no such repository"),
        (429, Transient, "could not be reached"),
        (500, Transient, "could not be reached"),
        (503, Transient, "could not be reached"),
    ],
)
def test_answers_of_the_server_are_told_apart(
    open_remote: Callable[[str], MirroredRepository],
    server: GitServer,
    bare: BareRepository,
    status: int,
    error: type[Exception],
    says: str,
) -> None:
    server.status = status

    with pytest.raises(error, match=says):
        open_remote(TOKEN).ensure_fetched()


def test_server_that_is_down_is_transient(tmp_path: Path) -> None:
    source = open_repository(url="http://127.0.0.1:1/x.git", mirror=tmp_path / "mirror", is_local_allowed=True)

    with pytest.raises(Transient, match=r"127\.0\.0\.1 could not be reached"):
        source.ensure_fetched()


def test_untrusted_certificate_is_permanent(tmp_path: Path) -> None:
    with serve(lambda request: Reply(200, ""), folder=tmp_path) as server:
        source = open_repository(url=f"{server.url}/estate.git", mirror=tmp_path / "mirror", hosts=["127.0.0.1"])

        with pytest.raises(Permanent, match="shows a certificate that is not trusted here"):
            source.ensure_fetched()

    assert server.requests == []


def test_redirect_is_not_followed(
    open_remote: Callable[[str], MirroredRepository], server: GitServer, bare: BareRepository, tmp_path: Path
) -> None:
    with serve_git(tmp_path / "served") as stranger:
        server.redirect = stranger.url.replace("127.0.0.1", "localhost")

        with pytest.raises(Permanent, match="leads elsewhere"):
            open_remote(TOKEN).ensure_fetched()

    assert stranger.authorizations == []  # not asked at all: where it leads may be inside the network


def test_cut_connection_after_the_push_is_found_done(
    open_remote: Callable[[str], MirroredRepository], server: GitServer, bare: BareRepository
) -> None:  # RUN-1
    sha = bare.commit({"a": "1"})
    source = open_remote(TOKEN)
    server.cut_after_push = True
    with pytest.raises(Transient):
        source.ensure_ref(ref=REF, sha=sha, expected=None)

    again = source.ensure_ref(ref=REF, sha=sha, expected=None)

    assert again == RefMoved(REF, sha, False)
    assert bare.ref(REF) == sha


def test_ref_moved_between_looking_and_pushing_is_not_overwritten(
    local: MirroredRepository, bare: BareRepository, monkeypatch: pytest.MonkeyPatch
) -> None:  # GIT-2
    first = bare.commit({"a": "1"})
    second = bare.commit({"a": "2"})
    third = bare.commit({"a": "3"})
    bare.move(REF, first)
    remote = local._remote
    push = remote.push

    def push_late(*args: object, **words: object) -> None:
        bare.move(REF, third)
        push(*args, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(remote, "push", push_late)

    with pytest.raises(Permanent, match="somebody moved it"):
        local.ensure_ref(ref=REF, sha=second, expected=first)

    assert bare.ref(REF) == third


def test_hook_that_declines_is_quoted(
    open_remote: Callable[[str], MirroredRepository], server: GitServer, bare: BareRepository
) -> None:
    sha = bare.commit({"a": "1"})
    hook = bare.path / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)

    with pytest.raises(Permanent, match="refused to move refs/environments/acme/production: hook declined"):
        open_remote(TOKEN).ensure_ref(ref=REF, sha=sha, expected=None)


def test_link_inside_counts_as_its_file(local: MirroredRepository, bare: BareRepository) -> None:
    sha = bare.commit({"acme/base/web.yaml": "kind: A"}, links={"acme/web.yaml": "base/web.yaml"})

    assert local.observe_tree(sha=sha, path="acme")["web.yaml"] == b"kind: A"


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "base", "absent"])
def test_link_out_is_refused(local: MirroredRepository, bare: BareRepository, target: str) -> None:
    sha = bare.commit({"secret": "canary", "acme/base/web.yaml": "x"}, links={"acme/web.yaml": target})

    with pytest.raises(Permanent, match=r"web\.yaml is a symbolic link"):
        local.observe_tree(sha=sha, path="acme")


def test_tree_has_limits(local: MirroredRepository, bare: BareRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    sha = bare.commit({"a": "12345", "b": "12345"})
    for limit, value in (("MAX_FILES", 1), ("MAX_BYTES", 9)):
        with monkeypatch.context() as patch:
            patch.setattr(trees, limit, value)

            with pytest.raises(Permanent, match="There is more than"):
                local.observe_tree(sha=sha, path="")


def test_long_difference_is_cut(
    local: MirroredRepository, bare: BareRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = bare.commit({"a": "1\n" * 50})
    monkeypatch.setattr(repository, "MAX_DIFF_CHARACTERS", 60)

    assert local.observe_diff(old=None, new=sha, path="").endswith("longer than can be shown here.\n")


def test_busy_mirror_is_transient(
    local: MirroredRepository, bare: BareRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "LOCK_SECONDS", 0.1)
    with (tmp_path / "mirror.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        with pytest.raises(Transient, match="busy with the mirror"):
            local.ensure_fetched()


def test_folder_of_something_else_is_never_swept_away(bare: BareRepository, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "thesis").write_text("years of work")
    source = open_repository(url=bare.url, mirror=folder, is_local_allowed=True)

    with pytest.raises(Permanent, match="holds something else"):
        source.ensure_fetched()

    assert (folder / "thesis").exists()


def test_mirror_that_lost_objects_is_built_anew(
    local: MirroredRepository, bare: BareRepository, tmp_path: Path
) -> None:
    sha = bare.commit({"a": "1"}, at=START)
    local.ensure_fetched()
    for folder in (tmp_path / "mirror" / "objects").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(Transient, match="built anew"):
        local.observe_commit("main")

    assert local.observe_commit("main").sha == sha


@pytest.mark.parametrize(
    ("url", "secret", "says"),
    [
        ("ssh://git@127.0.0.1/x.git", "token", "is a private key"),
        ("http://127.0.0.1:1/x.git", "-----BEGIN OPENSSH PRIVATE KEY-----", "is a token"),
        ("/srv/x.git", "token", "takes no credential"),
    ],
)
def test_credential_of_the_wrong_sort_is_refused(tmp_path: Path, url: str, secret: str, says: str) -> None:
    source = open_repository(
        url=url,
        mirror=tmp_path / "mirror",
        credential="env:X",
        secrets=FakeSecrets({"env:X": secret}),
        is_local_allowed=True,
    )

    with pytest.raises(Permanent, match=says):
        source.ensure_fetched()
