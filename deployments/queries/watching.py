"""Reads behind the pages of runs: counts for a list, and what was measured while a wave baked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Count, Q

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.lifecycles.run import ACTIVE
from changecontrol.models import ChangeRequest, Run, RunTarget
from changecontrol.models.run import RunKind
from changecontrol.queries.runs import runs_of
from deployments.models import Measurement

PAGE_SIZE = 50


def active_runs(scope: Scope) -> list[Run]:
    """Return what is under way, newest first. Locks keep it to at most one an environment."""
    return list(runs_of(scope).filter(state__in=sorted(ACTIVE)))


def ended_runs(scope: Scope, *, before: int | None = None, after: int | None = None) -> tuple[list[Run], bool, bool]:
    """Return one page of ended runs by key, newest first, and whether there are newer and older ones."""
    rows = runs_of(scope).exclude(state__in=sorted(ACTIVE))
    if after is not None:
        found = list(rows.filter(pk__gt=after).order_by("pk")[: PAGE_SIZE + 1])
        return found[:PAGE_SIZE][::-1], len(found) > PAGE_SIZE, True
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PAGE_SIZE + 1])
    return found[:PAGE_SIZE], before is not None, len(found) > PAGE_SIZE


def state_counts(run_ids: Iterable[int]) -> Mapping[int, dict[tuple[int, str], int]]:
    """Count the targets of runs by wave and state, in one statement."""
    rows = RunTarget.objects.filter(run__in=list(run_ids)).order_by().values_list("run", "wave", "state")
    found: dict[int, dict[tuple[int, str], int]] = {}
    for run_id, wave, state, count in rows.annotate(count=Count("pk")):
        found.setdefault(run_id, {})[(wave, state)] = count
    return found


def run_of_change(scope: Scope, change: ChangeRequest) -> Run | None:
    """Return the newest rollout of a change in sight."""
    rows = Run.objects.filter(change=change, kind=RunKind.ROLLOUT).select_related("plan", "change__tenant", "intent_by")
    return access.visible(scope, rows).order_by("-pk").first()


def measurements_of(run: Run) -> list[Measurement]:
    """Return the newest measurement of each indicator and environment, with its samples, in two statements."""
    rows = (
        Measurement.objects.filter(Q(run=run))
        .order_by("environment_id", "indicator", "-wave", "-pk")
        .distinct("environment_id", "indicator")
        .select_related("environment")
        .prefetch_related("samples")
    )
    return sorted(rows, key=lambda one: (one.title, one.environment.slug))
