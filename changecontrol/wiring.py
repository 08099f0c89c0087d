"""Chooses what answers a port, by dotted path from settings, and nudges workers after commit."""

from __future__ import annotations

from functools import cache
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string
from kombu.exceptions import OperationalError

log = structlog.get_logger(__name__)


def adapter(port: str) -> Any:
    """Return the callable that opens the adapter for a port (`kubernetes`, `object_store`, `git`, …)."""
    return import_string(settings.ADAPTERS[port])


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
    """Send a nudge now; a broker that does not answer is logged and costs one sweep."""
    try:
        # A connection of its own, opened without retries: the shared pool would hold up a person's request for seconds.
        with current_app.connection_for_write(transport_options={"max_retries": 0}) as broker:
            current_app.send_task(
                "changecontrol.tasks.drain", args=[workflow], expires=60, retry=False, connection=broker
            )
    except (OperationalError, OSError) as problem:
        log.warning("nudge.lost", workflow=workflow, problem=type(problem).__name__)
