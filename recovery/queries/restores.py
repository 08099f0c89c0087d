"""Reads behind the pages of restores: where one may be asked for, and what a restore to a time would mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.errors import Conflict
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.models.policy import Engine
from recovery.queries.points import coverage_of, expected_restore, objectives_of, size_to_restore
from recovery.rules.coverage import Coverage
from recovery.rules.objectives import Expectation, Objectives


@dataclass(frozen=True, slots=True)
class RestorePreview:
    """What restoring a time would mean: from which point, what it would not bring back, how long it would take.

    `size` is in bytes: of the point and all that it builds upon.
    """

    point: RecoveryPoint
    size: int
    target_at: datetime
    lost: timedelta
    objectives: Objectives
    expected: Expectation | None

    @property
    def has_attachments(self) -> bool:
        """Tell whether attachments may come with it: with what another tool made none do."""
        return self.point.policy.engine != Engine.EXTERNAL

    @property
    def is_within_rpo(self) -> bool:
        return self.lost <= self.objectives.rpo


def environments_to(scope: Scope, *abilities: Ability) -> QuerySet[Environment]:
    """Return the environments with a backup policy on which the scope has one of these abilities."""
    allowed = Q()
    for ability in abilities:
        allowed |= Q(pk__in=access.environments_with(scope, ability).values("pk"))
    backed_up = BackupPolicy.objects.active().values("environment")
    rows = Environment.objects.filter(allowed, pk__in=backed_up) if abilities else Environment.objects.none()
    return rows.select_related("tenant").order_by("tenant__name", "name", "pk")


def preview_of(
    environment: Environment, *, coverage: Coverage, target_at: datetime, at: datetime
) -> RestorePreview | None:
    """Say what a restore to a time would mean; None where the coverage has no way back to it."""
    key = coverage.backup_for(target_at)
    if key is None:
        return None
    point = RecoveryPoint.objects.select_related("policy").get(environment=environment, key=key)
    size = size_to_restore(point)
    return RestorePreview(
        point=point,
        size=size,
        target_at=target_at,
        lost=max(timedelta(0), at - target_at),
        objectives=objectives_of(environment),
        expected=expected_restore(environment, size=size),
    )


def point_at(environment: Environment, target_at: datetime) -> RecoveryPoint:
    """Return the point from which a time is reached. Raises `Conflict` with the last safe time before it."""
    coverage = coverage_of(environment)
    if refusal := coverage.refusal(target_at):
        raise Conflict(refusal)
    points = RecoveryPoint.objects.select_related("policy")
    point = points.get(environment=environment, key=coverage.backup_for(target_at))
    check_told(point)
    return point


def last_safe_without(environment: Environment, key: str, *, before: datetime) -> datetime | None:
    """Return the newest time up to `before` to which a restore takes neither a point nor what builds upon it."""
    rows = RecoveryPoint.objects.filter(environment=environment)
    parents: dict[str, str | None] = dict(rows.values_list("key", "parent__key"))
    gone = [one for one in parents if _builds_upon(one, key, parents=parents)]
    return coverage_of(environment).last_safe_without(gone, before=before)


def _builds_upon(key: str | None, other: str, *, parents: Mapping[str, str | None]) -> bool:
    """Tell whether a point is another, or cannot be restored without it."""
    while key is not None and key != other:
        key = parents.get(key)
    return key is not None


def check_told(point: RecoveryPoint) -> None:
    """Raise `Conflict` where a point of an operator does not say what to ask it for."""
    if point.policy.engine == Engine.CLOUDNATIVEPG and point.cluster_facts is None:
        raise Conflict("This point does not say where CloudNativePG keeps its base backup: take a new one.")
