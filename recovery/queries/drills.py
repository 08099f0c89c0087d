"""Reads of drills: what was practised, and what is overdue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Max, Min, QuerySet

from changecontrol.access import Scope
from changecontrol.models import Environment
from recovery.models import BackupPolicy, Drill, RecoveryPoint
from recovery.models.policy import Engine
from recovery.queries.points import in_sight, policies_of
from recovery.rules.alarms import drill_due_at
from recovery.rules.levels import LevelOffer, levels_of_another_tool, offered_levels


@dataclass(frozen=True, slots=True)
class OverdueDrill:
    """An environment whose drill is not done in time; `last_at` None where none ever passed."""

    environment: Environment
    due_at: datetime
    last_at: datetime | None


def drills_of(scope: Scope) -> QuerySet[Drill]:
    """Return drills, newest first, with what a list of them shows."""
    rows = Drill.objects.select_related("environment__tenant", "point", "asked_by", "canceled_by", "sign_off__by")
    return in_sight(scope, rows).order_by("-id")


def levels_of(environment: Environment, *, point: RecoveryPoint | None = None) -> tuple[LevelOffer, ...]:
    """Return how far a drill of an environment can go, each level with what it asks or why it is not to be had.

    Who made the `point` tells, and the policy in force only where it is not known which one it will be.
    """
    rows = BackupPolicy.objects.active().filter(environment=environment)
    policy = rows.only("engine", "filestore", "rehearsal_cluster").first()
    made_by = policy if point is None else point.policy
    if made_by is not None and made_by.engine == Engine.EXTERNAL:
        return levels_of_another_tool()
    return offered_levels(
        has_filestore=any(one is not None and one.filestore for one in (policy, made_by)),
        has_odoo=bool(getattr(settings, "ODOO_COMMAND", "")),
        has_place=policy is not None and bool(policy.rehearsal_cluster),
    )


@dataclass(frozen=True, slots=True)
class DrillTimes:
    """Since when drills are due, which is when the first policy was written, and when the last one passed."""

    watched_since: datetime
    last_at: datetime | None

    def due_at(self, *, every: timedelta) -> datetime:
        return drill_due_at(watched_since=self.watched_since, last_drill_at=self.last_at, every=every)


def drill_times(environment_ids: Iterable[int], *, at: datetime) -> Mapping[int, DrillTimes]:
    """Return them by environment, of those that have a policy, in two statements: what proves nothing is left out."""
    keys = list(environment_ids)
    # The policy's first version tells since when drills were due: an edit is no reason for a later one.
    first = BackupPolicy.objects.filter(environment__in=keys).order_by().values_list("environment_id")
    passed = Drill.objects.passed(until=at).filter(environment__in=keys)
    last = dict(passed.order_by().values_list("environment_id").annotate(newest=Max("finished_at")))
    return {key: DrillTimes(since, last.get(key)) for key, since in first.annotate(since=Min("created_at"))}


def overdue_drills(scope: Scope, *, at: datetime) -> tuple[OverdueDrill, ...]:
    """Return where a drill should have passed and has not, longest overdue first."""
    rows = list(policies_of(scope))
    times = drill_times([one.environment_id for one in rows], at=at)
    found = [
        OverdueDrill(
            environment=one.environment,
            due_at=times[one.environment_id].due_at(every=timedelta(days=one.drill_days)),
            last_at=times[one.environment_id].last_at,
        )
        for one in rows
    ]
    return tuple(sorted((one for one in found if one.due_at < at), key=lambda one: (one.due_at, one.environment.pk)))
