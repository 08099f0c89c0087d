"""Signs evidence with an Ed25519 key that is named by reference and never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from changecontrol.errors import Permanent

if TYPE_CHECKING:
    from changecontrol.ports import Secrets


class Ed25519Signer:
    """One key pair. Ed25519 is deterministic: the same bytes have the same signature."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def public_key(self) -> bytes:
        """Return the public key in PEM."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def open_signer(reference: str, *, secrets: Secrets) -> Ed25519Signer:
    """Read the private key (PEM, PKCS 8). Raises `Permanent` with a sentence that does not repeat it."""
    if not reference:
        raise Permanent("No evidence can be signed: EVIDENCE_SIGNING_KEY is not set.")
    try:
        key = serialization.load_pem_private_key(secrets.read(reference).encode(), password=None)
    except (ValueError, TypeError) as problem:
        raise Permanent("EVIDENCE_SIGNING_KEY does not name a private key in PEM.") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise Permanent("EVIDENCE_SIGNING_KEY does not name an Ed25519 key.")
    return Ed25519Signer(key)
