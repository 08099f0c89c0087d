"""Does a store lock a point for as long as the policy promises? What a store does not say is no broken promise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from recovery.rules.times import moment

CLOCKS_DIFFER = timedelta(minutes=15)
"""A lock may end so much sooner: beyond that S3 lets nobody in whose clock differs from its own."""


@dataclass(frozen=True, slots=True)
class ToldLock:
    """What a store said of its lock on a point when it was asked. `until` None: it showed none."""

    told_at: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class PromisedLock:
    """A lock that a policy promises for a point, counted from when it was begun, and what a store told of it."""

    point: str
    store: str
    started_at: datetime
    days: int
    until: datetime | None

    @property
    def promised_until(self) -> datetime:
        return self.started_at + timedelta(days=self.days)


def lock_problem(lock: PromisedLock) -> str:
    """Say what a store's lock lacks of what is promised; empty where nothing does."""
    promised = f"the policy promises one until {moment(lock.promised_until)}"
    if lock.until is None:
        return (
            f"{lock.store} shows no object lock on {lock.point}, and {promised}: set the bucket's default retention, "
            "and let the credential see it (s3:GetObjectRetention)."
        )
    if lock.until < lock.promised_until - CLOCKS_DIFFER:
        return (
            f"The object lock of {lock.store} on {lock.point} ends at {moment(lock.until)}, and {promised}: set the "
            "bucket's default retention to as many days."
        )
    return ""
