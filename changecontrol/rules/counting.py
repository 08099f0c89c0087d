"""How sentences count."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """Return the count with its noun: `1 object`, `2 objects`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
