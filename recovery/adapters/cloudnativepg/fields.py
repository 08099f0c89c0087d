"""Single values as the operator writes them. Pure; a value that is missing or makes no sense is None, or empty."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from recovery.ports.clusters import ClusterCondition
from recovery.ports.postgres import parse_lsn

MAX_CHARACTERS = 500
DEFAULT_ARCHIVE_TIMEOUT = "5min"
"""What the operator configures where nobody says otherwise."""

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_WAL = re.compile(r"[0-9A-Fa-f]{24}(\.[0-9A-Za-z.]+)?")
_DURATION = re.compile(r"\s*(?P<count>[0-9]+)\s*(?P<unit>ms|s|min|h|d)?\s*")
_UNITS = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "min": timedelta(minutes=1)}
_UNITS |= {"h": timedelta(hours=1), "d": timedelta(days=1)}


def part_of(body: Any, *path: str) -> Mapping[str, Any]:
    """Return the map at a path, empty where there is none."""
    for key in path:
        body = body.get(key) if isinstance(body, Mapping) else None
    return body if isinstance(body, Mapping) else {}


def text_of(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    return value.strip() if isinstance(value, str) else ""


def number_of(value: Any) -> int | None:
    """Read a whole number above zero, which the plugin writes as text."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def time_of(value: Any) -> datetime | None:
    """Read RFC 3339; without a zone it is UTC, as the operator takes it."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if at is None:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def lsn_of(value: Any) -> int | None:
    return parse_lsn(value) if isinstance(value, str) and _LSN.fullmatch(value) else None


def timeline_of(*, metadata: Mapping[str, Any], wal: str) -> int | None:
    """Return the timeline of a backup: the plugin says it, and the name of its first WAL segment begins with it."""
    told = number_of(metadata.get("timeline"))
    if told is not None or not _WAL.fullmatch(wal):
        return told
    return int(wal[:8], 16) or None


def archive_timeout_of(parameters: Mapping[str, Any]) -> timedelta | None:
    """Read `archive_timeout` of PostgreSQL's parameters; None for 0, which switches it off."""
    found = _DURATION.fullmatch(str(parameters.get("archive_timeout", DEFAULT_ARCHIVE_TIMEOUT)))
    if found is None:
        return None
    return int(found["count"]) * _UNITS[found["unit"] or "s"] or None


def condition_of(status: Mapping[str, Any], name: str) -> ClusterCondition | None:
    conditions = status.get("conditions")
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, Mapping) and one.get("type") == name:
            return ClusterCondition(
                is_true={"True": True, "False": False}.get(str(one.get("status"))),
                reason=text_of(one, "reason"),
                message=text_of(one, "message"),
                since=time_of(one.get("lastTransitionTime")),
            )
    return None


def said(words: str, *, otherwise: str = "the operator does not say why") -> str:
    """Return the operator's words as the end of a sentence: one line, not too long, with its full stop."""
    line = " ".join(words.split()) or otherwise
    if len(line) > MAX_CHARACTERS:
        line = line[: MAX_CHARACTERS - 1] + "…"
    return line if line.endswith((".", "…")) else f"{line}."
