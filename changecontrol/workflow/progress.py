"""Settles what a step has found so far, and lets the step go on under the same lease.

For what must be written down before an effect: it costs one transaction, where ending the tick and claiming the row
again costs two. Nothing here touches the lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import transaction

from changecontrol import clock
from changecontrol.models.leased import Leased
from changecontrol.workflow.engine import LeaseLost, Workflow

Row = TypeVar("Row", bound=Leased)


def keep(workflow: Workflow[Row], row: Row, write: Callable[[Row], None]) -> Row:
    """Write on the freshly locked row and return it as it is now. Raises `LeaseLost`: nothing may follow then.

    What is kept stays, whatever becomes of the rest of the step: write only what is true by itself. It stands for
    `confirm_lease` too.
    """
    with transaction.atomic():
        fresh = workflow.lock(row.pk)
        is_ours = fresh.lease_token == row.lease_token and fresh.lease_until is not None
        if not is_ours or fresh.lease_until <= clock.now():  # type: ignore[operator]
            raise LeaseLost(f"{workflow.name} {row.pk}")
        write(fresh)
    return fresh
