from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from changecontrol.adapters.kubernetes.kubeconfig import ClusterAccess, parse_kubeconfig
from changecontrol.errors import Permanent
from tests.changecontrol.adapters.https_server import make_certificate

TOKEN = "very-secret-token"


def kubeconfig(*, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **top: Any) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "executor"}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://api.example:6443", **(cluster or {})}}],
        "users": [{"name": "executor", "user": {"token": TOKEN} if user is None else user}],
    }
    return yaml.safe_dump({**document, **top})


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_token_and_authority_are_read() -> None:
    certificate, _ = make_certificate()

    access = parse_kubeconfig(kubeconfig(cluster={"certificate-authority-data": encoded(certificate)}))

    assert access == ClusterAccess(server="https://api.example:6443", ca_pem=certificate, token=TOKEN)


def test_client_certificate_is_read() -> None:
    certificate, key = make_certificate()

    access = parse_kubeconfig(
        kubeconfig(user={"client-certificate-data": encoded(certificate), "client-key-data": encoded(key)})
    )

    assert (access.certificate_pem, access.key_pem, access.token) == (certificate, key, "")


def test_secret_parts_stay_out_of_the_representation() -> None:
    access = parse_kubeconfig(kubeconfig())

    assert TOKEN not in repr(access)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"user": {"exec": {"command": "aws"}}}, "runs a program"),
        ({"user": {"token": TOKEN, "auth-provider": {"name": "gcp"}}}, "auth-provider"),
        ({"user": {"tokenFile": "/var/run/token"}}, "names a file (tokenFile)"),
        ({"user": {"client-certificate": "/c.pem", "client-key": "/k.pem"}}, "names a file (client-certificate)"),
        ({"user": {"client-certificate-data": encoded("-----BEGIN C"), "client-key": "/k.pem"}}, "(client-key)"),
        ({"user": {"username": "admin", "password": TOKEN}}, "user name and password"),
        ({"user": {"token": TOKEN, "as": "system:admin"}}, "impersonates"),
        ({"user": {"token": TOKEN, "surprise": 1}}, "not known here"),
        ({"user": {"token": f"{TOKEN}\nHost: evil"}}, "characters a token cannot have"),
        ({"user": {"client-certificate-data": encoded("-----BEGIN C")}}, "half of a client certificate"),
        ({"user": {}}, "holds no credential"),
        ({"cluster": {"server": "http://api.example"}}, "without TLS"),
        ({"cluster": {"server": "https://user:pw@api.example"}}, "without user name"),
        ({"cluster": {"server": "https://api.example:70000"}}, "not a valid address"),
        ({"cluster": {"insecure-skip-tls-verify": True}}, "insecure-skip-tls-verify"),
        ({"cluster": {"insecure-skip-tls-verify": "false"}}, "insecure-skip-tls-verify"),
        ({"cluster": {"certificate-authority": "/etc/ca.pem"}}, "names a file (certificate-authority)"),
        ({"cluster": {"proxy-url": "http://proxy"}}, "proxy"),
        ({"cluster": {"certificate-authority-data": "%%%"}}, "not base64"),
        ({"current-context": "", "contexts": [{"name": "a"}, {"name": "b"}]}, "2 contexts and names none"),
        ({"current-context": "absent"}, "exactly one entry of contexts"),
        ({"contexts": "here"}, "not a list"),
        ({"kind": "Secret"}, "not a kubeconfig"),
    ],
)
def test_what_is_not_accepted_is_said_without_the_secret(words: dict[str, Any], says: str) -> None:
    with pytest.raises(Permanent) as refusal:
        parse_kubeconfig(kubeconfig(**words))

    assert says in refusal.value.reason
    assert TOKEN not in refusal.value.reason


def test_the_only_context_needs_no_current_one() -> None:
    top: dict[str, Any] = {"current-context": ""}

    assert parse_kubeconfig(kubeconfig(**top)).token == TOKEN


def test_aliases_are_refused() -> None:
    with pytest.raises(Permanent, match="aliases"):
        parse_kubeconfig("a: &a [x]\nb: [*a, *a]\n")


def test_large_file_is_refused() -> None:
    with pytest.raises(Permanent, match="larger than 256 KiB"):
        parse_kubeconfig("# " + "x" * 300_000)


@pytest.mark.parametrize("text", [f"token: {TOKEN}: [", "[" * 5000, "\x00", "- !!python/object:os.system {}"])
def test_broken_yaml_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(Permanent) as refusal:
        parse_kubeconfig(text)

    assert TOKEN not in refusal.value.reason
    assert refusal.value.__cause__ is None
