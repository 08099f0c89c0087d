"""What of a point that another tool made does not hold together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.rules.points import is_key, point_problems

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
WHOLE: dict[str, Any] = {
    "kind": "base",
    "has_parent": False,
    "started_at": AT - HOUR,
    "consistent_at": AT,
    "finished_at": AT + HOUR,
    "filestore_at": AT,
    "locked_until": AT + 9 * HOUR,
    "start_lsn": 7,
    "stop_lsn": 7,
    "key": "2026/full-1",
    "parts": [("full-1/base.tar", AT, AT), ("full-1/log", AT, AT + HOUR)],
}


def test_a_whole_point_has_no_problems() -> None:
    assert point_problems(**WHOLE) == {}
    other = {"kind": "incremental", "has_parent": True, "filestore_at": None, "locked_until": None}
    assert point_problems(**{**WHOLE, **other}) == {}


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ({"started_at": AT + timedelta(seconds=1)}, ["consistent_at"]),
        ({"finished_at": AT - timedelta(seconds=1)}, ["consistent_at", "filestore_at"]),
        ({"filestore_at": AT - timedelta(seconds=1)}, ["filestore_at"]),
        ({"filestore_at": AT + 2 * HOUR}, ["filestore_at"]),
        ({"stop_lsn": 6}, ["stop_lsn"]),
        ({"kind": "incremental"}, ["parent"]),
        ({"kind": "dump", "has_parent": True}, ["parent"]),
        ({"key": "/full-1"}, ["key"]),
        ({"parts": [("a", AT, AT), ("a", AT, AT)]}, ["parts"]),
        ({"parts": [("a", AT + HOUR, AT)]}, ["parts"]),
        ({"parts": [("../a", AT, AT)]}, ["parts"]),
        ({"started_at": FIRST}, ["started_at"]),
        ({"started_at": FIRST, "consistent_at": FIRST}, ["consistent_at", "started_at"]),
        ({"finished_at": LAST, "filestore_at": LAST}, ["filestore_at", "finished_at"]),
        ({"locked_until": LAST}, ["locked_until"]),
        ({"parts": [("a", FIRST, AT)]}, ["parts"]),
        ({"parts": [("a", AT, LAST)]}, ["parts"]),
    ],
    ids=lambda value: None,
)
def test_what_does_not_hold_is_named_by_field(words: dict[str, Any], fields: list[str]) -> None:
    assert sorted(point_problems(**{**WHOLE, **words})) == fields


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        ("p1", True),
        ("2026-11-23T10:12:00+01:00/base@2.tar=_", True),
        ("", False),
        ("..", False),
        ("a/..", False),
        ("a/./b", False),
        ("a//b", False),
        ("/a", False),
        ("a/", False),
        ("a b", False),
        ("a\n", False),
        ("a\\b", False),
        ("ä", False),
        ("a%2Fb", False),
        ("s3://a", False),
    ],
)
def test_a_key_leads_nowhere_else(key: str, is_one: bool) -> None:
    assert is_key(key) is is_one
