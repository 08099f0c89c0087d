"""Is what a store tells of a point such as this program writes it? Who can write there may have written anything.

What is refused here is a name that leads elsewhere, and a value that no column, page or clock could show.
"""

from __future__ import annotations

import re
from datetime import datetime

from changecontrol.rules.years import is_within_years

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"([0-9a-f]{7,64})?")
MODULES_LIMIT = 5_000
TEXT_LIMIT = 300
BYTES_LIMIT = 2**53 - 1
"""What JSON carries exactly everywhere: the size of a point is in its event, too."""
LSN_LIMIT = 2**63 - 1
TIMELINE_LIMIT = 2**31 - 1
SEGMENTS = frozenset(2**power for power in range(20, 31))
"""How large PostgreSQL's segments of WAL may be: 1 MiB to 1 GiB."""


def is_text(value: object, *, limit: int = TEXT_LIMIT) -> bool:
    """Tell whether a value is text of one line that every page and every column takes."""
    return isinstance(value, str) and len(value) <= limit and value.isprintable()


def is_count(value: object, *, limit: int) -> bool:
    return type(value) is int and 0 <= value <= limit


def is_past(value: object, *, now: datetime) -> bool:
    """Tell whether a value is a moment with its zone, in a year that may be named, and not to come."""
    return isinstance(value, datetime) and value.utcoffset() is not None and is_within_years(value) and value <= now


def are_modules(value: object) -> bool:
    """Tell whether a value names modules, each with its version."""
    if not isinstance(value, dict) or len(value) > MODULES_LIMIT:
        return False
    return all(is_text(one) for pair in value.items() for one in pair)
