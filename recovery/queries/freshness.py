"""Is there a verified point, how old, of which level: what a gate asks before it lets a risky change start (RBK-2).

A point from which no moment is reached any more is no way back, whatever it once proved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count

from changecontrol.models import Environment
from recovery.lifecycles.point import PointState
from recovery.models import RecoveryPoint
from recovery.queries.points import coverages_of
from recovery.rules.coverage import Coverage
from recovery.rules.times import length, moment


@dataclass(frozen=True, slots=True)
class Freshness:
    """The newest verified point that leads back.

    `age` is of its data, not of its check; None and 0 where there is no such point.
    """

    sentence: str
    point_key: str = ""
    level: int = 0
    consistent_at: datetime | None = None
    age: timedelta | None = None
    checked_at: datetime | None = None

    @property
    def is_verified(self) -> bool:
        return self.age is not None


def freshness_of(environment: Environment, at: datetime) -> Freshness:
    """Tell how fresh the newest verified point of an environment is. One that is merely copied does not count."""
    return freshness_in([environment], at=at)[environment.pk]


def freshness_in(
    environments: Iterable[Environment], *, coverages: Mapping[int, Coverage] | None = None, at: datetime
) -> Mapping[int, Freshness]:
    """Tell the same of environments by key, in two statements however many they are, and those of their coverage.

    Whoever knows the coverage already hands it over.
    """
    asked = list(environments)
    keys = [one.pk for one in asked]
    covered = coverages_of(asked) if coverages is None else coverages
    rows = RecoveryPoint.objects.restorable().filter(environment__in=keys, consistent_at__lte=at)
    verified: dict[int, list[RecoveryPoint]] = {key: [] for key in keys}
    for one in rows.filter(state=PointState.VERIFIED).order_by("-consistent_at", "-id"):
        verified[one.environment_id].append(one)
    copied = rows.exclude(state=PointState.VERIFIED).order_by().values_list("environment_id")
    counts = dict(copied.annotate(count=Count("pk")))
    return {
        key: _freshness(verified[key], coverage=covered[key], copied_count=counts.get(key, 0), at=at) for key in keys
    }


def _freshness(
    newest_first: Sequence[RecoveryPoint], *, coverage: Coverage, copied_count: int, at: datetime
) -> Freshness:
    point = next((one for one in newest_first if coverage.has_way_back(one.key)), None)
    if point is None:
        return Freshness(f"No recovery point is verified. {_instead(copied_count, lost_count=len(newest_first))}")
    age = at - point.consistent_at
    return Freshness(
        f"Point {point.key} of {moment(point.consistent_at)}, {length(age)} old, is verified at L{point.level}.",
        point_key=point.key,
        level=point.level,
        consistent_at=point.consistent_at,
        age=age,
        checked_at=point.checked_at,
    )


def _instead(copied_count: int, *, lost_count: int) -> str:
    """Say what there is in place of a verified point."""
    copied = f"{copied_count} {'is' if copied_count == 1 else 'are'} only copied."
    lost = f"{lost_count} that {'was' if lost_count == 1 else 'were'} can no longer be restored."
    found = [sentence for sentence, count in ((copied, copied_count), (lost, lost_count)) if count]
    return " ".join(found) or "There is none that is even copied."
