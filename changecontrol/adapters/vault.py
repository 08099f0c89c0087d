"""Reads secrets from OpenBao or HashiCorp Vault: `vault:path#field`. Never logs, quotes or keeps what it read.

The token is kept for as long as the server lets it live; without one of its own, a worker signs in by its AppRole or
by its Kubernetes service account. Both versions of the key-value engine are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvac
import requests
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, Unauthorized, VaultError

from changecontrol.errors import Permanent, Transient

TIMEOUT_SECONDS = 5
RENEW_BEFORE_SECONDS = 30
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105  where Kubernetes puts it


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Where the server is and who we are to it. Secrets are in files, so that they can be renewed under us."""

    address: str
    authority: str = ""
    namespace: str = ""
    token_file: str = ""
    role_id: str = ""
    secret_id_file: str = ""
    kubernetes_role: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    good_until: float


_tokens: dict[VaultSettings, _Token] = {}


def read_vault(rest: str, vault: VaultSettings | None) -> str:
    """Return the field of `path#field`. Raises `Permanent` without echoing either, `Transient` where nobody answers."""
    path, separator, field = rest.partition("#")
    if not separator or not path.strip("/") or not field:
        raise Permanent("A secret in a vault is named as vault:path#field, such as vault:secret/data/shop#token.")
    if vault is None:
        raise Permanent("No vault is configured: set VAULT_ADDR and how to sign in to it.")
    try:
        answer = _told(_asked(vault, path.strip("/")))
    except VaultError as trouble:
        raise _problem(trouble) from None
    except (requests.RequestException, OSError) as trouble:
        raise Transient(f"The vault did not answer ({type(trouble).__name__}).") from None
    held: Any = answer.get("data") or {}
    if isinstance(held.get("data"), dict) and "metadata" in held:
        held = held["data"]
    value = held.get(field)
    if not isinstance(value, str) or not value.strip():
        raise Permanent("The vault has no such secret, or it has no text in that field.")
    return value


def _asked(vault: VaultSettings, path: str) -> Any:
    """Read a path; a token that is no longer accepted is replaced once."""
    had_one = vault in _tokens
    client = _client(vault)
    client.token = _token(vault, client)
    try:
        return client.read(path)
    except (Forbidden, Unauthorized):
        if not had_one or _tokens.pop(vault, None) is None:
            raise
        client.token = _token(vault, client)
        return client.read(path)


def _client(vault: VaultSettings) -> hvac.Client:
    return hvac.Client(
        url=vault.address,
        token="",
        namespace=vault.namespace or None,
        verify=vault.authority or True,
        timeout=TIMEOUT_SECONDS,
        # A redirect would carry the token to whatever address it names.
        allow_redirects=False,
    )


def _token(vault: VaultSettings, client: hvac.Client) -> str:
    if vault.token_file:
        return _content(vault.token_file)
    known = _tokens.get(vault)
    if known is None or time.monotonic() >= known.good_until:
        asked_at = time.monotonic()
        given = _told(_sign_in(vault, client)())["auth"]
        # Zero means that it never ends.
        lives_for = float(given["lease_duration"] or 3600)
        known = _Token(given["client_token"], asked_at + max(0.0, lives_for - RENEW_BEFORE_SECONDS))
        _tokens[vault] = known
    return known.value


def _told(answer: Any) -> dict[str, Any]:
    """Return what the vault answered; no secret is nothing. A redirect or a page is no answer of a vault."""
    if answer is None:
        return {}
    if not isinstance(answer, dict):
        raise Transient("What answers at the vault's address is not the vault, or sends elsewhere.")
    return answer


def _sign_in(vault: VaultSettings, client: hvac.Client) -> Callable[[], Any]:
    if vault.role_id:
        secret_id = _content(vault.secret_id_file)
        return lambda: client.auth.approle.login(role_id=vault.role_id, secret_id=secret_id, use_token=False)
    if vault.kubernetes_role:
        jwt = _content(SERVICE_ACCOUNT_TOKEN)
        return lambda: client.auth.kubernetes.login(role=vault.kubernetes_role, jwt=jwt, use_token=False)
    raise Permanent(
        "There is no way to sign in to the vault: set VAULT_TOKEN_PATH, VAULT_ROLE_ID or VAULT_KUBERNETES_ROLE."
    )


def _content(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Permanent("The file with which to sign in to the vault cannot be read.") from None


def _problem(trouble: VaultError) -> Permanent | Transient:
    # The library's messages quote addresses and paths; a reference may be a secret that somebody pasted.
    if isinstance(trouble, Forbidden | Unauthorized):
        return Permanent("The vault does not let this program read that secret.")
    if isinstance(trouble, InvalidPath):
        return Permanent("The vault has no such secret, or it has no text in that field.")
    if isinstance(trouble, InvalidRequest):
        return Permanent("The vault refused the request: the path or the way to sign in is not one it knows.")
    return Transient(f"The vault cannot answer now ({type(trouble).__name__}).")
