"""Rows held back to the end of a block are written with their transaction, or lost with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction

from changecontrol import access, audit
from changecontrol.events import Tag
from changecontrol.gathering import gathering
from changecontrol.models import AuditEvent

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


def record(subject: str) -> AuditEvent:
    return audit.record(Tag.RUN_MOVED, subject=subject, actor=access.system_actor("test"), at=AT)


def chains() -> list[tuple[str, int]]:
    return list(AuditEvent.objects.order_by("id").values_list("subject", "sequence"))


def test_events_held_back_are_chained_in_their_order_by_one_statement(db: None, django_assert_num_queries: Any) -> None:
    record("run:1")
    actor = access.system_actor("test")
    with django_assert_num_queries(1), gathering():
        held = [audit.record(Tag.RUN_MOVED, subject=one, actor=actor, at=AT) for one in ("run:1", "run:2", "run:1")]

    assert chains() == [("run:1", 1), ("run:1", 2), ("run:2", 1), ("run:1", 3)]
    stored = AuditEvent.objects.order_by("id")
    assert [bytes(one.previous_hash) for one in stored][1] == bytes(stored[0].hash)
    assert bytes(stored[3].previous_hash) == bytes(stored[1].hash)
    assert [(one.pk, one.sequence) for one in held] == [(one.pk, one.sequence) for one in stored[1:]]


def test_what_is_held_back_is_lost_with_its_transaction(db: None) -> None:
    with pytest.raises(ValueError, match="no"), transaction.atomic(), gathering():
        record("run:1")
        raise ValueError("no")

    assert chains() == []


def test_what_is_written_in_a_savepoint_is_not_held_back(db: None) -> None:
    with gathering():
        with pytest.raises(ValueError, match="no"), transaction.atomic():
            record("run:1")
            raise ValueError("no")
        record("run:2")
        assert chains() == []

    assert chains() == [("run:2", 1)]
