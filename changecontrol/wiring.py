"""Chooses what answers a port, by dotted path from settings, and nudges workers after commit."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string
from kombu import pools
from kombu.exceptions import LimitExceeded, OperationalError

ANSWER_SECONDS = 0.5
"""How long a nudge waits for the broker at most: a person's request waits with it."""
QUIET_SECONDS = 5.0
"""How long no nudge is tried after one was lost; a sweep comes every ten seconds anyway."""

_quiet_until = 0.0

log = structlog.get_logger(__name__)


def adapter(port: str) -> Any:
    """Return the callable that opens the adapter for a port (`kubernetes`, `object_store`, `git`, …)."""
    return import_string(settings.ADAPTERS[port])


def secrets() -> Any:
    """Return what turns references into secrets, as this installation reaches them."""
    return adapter("secrets")(vault=settings.VAULT)


def workflows() -> dict[str, Any]:
    """Return the workflows of the project by name, in the order of the settings."""
    found = [_workflow(path) for path in settings.WORKFLOWS]
    return {workflow.name: workflow for workflow in found}


@cache
def _workflow(path: str) -> Any:
    return import_string(path)()


def nudge(workflow: str) -> None:
    """After commit, tell the workers that a workflow has something due. A lost nudge costs one sweep, never work."""
    transaction.on_commit(lambda: send(workflow), robust=True)


def send(workflow: str) -> None:
    """Send a nudge now; a broker that does not answer is logged, left alone for a while, and costs one sweep."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return
    try:
        with _producers().acquire(block=True, timeout=ANSWER_SECONDS) as producer:
            current_app.send_task(
                "changecontrol.tasks.drain", args=[workflow], expires=60, retry=False, producer=producer
            )
    except (OperationalError, OSError, LimitExceeded) as problem:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        log.warning("nudge.lost", workflow=workflow, problem=type(problem).__name__, quiet_seconds=QUIET_SECONDS)


def _producers() -> Any:
    """Return the pool of connections for nudges: apart from Celery's own, which try again and wait for seconds."""
    options = {"max_retries": 0, "socket_connect_timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS}
    return pools.producers[current_app.connection_for_write(transport_options=options)]
