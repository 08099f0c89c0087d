"""Reads of drills: what was practised, and what is overdue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, QuerySet, Subquery

from changecontrol.access import Scope
from changecontrol.models import Environment
from recovery.lifecycles.drill import DrillState
from recovery.models import BackupPolicy, Drill
from recovery.queries.points import in_sight, policies_of
from recovery.rules.alarms import drill_due_at


@dataclass(frozen=True, slots=True)
class OverdueDrill:
    """An environment whose drill is not done in time; `last_at` None where none ever passed."""

    environment: Environment
    due_at: datetime
    last_at: datetime | None


def drills_of(scope: Scope) -> QuerySet[Drill]:
    """Return drills, newest first, with what a list of them shows."""
    rows = Drill.objects.select_related("environment__tenant", "point", "asked_by", "sign_off__by")
    return in_sight(scope, rows).order_by("-id")


def overdue_drills(scope: Scope, *, at: datetime) -> tuple[OverdueDrill, ...]:
    """Return where a drill should have passed and has not, longest overdue first. Sabotaged ones do not count."""
    passed = Drill.objects.filter(environment=OuterRef("environment"), state=DrillState.PASSED, sabotage="")
    # The policy's first version tells since when drills were due: an edit is no reason for a later one.
    first = BackupPolicy.objects.filter(environment=OuterRef("environment")).order_by("version")
    rows = policies_of(scope).annotate(
        last_drill_at=Subquery(passed.order_by("-finished_at").values("finished_at")[:1]),
        watched_since=Subquery(first.values("created_at")[:1]),
    )
    found = [
        OverdueDrill(
            environment=one.environment,
            due_at=drill_due_at(
                watched_since=one.watched_since, last_drill_at=one.last_drill_at, every=timedelta(days=one.drill_days)
            ),
            last_at=one.last_drill_at,
        )
        for one in rows
    ]
    return tuple(sorted((one for one in found if one.due_at < at), key=lambda one: (one.due_at, one.environment.pk)))
