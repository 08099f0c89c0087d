"""Messages are hints: repeated ones change nothing, lost ones cost a sweep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty
from typing import Any

import pytest
from celery import current_app
from django.db import connection

from changecontrol import clock, tasks, wiring
from changecontrol.models import Run, RunTarget
from tests.changecontrol.workflow.toy import FolderFarSide, expected_effects, make_runs, unfinished_count
from tests.concurrency.conftest import Workshop
from tests.plugin import TestDatabase


@pytest.fixture
def toy_settings(settings: Any, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAR_SIDE", str(workshop.far_side))
    settings.WORKFLOWS = ["tests.changecontrol.workflow.toy.ToyTarget", "tests.changecontrol.workflow.toy.ToyRun"]
    wiring._workflow.cache_clear()


@pytest.mark.usefixtures("toy_settings")
def test_ten_duplicate_deliveries_cause_one_execution(fresh_db: TestDatabase, workshop: Workshop) -> None:  # RUN-1
    runs = make_runs(4, at=clock.now(), targets=1)
    RunTarget.objects.update(next_due_at=clock.now())
    barrier = threading.Barrier(10)

    def deliver() -> None:
        try:
            barrier.wait()
            tasks.drain("toy-target")
        finally:
            connection.close()

    threads = [threading.Thread(target=deliver) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    wanted = {key for key in expected_effects(runs) if not key.endswith("close")}
    assert FolderFarSide(workshop.far_side).counts() == dict.fromkeys(wanted, 1)


@pytest.mark.usefixtures("toy_settings")
def test_a_lost_nudge_costs_one_sweep(fresh_db: TestDatabase, queue: Any) -> None:
    runs = make_runs(3, at=clock.now(), targets=1)

    tasks.sweep()

    nudged = workflows_in(queue)
    assert nudged == ["toy-run"] * 3
    for name in nudged:
        tasks.drain(name)
    assert set(Run.objects.values_list("step", flat=True)) == {"opened"}
    assert unfinished_count(runs) == 3


@pytest.mark.usefixtures("toy_settings")
def test_a_sweep_asks_for_no_more_workers_than_its_ceiling(fresh_db: TestDatabase, queue: Any) -> None:
    make_runs(20, at=clock.now(), targets=1)

    tasks.sweep()

    assert workflows_in(queue) == ["toy-run"] * tasks.PARALLEL_DRAINS


@pytest.fixture
def queue() -> Iterator[Any]:
    """The workers' queue of the test servers, which no worker reads; emptied before and after."""
    with current_app.connection_for_write() as broker:
        found = broker.SimpleQueue(current_app.conf.task_default_queue)
        found.clear()
        yield found
        found.clear()
        found.close()


def workflows_in(queue: Any) -> list[str]:
    """Take every nudge out of the queue and return the workflows they name."""
    names = []
    with suppress(Empty):
        while True:
            message = queue.get(block=False)
            message.ack()
            names.append(message.payload[0][0])
    return names
