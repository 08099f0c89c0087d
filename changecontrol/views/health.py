"""What machines ask about this installation: is it alive, is it ready, how does the work stand.

Every figure is asked of the database or the broker when it is wanted, so each process gives the same answer; none is
counted in a process's memory. No answer names a tenant, an address or a secret (BIZ-1).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Max, Min, Q
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import ChannelError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from changecontrol import clock, wiring
from changecontrol.figures import Figure
from changecontrol.models import Message
from changecontrol.workflow import engine
from changecontrol.workflow.claiming import free

FORWARDING_HEADERS = ("X-Forwarded-For", "X-Real-IP", "Forwarded")

log = structlog.get_logger(__name__)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer as long as the process does; nothing else is asked, so that a lost database restarts no one."""
    return HttpResponse("alive\n", content_type="text/plain; charset=utf-8")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 when everything the application needs is there, else 503 naming what is not."""
    found = {name: _word_of(name, check) for name, check in _CHECKS.items()}
    is_ready = all(word == "ok" for word in found.values())
    return JsonResponse({"ready": is_ready, **found}, status=200 if is_ready else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer in Prometheus' text format, to loopback or to whoever shows METRICS_TOKEN."""
    if not _may_read_metrics(request):
        refusal = HttpResponse("Show the metrics token as bearer token.\n", status=401, content_type="text/plain")
        refusal["WWW-Authenticate"] = "Bearer"
        return refusal
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and constant_time_compare(shown, token):
        return True
    # What a proxy on this host hands on also comes from loopback, but is not from here.
    if any(header in request.headers for header in FORWARDING_HEADERS):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


# What being ready means.


def _check_database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return "ok"


def _check_broker() -> str:
    with _broker() as broker:
        broker.default_channel  # noqa: B018  opening a channel pings the broker
    return "ok"


def _check_object_store() -> str:
    wiring.adapter("object_store")(settings.OBJECT_STORE_URL).observe_reachable()
    return "ok"


def _check_migrations() -> str:
    executor = MigrationExecutor(connection)
    return "behind" if executor.migration_plan(executor.loader.graph.leaf_nodes()) else "ok"


_CHECKS: dict[str, Callable[[], str]] = {
    "database": _check_database,
    "broker": _check_broker,
    "object_store": _check_object_store,
    "migrations": _check_migrations,
}


def _word_of(name: str, check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as problem:  # noqa: BLE001  whatever stands in the way, this part cannot be used
        # The problem's own words may hold an address or a password; its kind does not.
        log.warning("readyz.unreachable", part=name, problem=type(problem).__name__)
        return "unreachable"


def _broker() -> Any:
    return current_app.connection_for_write(transport_options={"max_retries": 0})


# How the work stands.


class _Figures:
    """Collects every figure anew for each question."""

    def collect(self) -> Iterable[Metric]:
        clock.set_offset(engine.database_offset())
        at = clock.now()
        yield from _figures_of_workflows(at)
        yield from _figures_of_outbox(at)
        for path in settings.FIGURE_CONTRIBUTORS:
            yield from map(_written, import_string(path)(at))
        try:
            yield _gauge("queue_messages", "Nudges waiting in the broker", _queue_size())
        except Exception as problem:  # noqa: BLE001  without the broker the other figures matter all the more
            log.warning("metrics.no_queue_size", problem=type(problem).__name__)


_BY_WORKFLOW = {
    "rows_due": "Rows that are due and that nobody holds",
    "sweep_lag_seconds": "How long the row that is due longest has waited for a worker",
    "leases_held": "Rows that a worker holds",
    "leases_expired": "Rows whose worker ended without settling, waiting to be taken over",
    "rows_failing": "Rows whose last tick failed or was never settled",
    "attempts_highest": "The most failed ticks in a row of any row",
}


def _figures_of_workflows(at: datetime) -> Iterable[Metric]:
    gauges = {
        name: GaugeMetricFamily(f"changecontrol_{name}", text, labels=["workflow"])
        for name, text in _BY_WORKFLOW.items()
    }
    for name, workflow in wiring.workflows().items():
        for figure, value in _figures_of(workflow, at=at).items():
            gauges[figure].add_metric([name], value)
    return gauges.values()


def _figures_of(workflow: Any, *, at: datetime) -> dict[str, float]:
    is_waiting = Q(next_due_at__lte=at) & free(at)
    # The partial index of rows with something due: the tables themselves grow without end.
    found = workflow.model._default_manager.filter(workflow.due(), next_due_at__isnull=False).aggregate(
        rows_due=Count("pk", filter=is_waiting),
        since=Min("next_due_at", filter=is_waiting),
        leases_held=Count("pk", filter=Q(lease_until__gt=at)),
        leases_expired=Count("pk", filter=Q(lease_until__lte=at)),
        rows_failing=Count("pk", filter=Q(attempts__gt=0)),
        attempts_highest=Max("attempts"),
    )
    since = found.pop("since")
    lag = at - since if since is not None else timedelta()
    return {"sweep_lag_seconds": lag.total_seconds(), **{name: value or 0 for name, value in found.items()}}


def _figures_of_outbox(at: datetime) -> Iterable[Metric]:
    waiting = Message.objects.filter(next_due_at__isnull=False, sent_at__isnull=True)
    found = waiting.aggregate(count=Count("pk"), since=Min("created_at"))
    age = (at - found["since"]).total_seconds() if found["since"] is not None else 0.0
    yield _gauge("outbox_messages", "Messages waiting to be sent", found["count"])
    yield _gauge("outbox_age_seconds", "Age of the oldest message waiting to be sent", age)


def _written(figure: Figure) -> Metric:
    gauge = GaugeMetricFamily(f"changecontrol_{figure.name}", figure.text, labels=figure.labels)
    for sample in figure.samples:
        gauge.add_metric(sample.labels, sample.value)
    return gauge


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"changecontrol_{name}", text, value=value)


def _queue_size() -> int:
    with _broker() as broker:
        try:
            declared = broker.default_channel.queue_declare(current_app.conf.task_default_queue, passive=True)
        except ChannelError:
            return 0  # a queue without messages does not exist
        return int(declared.message_count)
