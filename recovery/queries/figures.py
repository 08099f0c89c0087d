"""What /metrics tells of recovery, in as many statements for one environment as for many.

An environment is named by its number, which tells a stranger nothing (BIZ-1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery

from changecontrol.figures import Figure, Sample
from recovery.lifecycles.point import ACTIVE_BACKUPS, PointState
from recovery.models import (
    BackupPolicy,
    BackupRun,
    Drill,
    RaisedAlarm,
    RecoveryPoint,
    Upkeep,
    WalSlot,
)
from recovery.models.point import UpkeepKind
from recovery.models.policy import Engine
from recovery.queries.faults import faults_in
from recovery.queries.freshness import freshness_in
from recovery.queries.points import coverages_of
from recovery.rules.alarms import AlarmKind, drill_due_at
from recovery.rules.faults import FaultKind


def contribute(at: datetime) -> Iterator[Figure]:
    """Yield the gauges of every environment with a backup policy. What never was is as old as its first policy."""
    rows = _standing(at)
    for name, (text, value) in _OF_ENVIRONMENT.items():
        samples = tuple(Sample((str(one.environment_id),), value(one, at)) for one in rows)
        yield Figure(f"recovery_{name}", text, labels=("environment",), samples=samples)
    sounding = set(RaisedAlarm.objects.sounding().values_list("environment_id", "kind"))
    yield Figure(
        "recovery_alarm",
        "Whether an alarm of this kind is open",
        labels=("environment", "kind"),
        samples=tuple(
            Sample((str(one.environment_id), str(kind)), float((one.environment_id, str(kind)) in sounding))
            for one in rows
            for kind in AlarmKind
        ),
    )
    faults = faults_in([one.environment_id for one in rows], at=at)
    yield Figure(
        "recovery_fault",
        "Whether a fault of this kind that a check found is not mended",
        labels=("environment", "kind"),
        samples=tuple(
            Sample((str(key), str(kind)), float(any(one.kind == kind for one in found)))
            for key, found in faults.items()
            for kind in FaultKind
        ),
    )
    running = BackupRun.objects.filter(state__in=sorted(ACTIVE_BACKUPS)).count()
    yield Figure("recovery_backups_running", "Backups that are asked for or under way", samples=(Sample((), running),))


def _standing(at: datetime) -> list[Any]:
    """Return the policies in force with how far, and how well proved, their environment can be brought back."""
    rows: list[Any] = list(_in_force(at))
    environments = [one.environment for one in rows]
    coverages = coverages_of(environments)
    fresh = freshness_in(environments, coverages=coverages, at=at)
    for one in rows:
        one.safe_at = coverages[one.environment_id].last_safe_before(at)
        one.freshness = fresh[one.environment_id]
    return rows


def _in_force(at: datetime) -> QuerySet[BackupPolicy]:
    """Return the policies in force with the newest of everything of their environment."""
    of_it = {"environment": OuterRef("environment")}
    drills = Drill.objects.passed(until=at).filter(**of_it)
    copies = Upkeep.objects.filter(**of_it, kind=UpkeepKind.COPIES)
    slots = WalSlot.objects.filter(**of_it).order_by("-retained_bytes")
    # The first version tells since when anything was due.
    first = BackupPolicy.objects.filter(**of_it).order_by("version")
    taken = RecoveryPoint.objects.filter(**of_it, finished_at__lte=at).exclude(state=PointState.BROKEN)
    return (
        BackupPolicy.objects.active()
        .select_related("environment")
        .annotate(
            watched_since=Subquery(first.values("created_at")[:1]),
            succeeded_at=Subquery(taken.order_by("-finished_at").values("finished_at")[:1]),
            last_drill_at=Subquery(drills.order_by("-finished_at").values("finished_at")[:1]),
            copied_until=Subquery(copies.values("reached_at")[:1]),
            retained_bytes=Subquery(slots.values("retained_bytes")[:1]),
        )
        .order_by("environment")
    )


def _since_success(one: Any, at: datetime) -> float:
    return _seconds(at, one.succeeded_at or one.watched_since)


def _since_proof(one: Any, at: datetime) -> float:
    return _seconds(at, one.freshness.consistent_at or one.watched_since)


def _level(one: Any, at: datetime) -> float:
    return float(one.freshness.level)


def _loss(one: Any, at: datetime) -> float:
    return _seconds(at, one.safe_at or one.watched_since)


def _behind(one: Any, at: datetime) -> float:
    is_told = one.copy_store and one.engine != Engine.CLOUDNATIVEPG
    return _seconds(at, one.copied_until or one.watched_since) if is_told else 0.0


def _overdue(one: Any, at: datetime) -> float:
    every = timedelta(days=one.drill_days)
    due_at = drill_due_at(watched_since=one.watched_since, last_drill_at=one.last_drill_at, every=every)
    return max(0.0, _seconds(at, due_at))


def _retained(one: Any, at: datetime) -> float:
    return float(one.retained_bytes or 0)


def _seconds(at: datetime, since: datetime) -> float:
    return (at - since).total_seconds()


_OF_ENVIRONMENT: Mapping[str, tuple[str, Callable[[Any, datetime], float]]] = {
    "last_success_age_seconds": ("Age of the last backup that succeeded and is not broken", _since_success),
    "verified_point_age_seconds": (
        "Age of the data of the newest verified recovery point that leads back",
        _since_proof,
    ),
    "verified_point_level": ("Level of the newest verified recovery point, 0 where there is none", _level),
    "rpo_seconds": (
        "What would be lost now: time since the newest moment of which the stores hold database and attachments",
        _loss,
    ),
    "copy_lag_seconds": (
        "Time since the newest moment that the other destination covers, 0 where there is none or it is not told",
        _behind,
    ),
    "wal_retained_bytes": ("WAL that a server keeps for the slot until it is archived", _retained),
    "drill_overdue_seconds": ("How long a drill has been overdue, 0 where none is", _overdue),
}
