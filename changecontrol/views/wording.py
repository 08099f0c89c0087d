"""Small words that several pages share, so that one idea reads the same everywhere. No markup."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from changecontrol.models import ChangeRequest
from changecontrol.rules.counting import counted
from changecontrol.templatetags.times import duration

__all__ = ["and_list", "counted", "duration", "initials", "share_of", "span", "words"]


def words(slug: object) -> str:
    """Return a word of the vocabulary as people write it."""
    return str(slug).replace("_", " ")


def and_list(items: Sequence[Any]) -> str:
    """Return “a”, “a and b”, “a, b and c”."""
    texts = [str(one) for one in items]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else ""


def share_of(change: ChangeRequest) -> float:
    """Return the share of the tenant's sales behind a change, as a fraction of one."""
    return float(change.sales_share) / 100


def span(seconds: float) -> str:
    return duration(timedelta(seconds=seconds))


def initials(name: object) -> str:
    return "".join(part[0] for part in str(name).split()[:2]).upper()
