"""Adapters and workflows by dotted path; nudges after commit, which may be lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest
import structlog
from celery import current_app
from django.db import transaction

from changecontrol import wiring
from changecontrol.project.local.processes import free_port
from changecontrol.project.local.valkey import Valkey
from changecontrol.workflow.delivery import Delivery


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A broker that nobody else uses."""
    server = Valkey(tmp_path_factory.mktemp("wiring") / "valkey").start()
    yield server
    server.stop()


@pytest.fixture
def broker(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Valkey:
    """Nudges go there, and none was lost before."""
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", valkey.url)
    monkeypatch.setattr(wiring, "_quiet_until", 0.0)
    return valkey


@pytest.fixture
def queue(broker: Valkey) -> Iterator[Any]:
    with current_app.connection_for_write() as connection:
        found = connection.SimpleQueue(current_app.conf.task_default_queue)
        found.clear()
        yield found
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


def test_a_nudge_is_sent_after_commit(db: None, queue: Any, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        wiring.nudge("delivery")
        with pytest.raises(Empty):
            queue.get(block=False)

    message = queue.get(block=False)
    message.ack()
    assert message.payload[0] == ["delivery"]
    assert message.headers["task"] == "changecontrol.tasks.drain"


def test_rolled_back_work_nudges_nobody(db: None, queue: Any, django_capture_on_commit_callbacks: Any) -> None:
    with (
        django_capture_on_commit_callbacks(execute=True),
        pytest.raises(RuntimeError),
        transaction.atomic(),
    ):
        wiring.nudge("delivery")
        raise RuntimeError

    with pytest.raises(Empty):
        queue.get(block=False)


def test_nudges_share_a_connection(queue: Any) -> None:
    wiring.send("delivery")
    server = queue.channel.client
    before = server.info("stats")["total_connections_received"]

    for _ in range(5):
        wiring.send("delivery")

    assert server.info("stats")["total_connections_received"] == before
    assert _waiting(server) == 6


def test_after_a_lost_nudge_none_is_tried_for_a_while(queue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as away, structlog.testing.capture_logs() as said:
        away.setenv("CELERY_BROKER_WRITE_URL", f"redis://:hunter2@127.0.0.1:{free_port()}/0")
        for _ in range(3):
            wiring.send("delivery")

    assert [(line["event"], line["workflow"]) for line in said] == [("nudge.lost", "delivery")]
    assert "hunter2" not in str(said)
    wiring.send("delivery")
    assert _waiting(queue.channel.client) == 0
    monkeypatch.setattr(wiring, "_quiet_until", time.monotonic() - 0.001)
    wiring.send("delivery")
    assert _waiting(queue.channel.client) == 1


def test_a_broker_that_does_not_answer_holds_nobody_up(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, structlog.testing.capture_logs() as said:
        monkeypatch.setenv("CELERY_BROKER_WRITE_URL", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        for _ in range(3):
            wiring.send("delivery")

    assert [line["event"] for line in said] == ["nudge.lost"]


def test_nudges_reach_a_broker_that_was_started_again(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring.send("delivery")
    broker.stop()
    with structlog.testing.capture_logs() as said:
        wiring.send("delivery")
    address = broker.url
    broker.start()
    assert broker.url == address
    monkeypatch.setattr(wiring, "_quiet_until", 0.0)

    wiring.send("delivery")

    assert [line["event"] for line in said] == ["nudge.lost"]
    with current_app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        assert _waiting(channel.client) == 1


def _waiting(server: Any) -> int:
    """Count the nudges that wait."""
    return int(server.llen(current_app.conf.task_default_queue))
