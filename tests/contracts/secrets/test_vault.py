"""References to a vault, held against a real OpenBao in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import hvac
import pytest
import requests

from changecontrol.adapters import vault
from changecontrol.adapters.secrets import ReferencedSecrets, open_secrets
from changecontrol.adapters.vault import VaultSettings
from changecontrol.errors import Permanent, Transient
from changecontrol.project.local.processes import free_port
from tests.changecontrol.adapters.https_server import Reply
from tests.changecontrol.adapters.https_server import serve as serve_replies

CANARY = "canary-0d5f-of-the-vault"
ROOT = "root-token-of-this-test"
PROGRAM = Path(sys.executable).parent / "bao"
START_SECONDS = 60
POLICY = """
path "secret/data/shop/*" { capabilities = ["read"] }
path "old/shop/*" { capabilities = ["read"] }
"""


@dataclass(frozen=True)
class Server:
    """One OpenBao, and what its administrator does there."""

    process: subprocess.Popen[bytes]
    address: str

    @property
    def admin(self) -> hvac.Client:
        return hvac.Client(url=self.address, token=ROOT)


def serve(folder: Path) -> Iterator[Server]:
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [PROGRAM, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"-dev-listen-address={address}"],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
    server = Server(process, f"http://{address}")
    try:
        wait_until_ready(server)
        yield server
    finally:
        process.kill()
        process.wait()


def wait_until_ready(server: Server) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at:
        assert server.process.poll() is None, "OpenBao ended at once"
        try:
            if requests.get(f"{server.address}/v1/sys/health", timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError("OpenBao did not start")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for server in serve(tmp_path_factory.mktemp("vault")):
        admin = server.admin
        admin.secrets.kv.v2.create_or_update_secret("shop/git", {"token": CANARY, "port": 22, "blank": " "})
        admin.secrets.kv.v2.create_or_update_secret("payroll", {"token": CANARY})
        admin.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
        admin.secrets.kv.v1.create_or_update_secret("shop/git", {"token": CANARY}, mount_point="old")
        admin.sys.create_or_update_policy("executor", POLICY)
        admin.sys.enable_auth_method("approle")
        admin.auth.approle.create_or_update_approle("executor", token_policies=["executor"], token_ttl="10m")
        yield server


@pytest.fixture(autouse=True)
def nobody_signed_in() -> None:
    vault._tokens.clear()


@pytest.fixture
def by_role(server: Server, tmp_path: Path) -> VaultSettings:
    """The executor's own way in: its AppRole, the secret id in a file."""
    role = server.admin.auth.approle
    secret_id = tmp_path / "secret-id"
    secret_id.write_text(role.generate_secret_id("executor")["data"]["secret_id"])
    return VaultSettings(
        address=server.address,
        role_id=role.read_role_id("executor")["data"]["role_id"],
        secret_id_file=str(secret_id),
    )


@pytest.mark.parametrize("reference", ["vault:secret/data/shop/git#token", "vault:old/shop/git#token"])
def test_both_versions_of_the_key_value_engine_are_read(by_role: VaultSettings, reference: str) -> None:
    assert ReferencedSecrets(vault=by_role).read(reference) == CANARY


def test_settings_lead_to_the_vault(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(ROOT + "\n")
    settings = {"address": server.address, "authority": "", "namespace": "", "token_file": str(token)}

    secrets = open_secrets(vault={**settings, "role_id": "", "secret_id_file": "", "kubernetes_role": ""})

    assert secrets.read("vault:secret/data/shop/git#token") == CANARY


def test_a_token_renewed_in_its_file_is_used(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of-yesterday")
    secrets = ReferencedSecrets(vault=VaultSettings(address=server.address, token_file=str(token)))
    with pytest.raises(Permanent, match="does not let this program read"):
        secrets.read("vault:secret/data/shop/git#token")

    token.write_text(ROOT)

    assert secrets.read("vault:secret/data/shop/git#token") == CANARY


def test_one_sign_in_serves_many_reads_and_a_revoked_token_is_replaced(by_role: VaultSettings, server: Server) -> None:
    secrets = ReferencedSecrets(vault=by_role)
    secrets.read("vault:secret/data/shop/git#token")
    first = vault._tokens[by_role]
    secrets.read("vault:secret/data/shop/git#token")
    kept = vault._tokens[by_role]
    server.admin.auth.token.revoke(first.value)

    assert secrets.read("vault:secret/data/shop/git#token") == CANARY
    assert (kept, vault._tokens[by_role] != first) == (first, True)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("vault:secret/data/payroll#token", "does not let this program read"),
        ("vault:secret/data/shop/none#token", "no such secret"),
        ("vault:secret/data/shop/git#none", "no such secret"),
        ("vault:secret/data/shop/git#port", "no text in that field"),
        ("vault:secret/data/shop/git#blank", "no text in that field"),
        ("vault:secret/data/shop/git", "vault:path#field"),
        (f"vault:#{CANARY}", "vault:path#field"),
    ],
)
def test_what_cannot_be_read_is_refused_without_echo(
    by_role: VaultSettings, reference: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Permanent, match=says) as refusal:
        ReferencedSecrets(vault=by_role).read(reference)

    assert CANARY not in refusal.value.reason
    assert "secret/data" not in refusal.value.reason.replace("vault:secret/data/shop#token", "")
    assert CANARY not in caplog.text


def test_a_wrong_secret_id_and_no_way_in_are_said(by_role: VaultSettings, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("00000000-0000-0000-0000-000000000000")
    for settings, says in [
        (replace(by_role, secret_id_file=str(wrong)), "refused the request"),
        (replace(by_role, secret_id_file=str(tmp_path / "absent")), "cannot be read"),
        (VaultSettings(address=by_role.address), "no way to sign in"),
    ]:
        with pytest.raises(Permanent, match=says):
            ReferencedSecrets(vault=settings).read("vault:secret/data/shop/git#token")


def test_a_sealed_or_absent_vault_is_asked_again_later(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(ROOT)
    for server in serve(tmp_path):
        secrets = ReferencedSecrets(vault=VaultSettings(address=server.address, token_file=str(token)))
        server.admin.sys.seal()
        with pytest.raises(Transient, match="cannot answer now"):
            secrets.read("vault:secret/data/shop/git#token")

    with pytest.raises(Transient, match="did not answer"):
        secrets.read("vault:secret/data/shop/git#token")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(307, b"", headers={"Location": f"https://elsewhere.example/{CANARY}"}),
        Reply(200, b"<p>Welcome</p>", headers={"Content-Type": "text/html"}),
    ],
)
def test_a_redirect_or_a_page_is_no_answer(by_role: VaultSettings, tmp_path: Path, reply: Reply) -> None:
    token = tmp_path / "token"
    token.write_text(ROOT)
    with serve_replies(lambda request: reply, folder=tmp_path, scheme="http") as somebody:
        for settings in (
            VaultSettings(address=somebody.url, token_file=str(token)),
            replace(by_role, address=somebody.url),
        ):
            with pytest.raises(Transient, match="is not the vault") as trouble:
                ReferencedSecrets(vault=settings).read("vault:secret/data/shop/git#token")

            assert CANARY not in trouble.value.reason


def test_without_an_address_there_is_no_vault() -> None:
    with pytest.raises(Permanent, match="No vault is configured"):
        ReferencedSecrets().read("vault:secret/data/shop/git#token")
