"""Two changes never hold one environment (WIN-13)."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from changecontrol.errors import Conflict
from changecontrol.models import EnvironmentLock, Run
from changecontrol.workflow.locks import LOCK_FOR, acquire_locks, release_locks, renew_locks
from tests.changecontrol.workflow.toy import make_environment, make_runs
from tests.plugin import TestDatabase

AT = datetime(2026, 11, 23, 10, 12, tzinfo=UTC)


@pytest.fixture
def runs(db: None) -> list[Run]:
    return make_runs(2, at=AT, targets=0)


def held_by(run: Run) -> list[int]:
    return sorted(EnvironmentLock.objects.filter(run=run).values_list("environment_id", flat=True))


def test_a_held_environment_is_refused_by_naming_the_holder(runs: list[Run]) -> None:  # WIN-13
    ada, ben = runs
    production, staging = make_environment().pk, make_environment("staging").pk
    acquire_locks(ada, [production], at=AT)

    with pytest.raises(Conflict) as refusal:
        acquire_locks(ben, [staging, production], at=AT)

    assert refusal.value.sentence == f"Northwind production is held by {ada.change.number} until 10:27 UTC."
    assert (held_by(ada), held_by(ben)) == ([production], [])


def test_a_crashed_workers_lock_is_free_after_its_time_and_not_before(runs: list[Run]) -> None:  # WIN-13
    crashed, next_one = runs
    production = make_environment().pk
    acquire_locks(crashed, [production], at=AT)

    with pytest.raises(Conflict):
        acquire_locks(next_one, [production], at=AT + LOCK_FOR - timedelta(seconds=1))
    acquire_locks(next_one, [production], at=AT + LOCK_FOR)

    with pytest.raises(Conflict, match="is held by"):
        renew_locks(crashed, [production], at=AT + LOCK_FOR)
    release_locks(crashed)
    assert held_by(next_one) == [production]


def test_a_renewed_lock_outlives_its_first_time(runs: list[Run]) -> None:
    ours, other = runs
    production = make_environment().pk
    acquire_locks(ours, [production], at=AT)
    renew_locks(ours, [production], at=AT + timedelta(minutes=10))

    with pytest.raises(Conflict):
        acquire_locks(other, [production], at=AT + LOCK_FOR)

    acquire_locks(ours, [production], at=AT + LOCK_FOR)
    assert EnvironmentLock.objects.get().until == AT + 2 * LOCK_FOR


def test_a_released_lock_is_free_and_cannot_be_renewed(runs: list[Run]) -> None:
    ours, other = runs
    production = make_environment().pk
    acquire_locks(ours, [production], at=AT)
    release_locks(ours)

    with pytest.raises(Conflict, match="acquire it again"):
        renew_locks(ours, [production], at=AT)
    acquire_locks(other, [production], at=AT)


def test_many_runs_that_want_the_same_environments_never_share_one(fresh_db: TestDatabase) -> None:  # WIN-13
    runs = make_runs(8, at=AT, targets=0)
    wanted = [make_environment(slug).pk for slug in ("production", "staging", "training")]
    barrier = threading.Barrier(len(runs))
    inside: list[int] = []
    crowds: list[int] = []
    taken: list[int] = []

    def work(number: int, run: Run) -> None:
        try:
            barrier.wait()
            for _ in range(20):
                # Each asks in an order of its own; without sorting, two of them would wait for each other.
                order = wanted[number % 3 :] + wanted[: number % 3]
                try:
                    acquire_locks(run, order, at=AT)
                except Conflict:
                    continue
                inside.append(run.pk)
                crowds.append(len(inside))
                time.sleep(0.002)
                inside.remove(run.pk)
                taken.append(run.pk)
                with transaction.atomic():
                    release_locks(run)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=one) for one in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(crowds) == {1}
    assert len(taken) >= len(runs)
    assert not EnvironmentLock.objects.exists()
