"""What a backup says of itself is read where it was written so, and no value of it is of another kind."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from recovery.adapters.postgres.facts import backup_from, facts_of
from recovery.ports.postgres import BaseBackup

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
BASE = BaseBackup(
    label="one", key="p/base/one/base.tar.zst.age", manifest_key="p/base/one/backup_manifest.zst.age",
    system_identifier="7012", server_version="17.2", server_major=17, segment_bytes=2**24, timeline=1, start_lsn=40,
    stop_lsn=80, started_at=AT, finished_at=AT, content_bytes=900, stored_bytes=90, sha256="a" * 64,
    manifest_sha256="b" * 64,
)  # fmt: skip


def told(**words: Any) -> bytes:
    """Write down facts with other values and the digest that goes with them, as whoever forges them does."""
    facts = json.loads(facts_of(BASE)) | words
    facts.pop("digest")
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return json.dumps(facts | {"digest": digest}).encode()


def test_what_was_written_is_read_and_what_was_changed_is_not() -> None:
    assert backup_from(told(), BaseBackup) == BASE
    assert backup_from(facts_of(BASE).replace(b'"7012"', b'"7013"'), BaseBackup) is None


@pytest.mark.parametrize(
    "words",
    [
        {"server_major": "../../../tmp/programs"},
        {"superuser": ["postgres"]},
        {"system_identifier": 7012},
        {"segment_bytes": 16777216.0},
        {"timeline": True},
        {"start_lsn": -1},
        {"started_at": "2026-11-24T12:00:00"},
    ],
)
def test_a_value_of_another_kind_is_no_fact(words: dict[str, Any]) -> None:
    assert backup_from(told(**words), BaseBackup) is None
