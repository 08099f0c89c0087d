"""Appending to the audit trail against a bare INSERT of the same bytes, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
from django.db import connection, transaction

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import AuditEvent, Tenant, User
from tests.bench.harness import Figure, in_turns
from tests.plugin import TestDatabase

EVENTS = 400
AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


def measure(database: TestDatabase) -> Iterator[Figure]:
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("CREATE TABLE bare_event (LIKE changecontrol_auditevent INCLUDING ALL)")
        owner.execute("ALTER TABLE bare_event DROP CONSTRAINT IF EXISTS bare_event_subject_sequence_key")
    shop = Tenant.objects.create(slug="bench-audit", name="Bench")
    actor = Actor(user=User.objects.create_user("bench-audit"), via="command", correlation_id="bench")
    data = {"from": "authorize", "to": "scheduled", "plan_digest": "0" * 64}

    def append() -> None:
        for _ in range(EVENTS):
            with transaction.atomic():
                audit.record(Tag.CHANGE_SCHEDULED, subject=shop, actor=actor, at=AT, data=data)

    append()
    body = AuditEvent.objects.latest("id").body
    turn = iter(range(1_000_000))

    def insert() -> None:
        for _ in range(EVENTS):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO bare_event (subject, sequence, previous_hash, hash, tag, at, body)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    ["tenant:1", next(turn), bytes(32), bytes(32), "change:scheduled", AT, body],
                )

    ours, floor = in_turns(append, insert)
    yield Figure("audit_append", EVENTS / ours, "events/s", EVENTS / floor, aim="ratio >= 0.6")
