"""What Celery runs. Every task is a hint to look at the database; losing or repeating one changes nothing but time."""

from __future__ import annotations

import structlog
from celery import shared_task

from changecontrol import clock, wiring
from changecontrol.workflow import engine

DRAIN_SECONDS = 5.0
"""Then other workflows have their turn; a step begun at the very end still has 15 s below the soft limit of 20 s."""
PARALLEL_DRAINS = 8
"""The most workers one sweep asks for on behalf of one workflow, so that none crowds out the others."""

log = structlog.get_logger(__name__)


@shared_task
def drain(workflow: str) -> None:
    """Work off what is due in one workflow; what is left after the budget goes to the end of the queue."""
    chosen = wiring.workflows().get(workflow)
    if chosen is None:
        log.warning("workflow.unknown", workflow=workflow)
        return
    clock.set_offset(engine.database_offset())
    engine.work_off(chosen, budget_seconds=DRAIN_SECONDS)
    if engine.due_count(chosen, at=clock.now(), limit=1):
        wiring.send(workflow)


@shared_task
def sweep() -> None:
    """Look for new and due work in every workflow, and ask as many workers as there is work for."""
    clock.set_offset(engine.database_offset())
    for name, workflow in wiring.workflows().items():
        engine.look_for_work(workflow)
        for _ in range(engine.due_count(workflow, at=clock.now(), limit=PARALLEL_DRAINS)):
            wiring.send(name)
