"""No secret value is ever kept: in a manifest from Git it becomes a keyed hash before anything is stored or shown."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from changecontrol.rules import redaction
from changecontrol.rules.plan import canonical, digest_of


def redact(manifest: Mapping[str, Any], *, key: bytes) -> dict[str, Any]:
    """Return the manifest without secret values. The hash is keyed, so that a short password cannot be guessed from it,
    and equal values have equal hashes, so that a change still shows."""
    return redaction.redact(
        manifest,
        hide=lambda value: f"{redaction.REDACTED}:{hmac.new(key, canonical(value), hashlib.sha256).hexdigest()[:32]}",
    )


def hash_of_rendered(manifests: Iterable[Mapping[str, Any]], *, key: bytes) -> str:
    """Return one hash of what is rendered, in the order given. A rebase that renders the same has the same."""
    return digest_of([redact(manifest, key=key) for manifest in manifests])
