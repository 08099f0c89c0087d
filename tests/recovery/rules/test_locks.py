from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from recovery.rules.locks import PromisedLock, lock_problem

AT = datetime(2026, 11, 23, 2, tzinfo=UTC)
PROMISED = AT + timedelta(days=30)
LOCK = PromisedLock("p1", "s3://points/northwind", AT, 30, PROMISED)


@pytest.mark.parametrize(
    "until",
    [PROMISED, PROMISED + timedelta(days=99), PROMISED - timedelta(minutes=15)],
    ids=["as promised", "longer", "by another clock"],
)
def test_a_lock_as_long_as_promised_is_no_problem(until: datetime) -> None:
    assert lock_problem(replace(LOCK, until=until)) == ""


def test_a_store_that_shows_no_lock_breaks_the_promise() -> None:
    assert lock_problem(replace(LOCK, until=None)) == (
        "s3://points/northwind shows no object lock on p1, and the policy promises one until 23 Dec 2026 02:00:00 UTC: "
        "set the bucket's default retention, and let the credential see it (s3:GetObjectRetention)."
    )


@pytest.mark.parametrize(
    ("until", "told"),
    [
        (PROMISED - timedelta(minutes=15, seconds=1), "23 Dec 2026 01:44:59 UTC"),
        (AT + timedelta(days=7), "30 Nov 2026 02:00:00 UTC"),
    ],
)
def test_a_lock_that_ends_sooner_breaks_the_promise(until: datetime, told: str) -> None:
    assert lock_problem(replace(LOCK, until=until)) == (
        f"The object lock of s3://points/northwind on p1 ends at {told}, and the policy promises one until "
        "23 Dec 2026 02:00:00 UTC: set the bucket's default retention to as many days."
    )
