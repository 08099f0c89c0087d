"""Adapters and workflows by dotted path; nudges after commit, which may be lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
from celery import current_app
from django.db import transaction

from changecontrol import wiring
from changecontrol.project.local.processes import free_port
from changecontrol.workflow.delivery import Delivery
from tests.plugin import ROOT, TestDatabase

LOSE_NUDGES = """
import django, time
django.setup()
from changecontrol import wiring
wiring.send("delivery")
started = time.monotonic()
for _ in range(5):
    wiring.send("delivery")
print(time.monotonic() - started)
"""


@pytest.fixture
def queue() -> Iterator[Any]:
    with current_app.connection_for_write() as broker:
        found = broker.SimpleQueue(current_app.conf.task_default_queue)
        found.clear()
        yield found
        found.clear()
        found.close()


def test_adapters_are_chosen_by_settings(settings: Any) -> None:
    settings.ADAPTERS = {"clock": "datetime.datetime"}

    assert wiring.adapter("clock").__name__ == "datetime"


def test_workflows_are_made_once_and_follow_the_settings(settings: Any) -> None:
    settings.WORKFLOWS = ["changecontrol.workflow.delivery.Delivery"]
    found = wiring.workflows()

    assert list(found) == ["delivery"]
    assert isinstance(found["delivery"], Delivery)
    assert wiring.workflows()["delivery"] is found["delivery"]
    settings.WORKFLOWS = []
    assert wiring.workflows() == {}


def test_a_nudge_is_sent_after_commit(fresh_db: TestDatabase, queue: Any) -> None:
    with transaction.atomic():
        wiring.nudge("delivery")
        with pytest.raises(Empty):
            queue.get(block=False)

    message = queue.get(block=False)
    message.ack()
    assert message.payload[0] == ["delivery"]
    assert message.headers["task"] == "changecontrol.tasks.drain"


def test_rolled_back_work_nudges_nobody(fresh_db: TestDatabase, queue: Any) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        wiring.nudge("delivery")
        raise RuntimeError

    with pytest.raises(Empty):
        queue.get(block=False)


def test_a_broker_that_is_away_holds_nobody_up() -> None:
    environment = {**os.environ, "REDIS_URL": f"redis://:hunter2@127.0.0.1:{free_port()}/0"}

    done = subprocess.run(
        [sys.executable, "-c", LOSE_NUDGES], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )

    assert float(done.stdout.splitlines()[-1]) < 2
    assert done.stderr.count("nudge.lost") == 6
    assert "hunter2" not in done.stdout + done.stderr
