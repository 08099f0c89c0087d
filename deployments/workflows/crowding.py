"""No cluster holds more than its share of the workers: one that answers slowly must not hold up the others' targets."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Q, QuerySet

from changecontrol import clock
from changecontrol.models import Environment, RunTarget
from changecontrol.workflow.engine import Settlement, uncounted

# What a worker claims together carries one token.
_WORKERS = Count("lease_token", distinct=True)
SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 0.8


def crowded(at: datetime) -> Q:
    """Return the targets whose cluster has its share of workers, for the claim."""
    clusters = (
        _leased(at)
        .order_by()
        .values("environment__cluster")
        .annotate(count=_WORKERS)
        .filter(count__gte=settings.WORKERS_PER_CLUSTER)
        .values("environment__cluster")
    )
    return Q(environment__in=Environment.objects.filter(cluster__in=clusters).values("pk"))


def is_crowded(row: RunTarget) -> bool:
    """Ask again once the row is claimed: workers who claim at the same moment do not see each other before."""
    cluster = Environment.objects.filter(pk=row.environment_id).values("cluster")
    there = _leased(clock.now()).filter(environment__cluster__in=cluster).aggregate(count=_WORKERS)
    return bool(there["count"] > settings.WORKERS_PER_CLUSTER)


def turned_away() -> Settlement[RunTarget]:
    """Leave a claimed row to a later worker. It neither failed nor succeeded, so its attempts stay what they are."""
    wait = random.uniform(SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)  # noqa: S311
    return Settlement(write=uncounted, due_in=timedelta(seconds=wait), failed=True)


def _leased(at: datetime) -> QuerySet[RunTarget]:
    # A leased row is a due one, and due rows are what the index holds.
    return RunTarget.objects.filter(next_due_at__lte=at, lease_until__gt=at)
