from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pygit2
import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.errors import Permanent
from deployments.adapters.git import open_repository
from deployments.adapters.git.repository import MirroredRepository
from deployments.ports import RefMoved
from tests.deployments.adapters.ssh_server import SSHD, SshServer, make_key, serve_ssh, user_for_sshd

REF = "refs/environments/acme/production"
Open = Callable[..., MirroredRepository]

pytestmark = pytest.mark.skipif(
    not (SSHD and user_for_sshd()), reason="OpenSSH's server (openssh-server), or a user to run it as, is missing."
)


@pytest.fixture(scope="module")
def server() -> Iterator[SshServer]:
    with serve_ssh({"acme/web.yaml": "kind: A"}) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, server: SshServer) -> Iterator[Path]:
    """A home whose known_hosts names the server, for as long as the test takes."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(server.host_line)
    before = pygit2.settings.homedir
    pygit2.settings.homedir = str(tmp_path)
    yield tmp_path
    pygit2.settings.homedir = before or ""


@pytest.fixture
def open_source(server: SshServer, home: Path) -> Open:
    def open_with(key: str = server.key) -> MirroredRepository:
        secrets = FakeSecrets({"env:GIT_KEY": key})
        return open_repository(url=server.url, mirror=home / "mirror", credential="env:GIT_KEY", secrets=secrets)

    return open_with


def test_known_host_is_read_from_and_its_ref_moved_with_the_key(open_source: Open) -> None:
    source = open_source()
    sha = source.observe_commit("main").sha

    moved = source.ensure_ref(ref=REF, sha=sha, expected=None)

    assert source.observe_tree(sha=sha, path="acme") == {"web.yaml": b"kind: A"}
    assert (moved, source.observe_ref(REF)) == (RefMoved(REF, sha, True), sha)


@pytest.mark.parametrize("known", ["", "other key", "other host"])
def test_host_that_is_not_known_is_never_believed(open_source: Open, server: SshServer, home: Path, known: str) -> None:
    other = f"{server.host_line.split(' ')[0]} {make_key()[1]}\n"
    lines = {"": "", "other key": other, "other host": server.host_line.replace("127.0.0.1", "git.example")}
    (home / ".ssh" / "known_hosts").write_text(lines[known])

    with pytest.raises(Permanent, match=r"shows a host key that is not in ~/.ssh/known_hosts"):
        open_source().ensure_fetched()

    assert (home / ".ssh" / "known_hosts").read_text() == lines[known]


def test_key_that_is_not_allowed_is_permanent(open_source: Open) -> None:
    key, _ = make_key()

    with pytest.raises(Permanent, match="does not accept this credential") as refusal:
        open_source(key).ensure_fetched()

    assert key.splitlines()[1] not in refusal.value.reason


def test_key_stands_nowhere_in_the_mirror(open_source: Open, server: SshServer, home: Path) -> None:
    open_source().ensure_fetched()

    kept = [path for path in (home / "mirror").rglob("*") if path.is_file()]
    assert kept != []
    assert [path for path in kept if server.key.splitlines()[1].encode() in path.read_bytes()] == []
