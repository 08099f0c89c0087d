"""What counts as words: something a reader sees. What looks empty is no reason, no comment and no name."""

from __future__ import annotations

import unicodedata

_SEEN = frozenset("LNPS")
"""The Unicode categories of what leaves ink: letters, numbers, punctuation and symbols."""
_INKLESS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""The fillers among those letters and symbols, which leave none."""


def seen(text: str) -> str:
    """Return the text without its margins; empty where a reader would see nothing, such as a zero-width space."""
    words = text.strip()
    is_seen = any(unicodedata.category(one)[0] in _SEEN and one not in _INKLESS for one in words)
    return words if is_seen else ""
