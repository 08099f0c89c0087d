"""Reads of runs: what is ready to begin, and what a page shows of one."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.lifecycles.change import ChangeState
from changecontrol.lifecycles.run import ACTIVE, PauseReason, RunState
from changecontrol.models import ChangeRequest, Run, RunLog, RunTarget
from changecontrol.models.run import RunKind

LOG_LIMIT = 500


def changes_ready(at: datetime, *, kind: str) -> QuerySet[ChangeRequest]:
    """Return approved changes of a kind whose planned start has come and that nothing carries out yet, oldest first.

    Window, freeze, approval and locks are judged by whoever takes one up, on the locked row.
    """
    under_way = Run.objects.filter(change=OuterRef("pk"), kind=RunKind.ROLLOUT, state__in=sorted(ACTIVE))
    return ChangeRequest.objects.filter(
        Q(planned_start_at__isnull=True) | Q(planned_start_at__lte=at),
        ~Exists(under_way),
        state=ChangeState.SCHEDULED,
        kind=kind,
        plan__isnull=False,
    ).order_by("planned_start_at", "pk")


def runs_of(scope: Scope) -> QuerySet[Run]:
    """Return the rollouts in sight, newest first, with what a list shows."""
    rows = Run.objects.filter(kind=RunKind.ROLLOUT).select_related("change__tenant", "plan", "revision")
    return access.visible(scope, rows).order_by("-pk")


def run_named(scope: Scope, run_id: int) -> Run | None:
    """Return a run in sight with its change and plan, or None."""
    rows = Run.objects.select_related("change__tenant", "plan", "revision", "intent_by")
    return access.visible(scope, rows).filter(pk=run_id).first()


def latest_run(change: ChangeRequest, *, kind: RunKind = RunKind.ROLLOUT) -> Run | None:
    return Run.objects.filter(change=change, kind=kind).select_related("plan", "revision").order_by("-pk").first()


def has_drifted(change: ChangeRequest) -> bool:
    """Tell whether a rollout stands still because the approved plan is no longer what would be done (APR-9)."""
    rollouts = Run.objects.filter(change=change, kind=RunKind.ROLLOUT)
    return rollouts.filter(state=RunState.PAUSED, pause_reason=PauseReason.PLAN_DRIFT).exists()


def targets_of(run: Run) -> list[RunTarget]:
    """Return the targets in the order of the grid, with environment and cohort."""
    rows = run.targets.select_related("environment", "cohort").order_by(
        "wave", "environment__slug", "cohort__name", "pk"
    )
    return list(rows)


def log_of(run: Run, *, after: int = 0, limit: int = LOG_LIMIT) -> list[RunLog]:
    """Return the newest lines of the live log, newest first; `after` narrows to those behind a line's id."""
    return list(run.log.filter(pk__gt=after).select_related("target__environment").order_by("-pk")[:limit])
