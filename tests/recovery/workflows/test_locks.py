"""A policy's lock is asked of the buckets that a backup writes to (SeaweedFS): one locks for a day, the other never."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.models import Message, User
from changecontrol.project.local.postgres import Postgres
from recovery.actions.backups import ask_backup
from recovery.models import BackupPolicy, PointCopy, RecoveryPoint
from recovery.queries.alarms import alarms_of
from recovery.rules.alarms import AlarmKind
from recovery.rules.times import moment
from tests.factories.estate import actor
from tests.factories.recovery import put_in_force, recovery_owner
from tests.plugin import TestDatabase
from tests.recovery.workflows.conftest import Shop, archived, founded
from tests.seaweed import WRITER, make_locked_bucket, seaweed

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)


@pytest.fixture
def buckets(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Yield where a policy's points go: into a bucket that locks each object for a day, and a plain one."""
    (tmp_path / "server").mkdir()
    (tmp_path / "writer").write_text(":".join(WRITER))
    (tmp_path / "writer").chmod(0o600)
    with seaweed(tmp_path / "server", buckets=("plain",)) as server:
        make_locked_bucket(server, "vault")
        credential = f"file:{tmp_path}/writer"
        yield {
            "store": f"s3://vault/points?endpoint={server.url}",
            "store_credential": credential,
            "copy_store": f"s3://plain/points?endpoint={server.url}",
            "copy_credential": credential,
            "lock_days": 1,
        }


@pytest.fixture
def shop(
    buckets: dict[str, Any],
    fresh_db: TestDatabase,
    shop_server: Postgres,
    sandboxes: Path,
    tmp_path: Path,
    settings: Any,
) -> Iterator[Shop]:
    estate, policy = founded(shop_server, tmp_path, settings, wal_seconds=1, filestore_seconds=1, **buckets)
    yield from archived(estate, policy, shop_server, tmp_path, sandboxes)


def backed_up(shop: Shop, rio: User, **policy: Any) -> RecoveryPoint:
    """Take a point under the policy with these words, and return it."""
    BackupPolicy.objects.update(**policy)
    shop.policy.refresh_from_db()
    count = RecoveryPoint.objects.count()
    ask_backup(actor=actor(rio), environment_id=shop.estate.production.pk, reason="A point.", at=clock.now())
    shop.work(lambda: RecoveryPoint.objects.count() > count)
    return RecoveryPoint.objects.latest("pk")


def not_locked(shop: Shop) -> dict[str, str]:
    found = alarms_of(shop.policy, at=clock.now())
    return {one.subject: one.sentence for one in found if one.kind == AlarmKind.NOT_LOCKED}


def none_shown(point: RecoveryPoint, *, store: str, days: int) -> str:
    return (
        f"{store} shows no object lock on {point.key}, and the policy promises one until "
        f"{moment(point.started_at + days * DAY)}: set the bucket's default retention, and let the credential see it "
        "(s3:GetObjectRetention)."
    )


def test_a_backup_tells_what_each_bucket_locks_and_what_is_promised_and_not_kept(shop: Shop, rio: User) -> None:
    vault, elsewhere = shop.policy.store, shop.policy.copy_store

    point = backed_up(shop, rio)
    alarms = not_locked(shop)
    later = backed_up(shop, rio, lock_days=2)
    alarms_later = not_locked(shop)
    last = backed_up(shop, rio, lock_days=1, copy_store="", copy_credential="")

    locked, plain = PointCopy.objects.filter(point=point).order_by("pk")
    assert (locked.store, plain.store) == (vault, elsewhere)
    assert locked.locked_until is not None
    assert point.started_at + DAY - timedelta(minutes=1) < locked.locked_until < point.finished_at + DAY
    assert plain.locked_until is None
    assert None not in (locked.lock_told_at, plain.lock_told_at)
    remark = none_shown(point, store=elsewhere, days=1)
    assert point.run is not None
    assert point.run.sentence == f"Point {point.key} is copied. {remark}"
    assert Message.objects.filter(recipient=rio, subject__endswith="A backup with a flaw", text=remark).exists()
    assert alarms == {elsewhere: remark}

    ends_at = later.copies.get(store=vault).locked_until
    assert ends_at is not None
    assert alarms_later == {
        elsewhere: none_shown(later, store=elsewhere, days=2),
        vault: (
            f"The object lock of {vault} on {later.key} ends at {moment(ends_at)}, and the policy promises one "
            f"until {moment(later.started_at + 2 * DAY)}: set the bucket's default retention to as many days."
        ),
    }

    assert last.run is not None
    assert last.run.sentence == f"Point {last.key} is copied."
    assert not_locked(shop) == {}


def test_a_copy_that_is_made_later_tells_it_too(shop: Shop, rio: User) -> None:
    elsewhere, credential = shop.policy.copy_store, shop.policy.copy_credential
    unpromised = backed_up(shop, rio, copy_store="", copy_credential="", lock_days=0)
    # What was promised of a point is what the version of the policy says that it was made under.
    shop.policy = put_in_force(shop.estate.production, lock_days=1)
    point = backed_up(shop, rio)
    before = not_locked(shop)

    BackupPolicy.objects.update(copy_store=elsewhere, copy_credential=credential)
    shop.work(lambda: PointCopy.objects.filter(store=elsewhere).count() == 2)

    shop.policy.refresh_from_db()
    copies = {one.point: one for one in PointCopy.objects.filter(store=elsewhere)}
    assert copies[point].lock_told_at is not None
    assert copies[unpromised].lock_told_at is None
    assert (before, not_locked(shop)) == ({}, {elsewhere: none_shown(point, store=elsewhere, days=1)})


def test_a_dump_tells_it_too(dumped: Shop, buckets: dict[str, Any]) -> None:
    point = backed_up(dumped, recovery_owner(dumped.estate), **buckets)

    told = {one.store: one.locked_until for one in point.copies.all() if one.lock_told_at is not None}
    assert set(told) == {buckets["store"], buckets["copy_store"]}
    assert told[buckets["store"]] is not None
    assert told[buckets["copy_store"]] is None
    assert point.run is not None
    assert point.run.sentence.endswith(none_shown(point, store=buckets["copy_store"], days=1))


def test_folders_do_not_say_and_break_no_promise(dumped: Shop) -> None:
    point = backed_up(dumped, recovery_owner(dumped.estate), lock_days=30)

    assert [(one.locked_until, one.lock_told_at) for one in point.copies.all()] == [(None, None)] * 2
    assert point.run is not None
    assert point.run.sentence == f"Point {point.key} is copied."
    assert not_locked(dumped) == {}
