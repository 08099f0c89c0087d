"""Lengths, sizes and moments as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def length(span: timedelta) -> str:
    """Say a length in its two greatest units: “1 hour 5 minutes”."""
    left = max(0, round(span.total_seconds()))
    words: list[str] = []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(words[:2]) or "no time"


def moment(at: datetime) -> str:
    """Say a moment in its own zone, to the second."""
    return f"{at:%d %b %Y %H:%M:%S %Z}".strip()


def exact_moment(at: datetime) -> str:
    """Say a moment that stands alone so that it can be given back: to the last digit."""
    return f"{at:%d %b %Y} {at.time().isoformat()} {at:%Z}".strip()
