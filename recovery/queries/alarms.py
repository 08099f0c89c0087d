"""What is wrong with an environment's backups now, from what is recorded (BCK-1)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Max

from recovery.lifecycles.drill import DrillState
from recovery.models import BackupPolicy, Drill, RecoveryPoint, WalSegment
from recovery.queries.points import schedule_of
from recovery.rules.alarms import Alarm, BackupFacts, alarms
from recovery.rules.schedule import last_due

SIZES = 10
"""How many points tell what size is usual."""
WAL_PATIENCE = 3
"""How many shippings of WAL may be missed before it alarms: one may be under way."""


def alarms_of(policy: BackupPolicy, *, at: datetime) -> tuple[Alarm, ...]:
    """List what is wrong for the environment of a policy in force, worst first."""
    environment = policy.environment_id
    since = (
        BackupPolicy.objects.filter(environment=environment).order_by("version").values_list("created_at", flat=True)
    )
    points = RecoveryPoint.objects.filter(environment=environment, consistent_at__lte=at)
    # Sizes are compared among backups of one kind: an incremental one is small.
    newest = points.first()
    like = points.filter(kind=newest.kind)[:SIZES] if newest else ()
    last_wal = WalSegment.objects.filter(environment=environment).aggregate(newest=Max("ends_at"))["newest"]
    drills = Drill.objects.filter(environment=environment, state=DrillState.PASSED, sabotage="", finished_at__lte=at)
    facts = BackupFacts(
        watched_since=since[0],
        due_at=last_due(schedule_of(policy), at=at),
        grace=timedelta(seconds=policy.grace_seconds),
        last_success_at=newest.finished_at if newest else None,
        wal_within=timedelta(seconds=WAL_PATIENCE * policy.wal_seconds) if policy.wal_seconds else None,
        last_wal_at=last_wal,
        sizes=tuple(one.size for one in reversed(like)),
        measured_at=newest.finished_at if newest else None,
        drill_every=timedelta(days=policy.drill_days),
        last_drill_at=drills.aggregate(newest=Max("finished_at"))["newest"],
    )
    return alarms(facts, at=at)
