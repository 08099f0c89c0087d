"""Reads a kubeconfig and refuses everything in it that runs programs, reads files or weakens TLS.

Pure: text in, `ClusterAccess` out. Refusals are sentences that never quote the secret parts.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from changecontrol.errors import Permanent

MAX_KUBECONFIG_BYTES = 256 * 1024
MAX_NESTING = 20

REFUSED_OF_USER = {
    "exec": "runs a program (exec) to sign in",
    "auth-provider": "signs in through an auth-provider plug-in",
    "tokenFile": "names a file (tokenFile)",
    "client-certificate": "names a file (client-certificate)",
    "client-key": "names a file (client-key)",
    "username": "signs in with a user name and password",
    "password": "signs in with a user name and password",
    "as": "impersonates another user (as)",
    "as-groups": "impersonates another user (as-groups)",
    "as-uid": "impersonates another user (as-uid)",
    "as-user-extra": "impersonates another user (as-user-extra)",
}
REFUSED_OF_CLUSTER = {
    "certificate-authority": "names a file (certificate-authority)",
    "proxy-url": "asks for a proxy (proxy-url)",
}
KNOWN_OF_USER = {"token", "client-certificate-data", "client-key-data", "extensions"}
KNOWN_OF_CLUSTER = {
    "server",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "tls-server-name",
    "disable-compression",
    "extensions",
}
HELP = "Use a kubeconfig that holds a token or a client certificate inline, and https."


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """What it takes to talk to one cluster. The secret parts stay out of `repr`."""

    server: str
    ca_pem: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    certificate_pem: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)
    tls_server_name: str = ""


def parse_kubeconfig(text: str) -> ClusterAccess:
    """Return how to reach the cluster of the current context. Raises `Permanent` with what is wrong and what helps."""
    document = _load(text)
    context = _pick_context(document)
    cluster = _named(document, "clusters", "cluster", _text(context, "cluster", "context"))
    user = _named(document, "users", "user", _text(context, "user", "context"))
    _refuse(cluster, refused=REFUSED_OF_CLUSTER, known=KNOWN_OF_CLUSTER, where="cluster")
    _refuse(user, refused=REFUSED_OF_USER, known=KNOWN_OF_USER, where="user")
    if cluster.get("insecure-skip-tls-verify") not in (None, False):
        raise Permanent(f"This kubeconfig switches off the check of certificates (insecure-skip-tls-verify). {HELP}")

    access = ClusterAccess(
        server=_server(_text(cluster, "server", "cluster")),
        ca_pem=_pem(cluster, "certificate-authority-data"),
        token=_token(user),
        certificate_pem=_pem(user, "client-certificate-data"),
        key_pem=_pem(user, "client-key-data"),
        tls_server_name=_optional_text(cluster, "tls-server-name"),
    )
    if bool(access.certificate_pem) != bool(access.key_pem):
        raise Permanent("This kubeconfig holds half of a client certificate: it needs certificate and key.")
    if not access.token and not access.certificate_pem:
        raise Permanent(f"This kubeconfig holds no credential. {HELP}")
    return access


def _load(text: str) -> Mapping[str, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_KUBECONFIG_BYTES:
        raise Permanent(f"This kubeconfig is larger than {MAX_KUBECONFIG_BYTES // 1024} KiB.")
    try:
        _check_shape(text)
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        # The parser's own message quotes the line, which may hold the token.
        raise Permanent("This kubeconfig is not valid YAML.") from None
    if not isinstance(document, dict) or document.get("kind") != "Config":
        raise Permanent("This is not a kubeconfig (kind: Config).")
    return document


def _check_shape(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            # Aliases have no use here, and nested ones make a small file expand without end.
            raise Permanent("This kubeconfig uses YAML aliases; write the values out.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_NESTING:
            raise Permanent("This kubeconfig is nested too deeply.")


def _pick_context(document: Mapping[str, Any]) -> Mapping[str, Any]:
    contexts = _entries(document, "contexts")
    current = document.get("current-context")
    if current:
        return _named(document, "contexts", "context", str(current))
    if len(contexts) != 1:
        raise Permanent(f"This kubeconfig has {len(contexts)} contexts and names none as current (current-context).")
    return _body(contexts[0], "context")


def _entries(document: Mapping[str, Any], section: str) -> list[Mapping[str, Any]]:
    entries = document.get(section) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Permanent(f"The section {section} of this kubeconfig is not a list of entries.")
    return entries


def _named(document: Mapping[str, Any], section: str, key: str, name: str) -> Mapping[str, Any]:
    found = [entry for entry in _entries(document, section) if entry.get("name") == name]
    if len(found) != 1:
        raise Permanent(f"This kubeconfig needs exactly one entry of {section} by the name its context uses.")
    return _body(found[0], key)


def _body(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    body = entry.get(key)
    if not isinstance(body, dict):
        raise Permanent(f"An entry of this kubeconfig has no {key}.")
    return body


def _refuse(entry: Mapping[str, Any], *, refused: Mapping[str, str], known: set[str], where: str) -> None:
    for key, reason in refused.items():
        if key in entry:
            raise Permanent(f"This kubeconfig {reason}, which is not accepted. {HELP}")
    if any(key not in known for key in entry):
        raise Permanent(f"The {where} of this kubeconfig holds a setting that is not known here. {HELP}")


def _server(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_sound = False
    if not is_sound or any(character.isspace() or ord(character) < 33 for character in url):
        raise Permanent("The server of this kubeconfig is not a valid address.")
    if parts.scheme != "https":
        raise Permanent(f"This kubeconfig reaches its server without TLS, which is not accepted. {HELP}")
    if parts.username is not None or parts.query or parts.fragment:
        raise Permanent("The server of this kubeconfig must be a plain https address without user name or query.")
    return url.rstrip("/")


def _text(entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise Permanent(f"The {where} of this kubeconfig has no {key}.")
    return value


def _optional_text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if value in (None, ""):
        return ""
    if not isinstance(value, str):
        raise Permanent(f"The {key} of this kubeconfig is not text.")
    return value


def _token(user: Mapping[str, Any]) -> str:
    token = _optional_text(user, "token").strip()
    # A line break in a header value would let the file write headers of its own.
    if not token.isascii() or any(character.isspace() or ord(character) < 33 for character in token):
        raise Permanent("The token of this kubeconfig holds characters a token cannot have.")
    return token


def _pem(entry: Mapping[str, Any], key: str) -> str:
    encoded = _optional_text(entry, key)
    if not encoded:
        return ""
    try:
        pem = base64.b64decode("".join(encoded.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise Permanent(f"The {key} of this kubeconfig is not base64 of a PEM text.") from None
    if "-----BEGIN " not in pem:
        raise Permanent(f"The {key} of this kubeconfig is not base64 of a PEM text.")
    return pem
