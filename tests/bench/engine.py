"""A step of the engine, claim to settle with an audit event, against a bare SKIP LOCKED claim-and-complete.

Alone, as a run takes it; and with others of its recipient, as the targets of a wave take theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
from django.db import connection
from django.db.models import Q

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import Message, User
from changecontrol.workflow import engine
from changecontrol.workflow.claiming import Together
from changecontrol.workflow.engine import Settlement
from changecontrol.workflow.rows import lock_row
from tests.bench.harness import Figure, in_turns
from tests.plugin import TestDatabase

STEPS = 300
DUE = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


class Bench:
    """A workflow whose step has no effect but its event: what is left is the engine's own cost."""

    name = "bench"
    model = Message

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def due(self) -> Q:
        return Q(tag="bench")

    def find(self, at: datetime) -> None:
        """Nothing to look for: the rows are there."""

    def advance(self, row: Message, at: datetime) -> Settlement[Message]:
        def write(locked: Message) -> None:
            audit.record(Tag.RUN_MOVED, subject=locked, actor=self._actor, at=at, data={"to": "sent"})

        return Settlement(write=write, due_in=timedelta(days=1))

    def lock(self, pk: int) -> Message:
        return lock_row(Message, pk)

    def refused(self, row: Message, reason: str, at: datetime) -> Settlement[Message]:
        raise AssertionError(reason)

    exhausted = refused


class BenchTogether(Bench):
    together = Together(column="recipient_id", at_most=25)

    def lock_all(self, pks: Sequence[int]) -> list[Message]:
        return list(Message.objects.select_for_update(no_key=True).filter(pk__in=pks).order_by("pk"))


def measure(database: TestDatabase) -> Iterator[Figure]:
    with psycopg.connect(database.owner_url) as owner:
        owner.execute("CREATE TABLE bare_work (id bigserial PRIMARY KEY, due_at timestamptz, taken_at timestamptz)")
        owner.execute("CREATE INDEX ON bare_work (due_at)")
    person = User.objects.create_user("bench-engine")
    actor = Actor(user=person, via="worker", correlation_id="bench")
    Message.objects.bulk_create(
        Message(recipient=person, tag="bench", subject="s", text="t", created_at=DUE, next_due_at=DUE)
        for _ in range(STEPS)
    )
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bare_work (due_at) SELECT %s FROM generate_series(1, %s)", [DUE, STEPS])
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        # What autovacuum does soon after, so that neither is measured with a plan for an empty table.
        owner.execute("VACUUM ANALYZE changecontrol_message, bare_work")

    def steps(workflow: Bench) -> None:
        Message.objects.filter(tag="bench").update(next_due_at=DUE)
        left = STEPS
        while left:
            taken = engine.tick(workflow)
            assert taken
            left -= taken

    def bare() -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE bare_work SET due_at = %s", [DUE])
            for _ in range(STEPS):
                cursor.execute(
                    "UPDATE bare_work SET taken_at = now() WHERE id = (SELECT id FROM bare_work WHERE due_at <= now()"
                    " ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id"
                )
                row = cursor.fetchone()
                cursor.execute("UPDATE bare_work SET due_at = now() + interval '1 day' WHERE id = %s", row)

    for name, workflow in (("engine_step", BenchTogether(actor)), ("engine_step_alone", Bench(actor))):
        ours, floor = in_turns(partial(steps, workflow), bare)
        yield Figure(name, STEPS / ours, "steps/s", STEPS / floor, aim="ratio >= 0.5")
