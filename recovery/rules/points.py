"""Does a recovery point that another tool made hold together as it is told? Everything that is wrong, by field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from changecontrol.rules.years import OUTSIDE, is_within_years

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+=-]*")


def is_key(text: str) -> bool:
    """Tell whether a name stays below the place of its environment in the store: no part of it leads elsewhere."""
    return all(_WORD.fullmatch(one) for one in text.split("/"))


def point_problems(
    *,
    kind: str,
    has_parent: bool,
    started_at: datetime,
    consistent_at: datetime,
    finished_at: datetime,
    filestore_at: datetime | None,
    locked_until: datetime | None,
    start_lsn: int,
    stop_lsn: int,
    key: str,
    parts: Sequence[tuple[str, datetime, datetime]],
) -> dict[str, list[str]]:
    """Return what is wrong; empty where nothing is. `parts` have a key, a start and an end."""
    problems: dict[str, list[str]] = {}
    if not started_at <= consistent_at <= finished_at:
        problems["consistent_at"] = ["A point is consistent between its start and its end."]
    if filestore_at is not None and not consistent_at <= filestore_at <= finished_at:
        problems["filestore_at"] = ["Attachments are copied after the database, and before the point is finished."]
    if start_lsn > stop_lsn:
        problems["stop_lsn"] = ["A point's WAL ends at or after where it starts."]
    if has_parent != (kind == "incremental"):
        problems["parent"] = ["An incremental point builds on another one, and no other point does."]
    if not is_key(key):
        problems["key"] = ["A key is letters, digits and ._:@+=- between slashes, and leads nowhere else."]
    names = [key for key, _, _ in parts]
    if not all(is_key(one) for one in names):
        problems["parts"] = ["A part's key is letters, digits and ._:@+=- between slashes, and leads nowhere else."]
    elif len(set(names)) < len(names):
        problems["parts"] = ["Each part has a key of its own."]
    elif not all(start <= end for _, start, end in parts):
        problems["parts"] = ["A part ends after it starts."]
    elif not all(is_within_years(one) for _, start, end in parts for one in (start, end)):
        problems["parts"] = [OUTSIDE]
    times = {
        "started_at": started_at,
        "consistent_at": consistent_at,
        "finished_at": finished_at,
        "filestore_at": filestore_at,
        "locked_until": locked_until,
    }
    outside = {name: [OUTSIDE] for name, at in times.items() if at is not None and not is_within_years(at)}
    return problems | outside
