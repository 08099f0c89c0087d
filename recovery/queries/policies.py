"""Reads of policies: their versions, and whether what they promise is enough."""

from __future__ import annotations

from datetime import datetime, timedelta

from changecontrol.models import Environment
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.queries.points import objectives_of
from recovery.rules.objectives import Fitness, Pace, judge_rpo
from recovery.rules.schedule import Schedule, longest_wait

VERSIONS_SHOWN = 20


def policy_in_force(environment: Environment) -> BackupPolicy | None:
    """Return the policy that backups of an environment follow; None where it has none."""
    return BackupPolicy.objects.active().filter(environment=environment).select_related("environment__tenant").first()


def policy_versions(environment: Environment) -> list[BackupPolicy]:
    """Return the newest versions of an environment's policy, newest first."""
    rows = BackupPolicy.objects.filter(environment=environment).select_related("environment__tenant", "created_by")
    return list(rows.order_by("-version")[:VERSIONS_SHOWN])


def fitness_of(
    environment: Environment,
    *,
    schedule: Schedule,
    wal_seconds: int | None,
    filestore_seconds: int | None,
    at: datetime,
) -> Fitness:
    """Tell whether backups at this pace meet the RPO of an environment. How long one takes, the newest point tells."""
    newest = RecoveryPoint.objects.filter(environment=environment).first()
    pace = Pace(
        backups_every=longest_wait(schedule, after=at),
        wal_every=_seconds(wal_seconds),
        filestore_every=_seconds(filestore_seconds),
        backup_takes=newest.finished_at - newest.started_at if newest else timedelta(0),
    )
    return judge_rpo(pace, objectives=objectives_of(environment))


def _seconds(count: int | None) -> timedelta | None:
    return None if count is None else timedelta(seconds=count)
