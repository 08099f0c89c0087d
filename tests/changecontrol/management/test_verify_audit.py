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
from tests.plugin import SERVICES, TestDatabase, with_name

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


@pytest.fixture
def shop(fresh_db: TestDatabase) -> Tenant:
    shop = Tenant.objects.create(slug="northwind", name="Northwind Grocers")
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
