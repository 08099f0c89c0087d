"""What leaves the adapter holds no secret, not even a hash: it knows no key, without which equal secrets would show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from changecontrol.rules.redaction import REDACTED, is_secret_name, redact, redact_text


def redact_object(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a live object without secret values."""
    return redact(manifest, hide=lambda value: REDACTED)


__all__ = ["is_secret_name", "redact_object", "redact_text"]
