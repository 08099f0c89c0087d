"""The chains of one change, after what somebody with the database's own powers did to them (AUD-4)."""

from __future__ import annotations

import psycopg
import pytest

from changecontrol.models import ChangeRequest
from changecontrol.queries.trail import ChainVerdict, chain_of
from tests.factories import draft_change, small_estate
from tests.plugin import SERVICES, TestDatabase, with_name


@pytest.fixture
def change(fresh_db: TestDatabase) -> ChangeRequest:
    return draft_change(small_estate())


def rewrite(database: TestDatabase, crime: str) -> None:
    with psycopg.connect(with_name(SERVICES.superuser_url, database.name), autocommit=True) as almighty:
        almighty.execute("SET session_replication_role = replica")
        almighty.execute(crime)


def test_an_untouched_trail_holds(change: ChangeRequest) -> None:
    assert chain_of(change) == ChainVerdict(event_count=2, chain_count=1)


@pytest.mark.parametrize(
    ("crime", "sentence"),
    [
        ("UPDATE changecontrol_auditevent SET body = replace(body, 'ada', 'eve') WHERE sequence = 1", "was changed"),
        ("DELETE FROM changecontrol_auditevent WHERE sequence = 1", "event 2 of changerequest:{} stands where event 1"),
        ("DELETE FROM changecontrol_auditevent WHERE sequence = 2", "changerequest:{} ends at event 1, and it had 2"),
        ("DELETE FROM changecontrol_auditevent", "changerequest:{} ends at event 0, and it had 2"),
    ],
)
def test_the_first_bad_event_is_named(fresh_db: TestDatabase, change: ChangeRequest, crime: str, sentence: str) -> None:
    rewrite(fresh_db, crime)

    assert sentence.format(change.pk) in chain_of(change).problem
