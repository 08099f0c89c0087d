"""Reading a digest out of an image or image id."""

from __future__ import annotations

import re

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def digest_in(image: str) -> str:
    """Return the `sha256:…` that ends an image or image id, or an empty string."""
    found = _DIGEST.search(image)
    return found.group() if found else ""
