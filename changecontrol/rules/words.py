"""What counts as words: something a reader sees. What looks empty is no reason, no comment and no name."""

from __future__ import annotations

import unicodedata

_SEEN = frozenset("LNPS")
"""The Unicode categories of what leaves ink: letters, numbers, punctuation and symbols."""
_INKLESS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""The fillers among those letters and symbols, which leave none."""


def seen(text: str) -> str:
    """Return the text without its margins; empty where a reader would see nothing, such as a zero-width space.

    Empty, too, where it is no text that can be kept: with a NUL or half of a surrogate pair inside.
    """
    words = text.strip()
    if any(one == "\0" or unicodedata.category(one) == "Cs" for one in words):
        return ""
    is_seen = any(unicodedata.category(one)[0] in _SEEN and one not in _INKLESS for one in words)
    return words if is_seen else ""
