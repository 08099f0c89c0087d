"""`manage.py verify_audit` finds what somebody with the database's own powers did to the trail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import AuditEvent, Tenant
from tests.factories import draft_change, small_estate
from tests.plugin import SERVICES, TestDatabase, with_name

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


@pytest.fixture
def shop(fresh_db: TestDatabase) -> Tenant:
    shop = Tenant.objects.create(slug="grocers", name="Northwind Grocers")
    for word in ("one", "two", "three", "four"):
        with transaction.atomic():
            audit.record(
                Tag.ESTATE_CHANGED, subject=shop, actor=Actor(user=None, via="command"), at=AT, data={"word": word}
            )
    return shop


@pytest.fixture
def almighty(fresh_db: TestDatabase, shop: Tenant) -> Iterator[psycopg.Connection[Any]]:
    """A superuser with the triggers out of the way: the worst that can happen to a database."""
    with psycopg.connect(with_name(SERVICES.superuser_url, fresh_db.name), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


def verify() -> str:
    out = StringIO()
    call_command("verify_audit", stdout=out)
    return out.getvalue()


def test_an_untouched_trail_holds(shop: Tenant) -> None:
    assert verify() == "4 events in 1 unbroken chains.\n"


@pytest.mark.parametrize(
    "crime, sentence",
    [
        (
            "UPDATE changecontrol_auditevent SET body = replace(body, 'two', 'TWO') WHERE sequence = 2",
            "event 2 of {} was changed",
        ),
        ("DELETE FROM changecontrol_auditevent WHERE sequence = 2", "event 3 of {} stands where event 2 should"),
        ("DELETE FROM changecontrol_auditevent WHERE sequence = 4", "{} ends at event 3, and it had 4"),
        ("DELETE FROM changecontrol_auditevent", "{} ends at event 0, and it had 4"),
        (
            "UPDATE changecontrol_auditevent SET sequence = 7 - sequence + 100 WHERE sequence IN (3, 4);"
            "UPDATE changecontrol_auditevent SET sequence = sequence - 100 WHERE sequence > 100",
            "event 3 of {} does not follow the event before it",
        ),
        (
            "UPDATE changecontrol_auditevent SET hash = decode(repeat('00', 32), 'hex') WHERE sequence = 2",
            "event 2 of {} was changed",
        ),
        (
            "UPDATE changecontrol_auditevent SET tag = 'x' WHERE sequence = 2",
            "event 2 of {} is filed under another tag",
        ),
        (
            "UPDATE changecontrol_auditevent SET at = at + interval '1 day' WHERE sequence = 3",
            "event 3 of {} is filed under another time",
        ),
        (
            "INSERT INTO changecontrol_user (username, password, is_superuser, first_name, last_name, email, is_staff,"
            " is_active, date_joined, display_name, zone, is_system)"
            " VALUES ('eve', '', false, '', '', '', false, true, now(), '', 'UTC', false);"
            "UPDATE changecontrol_auditevent SET actor_id = (SELECT id FROM changecontrol_user) WHERE sequence = 1",
            "event 1 of {} is filed under another actor",
        ),
        (
            "INSERT INTO changecontrol_auditevent"
            " (subject, sequence, previous_hash, hash, tag, at, body)"
            " SELECT subject, 5, hash, sha256(hash || int8send(5) || convert_to(body, 'UTF8')), tag, at, body"
            " FROM changecontrol_auditevent WHERE sequence = 4",
            "{} ends at event 5, and it had 4",
        ),
        ("DELETE FROM changecontrol_audithead", "{} has events that the database never chained"),
        (
            "DELETE FROM changecontrol_auditevent WHERE sequence = 4;UPDATE changecontrol_audithead SET sequence = 3",
            "event 3 of {} is not the one its chain ended with",
        ),
    ],
)
def test_every_crime_is_named(almighty: psycopg.Connection[Any], shop: Tenant, crime: str, sentence: str) -> None:
    almighty.execute(crime)

    with pytest.raises(CommandError, match=sentence.format(audit.subject_of(shop))):
        verify()


def test_verifying_takes_one_snapshot_and_writes_nothing(shop: Tenant) -> None:
    before = AuditEvent.objects.count()

    verify()

    assert AuditEvent.objects.count() == before


def test_an_event_taken_out_of_its_change_is_named(almighty: psycopg.Connection[Any], shop: Tenant) -> None:
    change = draft_change(small_estate())
    almighty.execute("UPDATE changecontrol_auditevent SET change_id = NULL WHERE sequence = 2 AND subject ~ 'change'")

    with pytest.raises(CommandError, match=f"event 2 of {audit.subject_of(change)} is filed under another change"):
        verify()
