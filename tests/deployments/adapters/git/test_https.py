"""Git over https with a certificate authority of one's own, as `git http-backend` serves it."""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pygit2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.errors import Permanent
from deployments.adapters.fakes.git import BareRepository
from deployments.adapters.git import open_repository
from deployments.adapters.git.repository import MirroredRepository
from deployments.ports import RefMoved
from tests.deployments.adapters.git_server import TOKEN, GitServer, serve_git

REF = "refs/environments/acme/production"


class Authority:
    """Signs certificates for 127.0.0.1; `folder/ca.crt` is its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Authority of {folder.name}")])
        own = self._sign(self._name, self._key, until=timedelta(days=1), is_authority=True)
        self.file = folder / "ca.crt"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    def context(self, *, until: timedelta = timedelta(days=1)) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "git")])
        certificate = self._sign(name, key, until=until, is_authority=False)
        pair = self._folder / "server.pem"
        pair.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        return context

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, until: timedelta, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + until)
            .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return one that this process trusts from now on; its key is lost with the test."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    pygit2.settings.set_ssl_cert_locations(str(authority.file), None)
    return authority


@pytest.fixture
def bare(tmp_path: Path) -> BareRepository:
    return BareRepository(tmp_path / "served" / "estate.git")


@pytest.fixture
def server(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # for the processes that fetch
    with serve_git(tmp_path / "served", tls=authority.context()) as server:
        yield server


def _open(url: str, folder: Path, *, token: str = TOKEN) -> MirroredRepository:
    secrets = FakeSecrets({"env:GIT_TOKEN": token})
    return open_repository(
        url=f"{url}/estate.git",
        mirror=folder / "mirror",
        credential="env:GIT_TOKEN",
        secrets=secrets,
        hosts=["127.0.0.1", "localhost"],
    )


def test_source_is_read_and_its_ref_moved_with_a_token(server: GitServer, bare: BareRepository, tmp_path: Path) -> None:
    sha = bare.commit({"acme/web.yaml": "kind: A"})
    source = _open(server.url, tmp_path)

    moved = source.ensure_ref(ref=REF, sha=sha, expected=None)

    assert source.observe_tree(sha=sha, path="acme") == {"web.yaml": b"kind: A"}
    assert (moved, bare.ref(REF)) == (RefMoved(REF, sha, True), sha)


@pytest.mark.parametrize("is_named", [True, False])
def test_authority_of_one_s_own_is_named_to_the_process(
    server: GitServer, authority: Authority, bare: BareRepository, tmp_path: Path, is_named: bool
) -> None:
    sha = bare.commit({"a": "1"})
    server.is_token_wanted = False
    program = (
        "import sys; from pathlib import Path; from deployments.adapters.git import open_repository\n"
        "print(open_repository(url=sys.argv[1], mirror=Path(sys.argv[2]), hosts=['*']).observe_commit('main').sha)"
    )
    environment = {key: value for key, value in os.environ.items() if is_named or key != "SSL_CERT_FILE"}

    done = subprocess.run(
        [sys.executable, "-c", program, f"{server.url}/estate.git", str(tmp_path / "mirror")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip

    assert done.stdout.strip() == (sha if is_named else "")
    assert ("shows a certificate that is not trusted here" in done.stderr) is not is_named


def test_expired_certificate_is_permanent_and_sees_no_token(
    authority: Authority, bare: BareRepository, tmp_path: Path
) -> None:
    with serve_git(tmp_path / "served", tls=authority.context(until=timedelta(days=-1))) as server:
        with pytest.raises(Permanent, match="shows a certificate that is not trusted here"):
            _open(server.url, tmp_path).ensure_fetched()

        assert server.authorizations == []


def test_redirect_does_not_carry_the_token_to_another_host(
    server: GitServer, authority: Authority, bare: BareRepository, tmp_path: Path
) -> None:
    bare.commit({"a": "1"})
    with serve_git(tmp_path / "served", tls=authority.context()) as stranger:
        server.redirect = stranger.url.replace("127.0.0.1", "localhost")

        with pytest.raises(Permanent):
            _open(server.url, tmp_path).ensure_fetched()

        assert [header for header in stranger.authorizations if header] == []


def test_token_stands_in_no_error_no_log_and_no_file_of_the_mirror(
    server: GitServer, bare: BareRepository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # SEC-1
    caplog.set_level(logging.DEBUG)
    bare.commit({"a": "1"})
    _open(server.url, tmp_path).ensure_fetched()
    with pytest.raises(Permanent) as refusal:
        _open(server.url, tmp_path, token="canary-of-the-source").ensure_fetched()

    kept = b"".join(path.read_bytes() for path in (tmp_path / "mirror").rglob("*") if path.is_file())
    said = f"{refusal.value!r} {refusal.value.__context__!r} {caplog.text}".encode()
    for secret in (TOKEN, "canary-of-the-source"):
        assert secret.encode() not in kept + said
