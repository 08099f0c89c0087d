"""No secret value is ever kept: what a Secret holds becomes a keyed hash before anything is stored or shown."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from changecontrol.rules.plan import canonical, digest_of

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation in which kubectl repeats the whole object, secret values included."""


def redact(manifest: Mapping[str, Any], *, key: bytes) -> dict[str, Any]:
    """Return the manifest without secret values. The hash is keyed, so that a short password cannot be guessed from it,
    and equal values have equal hashes, so that a change still shows."""
    if manifest.get("kind") != "Secret":
        return dict(manifest)
    redacted = dict(manifest)
    for field in ("data", "stringData"):
        values = redacted.get(field)
        if isinstance(values, Mapping):
            redacted[field] = {name: _hash(value, key) for name, value in values.items()}
        elif values is not None:
            redacted[field] = _hash(values, key)
    metadata = redacted.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if isinstance(metadata, Mapping) and isinstance(annotations, Mapping) and LAST_APPLIED in annotations:
        hidden = {**annotations, LAST_APPLIED: _hash(annotations[LAST_APPLIED], key)}
        redacted["metadata"] = {**metadata, "annotations": hidden}
    return redacted


def hash_of_rendered(manifests: Iterable[Mapping[str, Any]], *, key: bytes) -> str:
    """Return one hash of what is rendered, in the order given. A rebase that renders the same has the same."""
    return digest_of([redact(manifest, key=key) for manifest in manifests])


def _hash(value: Any, key: bytes) -> str:
    return f"redacted:{hmac.new(key, canonical(value), hashlib.sha256).hexdigest()[:32]}"
