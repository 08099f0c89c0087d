"""What a store tells is taken for what this program writes only where it could have written it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recovery.rules.adoption import BYTES_LIMIT, COMMIT, NAME, are_modules, is_count, is_past, is_text

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", ["..", "../other", "a/b", "", ".hidden", "x" * 101, "a\n"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    assert NAME.fullmatch(name) is None
    assert NAME.fullmatch("20261101T020000Z-777") is not None


@pytest.mark.parametrize("commit", ["main", "refs/heads/x", "abc", "--upload-pack=x", "C" * 40])
def test_a_commit_is_its_digest_or_none(commit: str) -> None:
    assert COMMIT.fullmatch(commit) is None
    assert all(COMMIT.fullmatch(one) for one in ("", "c" * 40, "c" * 64))


@pytest.mark.parametrize("value", [None, 7, "a\0b", "\ud800", "two\nlines", "x" * 301])
def test_text_is_one_line_that_every_column_takes(value: Any) -> None:
    assert not is_text(value)
    assert is_text("ghcr.io/shop/odoo:19@sha256:abc")


@pytest.mark.parametrize("value", [-1, True, 1.0, "1", None, BYTES_LIMIT + 1])
def test_a_count_is_a_number_that_a_column_takes(value: Any) -> None:
    assert not is_count(value, limit=BYTES_LIMIT)
    assert is_count(0, limit=BYTES_LIMIT)


@pytest.mark.parametrize(
    "value",
    [
        NOW.replace(tzinfo=None),
        NOW + timedelta(seconds=1),
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
        "2026-11-24",
    ],
)
def test_a_time_has_its_zone_and_lies_in_the_past_that_may_be_named(value: Any) -> None:
    assert not is_past(value, now=NOW)
    assert is_past(NOW, now=NOW)


@pytest.mark.parametrize(
    "value", [None, ["base"], {"base": 19}, {"base": "\0"}, {f"m{number}": "1" for number in range(5_001)}]
)
def test_modules_are_names_with_versions(value: Any) -> None:
    assert not are_modules(value)
    assert are_modules({"base": "19.0.1.3"})
