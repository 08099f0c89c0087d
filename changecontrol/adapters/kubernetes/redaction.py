"""What leaves the adapter holds no secret, not even a hash: it knows no key, without which equal secrets would show."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from changecontrol.rules.redaction import REDACTED, is_secret_name, redact, redact_text


def redact_object(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a live object without secret values."""
    return redact(manifest, hide=lambda value: REDACTED)


def text_in(secret: Mapping[str, Any]) -> dict[str, str]:
    """Return what a live Secret holds, by key; what is no text is left out."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        with suppress(ValueError):
            found[str(key)] = b64decode(str(value)).decode()
    return found


__all__ = ["is_secret_name", "redact_object", "redact_text", "text_in"]
