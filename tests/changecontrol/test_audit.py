"""The audit trail: written with its cause or not at all, chained by the database, and never rewritten."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import UTC, datetime

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Model

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import AuditEvent, AuditHead, Tenant, User
from tests.plugin import TestDatabase

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)
NOBODY = Actor(user=None, via="command")


@pytest.fixture
def shop(db: None) -> Tenant:
    return Tenant.objects.create(slug="northwind", name="Northwind Grocers")


def record(subject: Model, **data: str) -> AuditEvent:
    with transaction.atomic():
        return audit.record(Tag.ESTATE_CHANGED, subject=subject, actor=NOBODY, at=AT, data=data)


def test_each_event_carries_the_hash_of_the_one_before(shop: Tenant) -> None:
    for word in ("one", "two", "three"):
        record(shop, word=word)

    previous = bytes(32)
    for sequence, event in enumerate(AuditEvent.objects.filter(subject=f"tenant:{shop.pk}").order_by("sequence"), 1):
        assert event.sequence == sequence
        assert bytes(event.previous_hash) == previous
        previous = hashlib.sha256(previous + sequence.to_bytes(8, "big") + event.body.encode()).digest()
        assert bytes(event.hash) == previous
    assert bytes(AuditHead.objects.get(subject=f"tenant:{shop.pk}").hash) == previous


def test_an_event_says_who_what_when_and_from_where(shop: Tenant) -> None:
    ada = User.objects.create_user("ada")
    actor = Actor(user=ada, via="page", source_address="192.0.2.7", correlation_id="r-1")

    with transaction.atomic():
        event = audit.record(Tag.ESTATE_CHANGED, subject=shop, actor=actor, at=AT, data={"name": ["a", "b"]})

    assert json.loads(event.body) == {
        "actor": "ada",
        "at": "2026-11-23T10:12:00.000000+00:00",
        "correlation_id": "r-1",
        "data": {"name": ["a", "b"]},
        "source_address": "192.0.2.7",
        "subject": f"tenant:{shop.pk}",
        "tag": "estate:changed",
        "via": "page",
    }


def test_an_event_outside_a_transaction_is_refused(fresh_db: TestDatabase) -> None:
    shop = Tenant.objects.create(slug="northwind", name="Northwind Grocers")

    with pytest.raises(audit.OutsideTransaction):
        audit.record(Tag.ESTATE_CHANGED, subject=shop, actor=NOBODY, at=AT)

    assert AuditEvent.objects.count() == 0


def test_a_rolled_back_cause_leaves_no_event(shop: Tenant) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        record(shop)
        raise RuntimeError

    assert AuditEvent.objects.count() == 0
    record(shop)
    assert AuditEvent.objects.get().sequence == 1


@pytest.mark.parametrize(
    "rewriting",
    [
        "UPDATE changecontrol_auditevent SET body = '{}'",
        "DELETE FROM changecontrol_auditevent",
        "TRUNCATE changecontrol_auditevent CASCADE",
        "UPDATE changecontrol_audithead SET sequence = 0",
        "DELETE FROM changecontrol_audithead",
        "ALTER TABLE changecontrol_auditevent DISABLE TRIGGER ALL",
        "DROP TABLE changecontrol_auditevent CASCADE",
    ],
)
def test_the_application_cannot_rewrite_the_trail(shop: Tenant, rewriting: str) -> None:  # AUD-1
    record(shop)

    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(rewriting)

    assert AuditEvent.objects.count() == 1


@pytest.mark.parametrize(
    "rewriting",
    [
        "UPDATE changecontrol_auditevent SET body = '{}'",
        "DELETE FROM changecontrol_auditevent",
        "TRUNCATE changecontrol_auditevent CASCADE",
        "DELETE FROM changecontrol_vote",
    ],
)
def test_the_triggers_refuse_the_owner_too(fresh_db: TestDatabase, rewriting: str) -> None:  # AUD-1
    import psycopg

    record(Tenant.objects.create(slug="northwind", name="Northwind Grocers"))

    with psycopg.connect(fresh_db.owner_url) as owner:
        if "vote" in rewriting:
            # A row trigger needs a row; an empty table has nothing to refuse.
            found = owner.execute(
                "SELECT count(*) FROM pg_trigger"
                " WHERE tgrelid = 'changecontrol_vote'::regclass AND tgname LIKE 'refuse%'"
            )
            assert found.fetchone() == (2,)
            return
        with pytest.raises(psycopg.Error, match="append-only"):
            owner.execute(rewriting)


def test_a_forged_sequence_or_hash_is_replaced_by_the_database(shop: Tenant) -> None:
    with transaction.atomic():
        AuditEvent(
            subject="tenant:1", sequence=99, hash=b"x" * 32, previous_hash=b"y" * 32, tag="refused", at=AT, body="{}"
        ).save()

    event = AuditEvent.objects.get()
    assert (event.sequence, bytes(event.previous_hash)) == (1, bytes(32))
    assert bytes(event.hash) == hashlib.sha256(bytes(32) + (1).to_bytes(8, "big") + b"{}").digest()


def test_ten_parallel_writers_keep_one_order(fresh_db: TestDatabase) -> None:  # AUD-4
    shop = Tenant.objects.create(slug="northwind", name="Northwind Grocers")
    barrier = threading.Barrier(10)

    def write(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(5):
                record(shop, writer=f"{number}.{turn}")
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    events = list(AuditEvent.objects.order_by("sequence"))
    assert [event.sequence for event in events] == list(range(1, 51))
    assert [bytes(event.previous_hash) for event in events[1:]] == [bytes(event.hash) for event in events[:-1]]
    assert len({json.loads(event.body)["data"]["writer"] for event in events}) == 50
