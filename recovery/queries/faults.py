"""What checks found wrong with environments' recovery and nobody has mended, in three statements however many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, Subquery

from recovery.lifecycles.drill import JUDGED, DrillState
from recovery.lifecycles.point import PointState
from recovery.models import CorrectiveAction, Drill, RecoveryPoint, Verification
from recovery.rules.faults import BrokenPoint, FailedDrill, Fault, FoundFacts, OpenAction, faults


def faults_in(environment_ids: Iterable[int], *, at: datetime) -> Mapping[int, tuple[Fault, ...]]:
    """Return by environment what is wrong at a time, worst first; empty where nothing is."""
    keys = list(environment_ids)
    points = _newest_points(keys, at=at)
    drills = _newest_drills(keys, at=at)
    actions = _open_actions(keys)
    return {
        key: faults(
            FoundFacts(
                is_proved=key in points and points[key].is_proved,  # type: ignore[attr-defined]  # annotated
                broken=_broken(points.get(key)),
                failed=_failed(drills.get(key)),
                actions=tuple(actions.get(key, ())),
            )
        )
        for key in keys
    }


def _newest_points(keys: list[int], *, at: datetime) -> Mapping[int, RecoveryPoint]:
    """Return the newest point that is kept of each environment, why a check broke it, and whether any is verified."""
    failed = Verification.objects.filter(point=OuterRef("pk"), is_passed=False).order_by("-id")
    verified = RecoveryPoint.objects.restorable().filter(environment=OuterRef("environment"), consistent_at__lte=at)
    rows = RecoveryPoint.objects.kept().filter(environment__in=keys, consistent_at__lte=at)
    newest = rows.order_by("environment_id", "-consistent_at", "-id").distinct("environment_id")
    annotated = newest.annotate(
        why=Subquery(failed.values("sentence")[:1]),
        is_proved=Exists(verified.filter(state=PointState.VERIFIED)),
    )
    return {one.environment_id: one for one in annotated}


def _newest_drills(keys: list[int], *, at: datetime) -> Mapping[int, Drill]:
    """Return the newest drill of each environment that could prove a way back and has its verdict."""
    rows = Drill.objects.proving().filter(environment__in=keys, state__in=sorted(JUDGED), finished_at__lte=at)
    newest = rows.order_by("environment_id", "-finished_at", "-id").distinct("environment_id")
    return {one.environment_id: one for one in newest}


def _open_actions(keys: list[int]) -> Mapping[int, list[OpenAction]]:
    """Return the open corrective actions of what drills found, oldest first; of one that could not go on there is none.

    What was found has a change, or says why it has none.
    """
    found = Q(change__isnull=False) | ~Q(problem="")
    rows = CorrectiveAction.objects.filter(found, closed_at__isnull=True, drill__environment__in=keys)
    opened: dict[int, list[OpenAction]] = {}
    for one in rows.select_related("drill").order_by("opened_at", "id"):
        action = OpenAction(one.drill_id, one.title, one.opened_at)
        opened.setdefault(one.drill.environment_id, []).append(action)
    return opened


def _broken(point: RecoveryPoint | None) -> BrokenPoint | None:
    if point is None or point.state != PointState.BROKEN:
        return None
    found_at = point.checked_at or point.finished_at
    why = point.why or "a check disproved it."  # type: ignore[attr-defined]  # annotated
    return BrokenPoint(point.pk, point.key, point.consistent_at, found_at, why)


def _failed(drill: Drill | None) -> FailedDrill | None:
    if drill is None or drill.state != DrillState.FAILED or drill.finished_at is None:
        return None
    return FailedDrill(drill.pk, drill.level, drill.finished_at, drill.sentence)
