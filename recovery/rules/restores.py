"""Where may a restore go? To a new name: never over a database that is in use."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESERVED = frozenset({"postgres", "template0", "template1"})


def check_target(name: str, *, in_use: Iterable[str]) -> str:
    """Say why a database of this name may not be restored to; empty where it may. Names count in any case."""
    if not _NAME.fullmatch(name):
        return "Name the new database with a letter, then letters, digits and underscores, 63 at most, in lower case."
    if name in RESERVED:
        return f"“{name}” belongs to the server itself: choose another name."
    if name in {one.casefold() for one in in_use}:
        return f"“{name}” is a database in use: a restore goes beside it, under another name."
    return ""
