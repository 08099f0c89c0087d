"""Two changes never execute in one environment together (WIN-13).

A lock is a row that its run renews as it works. It outlives a crashed worker and ends by itself, so that no environment
stays held by a run that nobody carries on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import connection, transaction

from changecontrol.errors import Conflict
from changecontrol.models import EnvironmentLock, Run

LOCK_FOR = timedelta(minutes=15)

_TAKE = """
INSERT INTO changecontrol_environmentlock AS held (environment_id, run_id, until)
SELECT wanted, %(run)s, %(until)s FROM unnest(%(wanted)s::bigint[]) AS wanted ORDER BY wanted
ON CONFLICT (environment_id) DO UPDATE SET run_id = excluded.run_id, until = excluded.until
WHERE held.run_id = excluded.run_id OR held.until <= %(at)s
RETURNING environment_id
"""


def acquire_locks(run: Run, environment_ids: Iterable[int], *, at: datetime) -> None:
    """Take all of these environments for a run, or none. Taking one's own again renews it.

    Raises `Conflict` naming the change that holds one of them. Sorted order keeps two runs from waiting for each other.
    """
    wanted = sorted(set(environment_ids))
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, {"run": run.pk, "until": at + LOCK_FOR, "wanted": wanted, "at": at})
            taken = {pk for (pk,) in cursor.fetchall()}
        missing = [pk for pk in wanted if pk not in taken]
        if missing:
            raise Conflict(_sentence(missing[0]))


def renew_locks(run: Run, environment_ids: Iterable[int], *, at: datetime) -> None:
    """Hold these environments for longer. Raises `Conflict` where one is no longer the run's: it must stop there."""
    wanted = set(environment_ids)
    with transaction.atomic():
        mine = EnvironmentLock.objects.select_for_update().filter(run=run, environment_id__in=wanted)
        held = list(mine.order_by("environment_id").values_list("environment_id", flat=True))
        lost = sorted(wanted.difference(held))
        if lost:
            raise Conflict(_sentence(lost[0]))
        EnvironmentLock.objects.filter(environment_id__in=held).update(until=at + LOCK_FOR)


def release_locks(run: Run) -> None:
    """Give back whatever the run still holds, in the transaction that ends it."""
    EnvironmentLock.objects.filter(run=run).delete()


def _sentence(environment_id: int) -> str:
    held = EnvironmentLock.objects.select_related("environment", "run__change").filter(pk=environment_id).first()
    if held is None:
        return "The lock on an environment of this run has ended; acquire it again before going on."
    return f"{held.environment} is held by {held.run.change.number} until {held.until:%H:%M} UTC."
