"""What machines ask: alive, ready, how the work stands. Nothing they hear names a tenant or holds a secret."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from changecontrol import clock, wiring
from changecontrol.figures import Figure, Sample
from changecontrol.models import Message, Run, RunTarget, User
from changecontrol.project.local.processes import free_port
from changecontrol.views import health
from tests.changecontrol.workflow.toy import make_runs

TOKEN = "m" * 40
EVERYTHING = {"ready": True, "database": "ok", "broker": "ok", "object_store": "ok", "migrations": "ok"}


def get(view: Callable[[HttpRequest], HttpResponse], **extra: Any) -> HttpResponse:
    return view(RequestFactory().get("/", **extra))


@pytest.fixture
def toy_workflows(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAR_SIDE", str(tmp_path))
    settings.WORKFLOWS = ["tests.changecontrol.workflow.toy.ToyTarget", "tests.changecontrol.workflow.toy.ToyRun"]
    wiring._workflow.cache_clear()


def test_alive_asks_nobody_else() -> None:
    answer = get(health.healthz)

    assert (answer.status_code, answer.content) == (200, b"alive\n")
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("view", [health.healthz, health.readyz, health.metrics])
def test_only_reading_is_possible(view: Callable[[HttpRequest], HttpResponse]) -> None:
    assert view(RequestFactory().post("/")).status_code == 405


def test_ready_when_every_part_answers(db: None) -> None:
    answer = get(health.readyz)

    assert (answer.status_code, json.loads(answer.content)) == (200, EVERYTHING)


def test_a_missing_broker_is_named_without_its_address(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery import current_app

    port = free_port()
    monkeypatch.setattr(current_app.conf, "broker_write_url", f"redis://:hunter2@127.0.0.1:{port}/0")

    answer = get(health.readyz)

    assert (answer.status_code, json.loads(answer.content)) == (
        503,
        EVERYTHING | {"ready": False, "broker": "unreachable"},
    )
    assert b"hunter2" not in answer.content
    assert str(port).encode() not in answer.content


def test_a_missing_object_store_is_named(db: None, settings: Any) -> None:
    settings.OBJECT_STORE_URL = f"s3://evidence?endpoint=http://127.0.0.1:{free_port()}"

    answer = get(health.readyz)

    assert answer.status_code == 503
    assert json.loads(answer.content)["object_store"] == "unreachable"


def test_a_missing_migration_is_named(db: None) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'changecontrol'")

    answer = get(health.readyz)

    assert (answer.status_code, json.loads(answer.content)) == (
        503,
        EVERYTHING | {"ready": False, "migrations": "behind"},
    )


# Metrics.


@pytest.mark.usefixtures("db", "toy_workflows")
@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, 200),
        ({"REMOTE_ADDR": "::1"}, 200),
        ({"REMOTE_ADDR": "192.0.2.7"}, 401),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}, 200),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_AUTHORIZATION": "Bearer wrong"}, 401),
        ({"REMOTE_ADDR": "192.0.2.7", "HTTP_AUTHORIZATION": f"Basic {TOKEN}"}, 401),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.7"}, 401),
        ({"REMOTE_ADDR": ""}, 401),
    ],
)
def test_metrics_are_for_loopback_and_for_who_shows_the_token(
    settings: Any, extra: dict[str, str], status: int
) -> None:
    settings.METRICS_TOKEN = TOKEN

    assert get(health.metrics, **extra).status_code == status


@pytest.mark.usefixtures("db", "toy_workflows")
def test_without_a_token_an_empty_one_opens_nothing(settings: Any) -> None:
    settings.METRICS_TOKEN = ""

    assert get(health.metrics, REMOTE_ADDR="192.0.2.7", HTTP_AUTHORIZATION="Bearer ").status_code == 401


@pytest.mark.usefixtures("db", "toy_workflows")
def test_metrics_tell_how_the_work_stands_and_name_no_tenant() -> None:  # BIZ-1
    at = clock.now()
    runs = make_runs(4, at=at - timedelta(minutes=5), targets=1)
    Run.objects.filter(pk=runs[0].pk).update(lease_token=uuid.uuid4(), lease_until=at + timedelta(minutes=1))
    Run.objects.filter(pk=runs[1].pk).update(
        lease_token=uuid.uuid4(), lease_until=at - timedelta(minutes=1), attempts=3
    )
    RunTarget.objects.filter(run=runs[0]).update(next_due_at=at + timedelta(hours=1))
    ben = User.objects.create_user("ben", email="ben@northwind.example")
    Message.objects.create(recipient=ben, tag="t", created_at=at - timedelta(hours=1), next_due_at=at)

    text = get(health.metrics).content.decode()

    lines = [line for line in text.splitlines() if not line.startswith("#")]
    figures = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    assert 300 <= figures.pop('changecontrol_sweep_lag_seconds{workflow="toy-run"}') < 360
    assert 3600 <= figures.pop("changecontrol_outbox_age_seconds") < 3660
    assert figures.pop("changecontrol_queue_messages") >= 0
    assert figures == {
        'changecontrol_rows_due{workflow="toy-run"}': 3,
        'changecontrol_leases_held{workflow="toy-run"}': 1,
        'changecontrol_leases_expired{workflow="toy-run"}': 1,
        'changecontrol_rows_failing{workflow="toy-run"}': 1,
        'changecontrol_attempts_highest{workflow="toy-run"}': 3,
        'changecontrol_rows_due{workflow="toy-target"}': 0,
        'changecontrol_sweep_lag_seconds{workflow="toy-target"}': 0,
        'changecontrol_leases_held{workflow="toy-target"}': 0,
        'changecontrol_leases_expired{workflow="toy-target"}': 0,
        'changecontrol_rows_failing{workflow="toy-target"}': 0,
        'changecontrol_attempts_highest{workflow="toy-target"}': 0,
        "changecontrol_outbox_messages": 1,
        "changecontrol_recovery_backups_running": 0,
    }
    assert "northwind" not in text.lower()


def two_figures(at: Any) -> list[Figure]:
    return [Figure("apples", "How many apples", labels=("crate",), samples=(Sample(("1",), 3), Sample(("2",), 0)))]


@pytest.mark.usefixtures("db", "toy_workflows")
def test_an_app_adds_its_figures_by_name(settings: Any) -> None:
    settings.FIGURE_CONTRIBUTORS = [f"{__name__}.two_figures"]

    lines = get(health.metrics).content.decode().splitlines()

    assert [line for line in lines if "apples" in line] == [
        "# HELP changecontrol_apples How many apples",
        "# TYPE changecontrol_apples gauge",
        'changecontrol_apples{crate="1"} 3.0',
        'changecontrol_apples{crate="2"} 0.0',
    ]
