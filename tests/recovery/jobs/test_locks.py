"""What a job asks of stores about their locks, and that nothing it is answered keeps a point from being made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from changecontrol import clock
from changecontrol.adapters.fakes.objects import FakeObjectStore, FakeSecrets
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectLock, StoredObject
from recovery.adapters.streams import StreamWriter, observe_stream_keys
from recovery.jobs.points import observe_locks
from recovery.jobs.saying import Saying
from recovery.models import BackupPolicy
from tests.factories import NOW, small_estate
from tests.factories.recovery import backup_policy

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
STORES: dict[str, LockingStore] = {}
DATABASE, LIST = "northwind/production/base/p1/base.tar.zst.age", "northwind/production/filestore/points/p1"
PARTS = [{"kind": "database", "key": DATABASE}, {"kind": "filestore_manifest", "key": LIST}]


class LockingStore(FakeObjectStore):
    """A store that locks each object from when it is written, in their order a minute apart, or says nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.locks_for: timedelta | None = 30 * DAY
        self.locks: dict[str, ObjectLock] = {}

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        if self.locks_for is not None:
            self.locks[key] = ObjectLock(NOW + self.locks_for + timedelta(minutes=len(self.locks)))
        return super().ensure_object(key, data)

    def observe_lock(self, key: str) -> ObjectLock | None:
        self.lock = self.locks.get(key)
        return super().observe_lock(key)


def open_store(url: str, **words: object) -> LockingStore:
    return STORES.setdefault(url, LockingStore())


def open_secrets(**words: object) -> FakeSecrets:
    return FakeSecrets()


@pytest.fixture(autouse=True)
def stage(settings: Any) -> Iterator[None]:
    settings.ADAPTERS = {
        **settings.ADAPTERS,
        "object_store": f"{__name__}.open_store",
        "secrets": f"{__name__}.open_secrets",
    }
    STORES.clear()
    clock.set_offset(timedelta())
    yield
    clock.set_offset(timedelta())


@pytest.fixture
def policy() -> BackupPolicy:
    return backup_policy(small_estate().production, lock_days=30)


def written(url: str) -> LockingStore:
    """Write a point of three objects of a stream, head included, and a list."""
    store = open_store(url)
    with StreamWriter(store, DATABASE, part_bytes=1_000) as writer:
        writer.write(bytes(1_500))
    store.ensure_object(LIST, b"{}")
    return store


def told(policy: BackupPolicy, *, copied_at: str = "2026-11-23T02:00:00+00:00") -> dict[str, Any]:
    saying = Saying(lambda _: None)
    found = observe_locks(policy, parts=PARTS, copied_at=copied_at, saying=saying)
    return {url: one["until"] for url, one in found.items()}


def test_of_what_was_written_the_lock_that_ends_first_counts_in_each_place(policy: BackupPolicy) -> None:
    first, second = written(policy.store), written(policy.copy_store)
    second.locks[LIST] = ObjectLock(NOW + 7 * DAY)

    found = told(policy)

    oldest = first.locks[observe_stream_keys(first, DATABASE)[1]].until
    assert oldest is not None
    assert found == {policy.store: oldest.isoformat(), policy.copy_store: (NOW + 7 * DAY).isoformat()}
    # However many parts a database has.
    assert [verb for verb in first.script.verbs() if verb == "observe_lock"] == ["observe_lock"] * 3


def test_one_object_without_a_lock_is_no_lock_on_the_point(policy: BackupPolicy) -> None:
    store = written(policy.store)
    store.locks[LIST] = ObjectLock(until=None)

    assert told(policy, copied_at="") == {policy.store: None}


@pytest.mark.parametrize(
    "answer", [Transient("The object store could not answer now."), Permanent("It does not let us."), None]
)
def test_what_cannot_be_asked_or_does_not_say_is_left_out_and_the_other_place_is_told(
    policy: BackupPolicy, answer: Exception | None
) -> None:
    first, second = written(policy.store), written(policy.copy_store)
    if answer is None:
        first.locks.clear()
    else:
        first.script.fail_before("observe_lock", answer)

    assert list(told(policy)) == [policy.copy_store]
    assert second.script.verbs().count("observe_lock") == 3


def test_nobody_asks_where_nothing_is_promised_nor_where_no_copy_was_made(policy: BackupPolicy) -> None:
    first, second = written(policy.store), written(policy.copy_store)

    without_copy = told(policy, copied_at="")
    policy.lock_days = 0
    without_promise = told(policy)

    assert (list(without_copy), without_promise) == ([policy.store], {})
    assert (first.script.verbs().count("observe_lock"), second.script.verbs().count("observe_lock")) == (3, 0)
