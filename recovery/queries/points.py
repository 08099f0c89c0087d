"""Reads of policies, points and what can be restored, and the facts that rules judge."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar

from django.db.models import Model, QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.lifecycles.drill import ACTIVE as ACTIVE_DRILLS
from recovery.lifecycles.point import PointState
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.lifecycles.restore import RestoreState
from recovery.models import BackupPolicy, Drill, LegalHold, RecoveryPoint, Restore, WalSegment
from recovery.rules.coverage import Backup, Coverage, Segment, cover
from recovery.rules.objectives import (
    Expectation,
    Objectives,
    PastRestore,
    ProcessObjectives,
    expect_restore,
    strictest,
)
from recovery.rules.retention import Keep, KeptPoint, Retention, plan_retention
from recovery.rules.schedule import Schedule

M = TypeVar("M", bound=Model)

PAST_RESTORES = 20
"""How many earlier restores tell how long the next takes."""


def in_sight(scope: Scope, rows: QuerySet[M]) -> QuerySet[M]:
    """Narrow rows of environments to those whose recovery the scope may see."""
    return rows.filter(environment__in=access.environments_with(scope, Ability.RECOVERY_VIEW))


def policies_of(scope: Scope) -> QuerySet[BackupPolicy]:
    """Return the policies in force."""
    rows = BackupPolicy.objects.active().select_related("environment__tenant", "created_by")
    return in_sight(scope, rows).order_by("environment__tenant__name", "environment__slug")


def points_of(scope: Scope) -> QuerySet[RecoveryPoint]:
    """Return points, newest first, with where they lie."""
    return in_sight(scope, RecoveryPoint.objects.select_related("environment__tenant").prefetch_related("copies"))


def restores_of(scope: Scope) -> QuerySet[Restore]:
    rows = Restore.objects.select_related("environment__tenant", "point", "asked_by")
    return in_sight(scope, rows).order_by("-id")


def holds_of(scope: Scope) -> QuerySet[LegalHold]:
    """Return the legal holds in force."""
    rows = LegalHold.objects.filter(lifted_at__isnull=True).select_related("environment__tenant", "point", "placed_by")
    return in_sight(scope, rows)


def objectives_of(environment: Environment) -> Objectives:
    """Return the strictest RTO and RPO of the processes that an environment supports (BIZ-2)."""
    return strictest(
        ProcessObjectives(one.name, timedelta(seconds=one.rto_seconds), timedelta(seconds=one.rpo_seconds))
        for one in environment.processes.all()
    )


def coverage_of(environment: Environment) -> Coverage:
    """Compute to which times an environment can be brought back, from what is in the store, whole, and to stay."""
    points = list(RecoveryPoint.objects.restorable().filter(environment=environment))
    keys = {one.pk: one.key for one in points}
    backups = [
        Backup(
            key=one.key,
            consistent_at=one.consistent_at,
            timeline=one.timeline,
            start_lsn=one.start_lsn,
            stop_lsn=one.stop_lsn,
            # A parent that is broken or goes is named still, so that the chain is known to be cut.
            needs=keys.get(one.parent_id, "gone") if one.parent_id is not None else "",
        )
        for one in points
    ]
    servers = {one.system_identifier for one in points if one.system_identifier}
    segments = WalSegment.objects.filter(environment=environment, system_identifier__in=servers)
    columns = segments.values_list("timeline", "start_lsn", "end_lsn", "ends_at")
    return cover(backups, segments=[Segment(*one) for one in columns])


def retention_of(policy: BackupPolicy, *, at: datetime) -> Retention:
    """Say which points of a policy's environment would go, and why each other one stays."""
    holds = list(LegalHold.objects.filter(environment=policy.environment_id, lifted_at__isnull=True))
    everything = next((one.name for one in holds if one.point_id is None), "")
    named = {one.point_id: one.name for one in holds if one.point_id is not None}
    restoring = Restore.objects.filter(environment=policy.environment_id, state__in=sorted(ACTIVE_RESTORES))
    drilling = Drill.objects.filter(environment=policy.environment_id, state__in=sorted(ACTIVE_DRILLS))
    in_use = {*restoring.values_list("point_id", flat=True), *drilling.values_list("point_id", flat=True)}
    rows = RecoveryPoint.objects.kept().filter(environment=policy.environment_id).select_related("parent")
    points = [
        KeptPoint(
            key=one.key,
            taken_at=one.consistent_at,
            needs=frozenset({one.parent.key} if one.parent else ()),
            is_verified=one.state == PointState.VERIFIED,
            hold=named.get(one.pk, everything),
            is_in_use=one.pk in in_use,
            locked_until=one.locked_until,
            timeline=one.timeline,
            start_lsn=one.start_lsn,
            stop_lsn=one.stop_lsn,
        )
        for one in rows
    ]
    return plan_retention(points, keep=keep_of(policy), at=at)


def schedule_of(policy: BackupPolicy) -> Schedule:
    return Schedule(policy.rrule, policy.starts_local.replace(tzinfo=None), policy.zone)


def keep_of(policy: BackupPolicy) -> Keep:
    return Keep(
        last=policy.keep_last,
        daily=policy.keep_daily,
        weekly=policy.keep_weekly,
        monthly=policy.keep_monthly,
        is_pci=policy.is_pci,
        zone=policy.zone,
    )


def expected_restore(environment: Environment, *, size: int) -> Expectation | None:
    """Tell how long restoring so many bytes will take, from the last restores of the environment that succeeded."""
    rows = Restore.objects.filter(
        environment=environment, state=RestoreState.SUCCEEDED, provisioned_at__isnull=False, restored_at__isnull=False
    ).order_by("-id")[:PAST_RESTORES]
    past = [PastRestore(one.size, one.restored_at - one.provisioned_at) for one in rows]  # type: ignore[operator]
    return expect_restore(size, past=past)
