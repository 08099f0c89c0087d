"""Is there a verified point, how old, of which level: what a gate asks before it lets a risky change start (RBK-2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from changecontrol.models import Environment
from recovery.lifecycles.point import PointState
from recovery.models import RecoveryPoint
from recovery.rules.times import length, moment


@dataclass(frozen=True, slots=True)
class Freshness:
    """The newest verified point. `age` is of its data, not of its check; None and 0 where there is no such point."""

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
    rows = RecoveryPoint.objects.restorable().filter(environment=environment, consistent_at__lte=at)
    point = rows.filter(state=PointState.VERIFIED).first()
    if point is None:
        count = rows.count()
        copied = (
            f"{count} {'is' if count == 1 else 'are'} only copied" if count else "There is none that is even copied"
        )
        return Freshness(f"No recovery point is verified. {copied}.")
    age = at - point.consistent_at
    return Freshness(
        f"Point {point.key} of {moment(point.consistent_at)}, {length(age)} old, is verified at L{point.level}.",
        point_key=point.key,
        level=point.level,
        consistent_at=point.consistent_at,
        age=age,
        checked_at=point.checked_at,
    )
