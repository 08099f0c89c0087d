"""What /metrics tells of recovery, in three statements however many environments there are.

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
    FilestoreCopy,
    RaisedAlarm,
    RecoveryPoint,
    Upkeep,
    WalSegment,
    WalSlot,
)
from recovery.models.point import UpkeepKind
from recovery.models.policy import Engine
from recovery.rules.alarms import AlarmKind, drill_due_at


def contribute(at: datetime) -> Iterator[Figure]:
    """Yield the gauges of every environment with a backup policy. What never was is as old as its first policy."""
    rows = list(_standing(at))
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
    running = BackupRun.objects.filter(state__in=sorted(ACTIVE_BACKUPS)).count()
    yield Figure("recovery_backups_running", "Backups that are asked for or under way", samples=(Sample((), running),))


def _standing(at: datetime) -> QuerySet[BackupPolicy]:
    """Return the policies in force with the newest of everything of their environment."""
    of_it = {"environment": OuterRef("environment")}
    points = RecoveryPoint.objects.restorable().filter(**of_it, consistent_at__lte=at).order_by("-consistent_at", "-id")
    proved = points.filter(state=PointState.VERIFIED)
    drills = Drill.objects.passed(until=at).filter(**of_it)
    wal = WalSegment.objects.filter(**of_it, ends_at__lte=at).order_by("-ends_at")
    attachments = FilestoreCopy.objects.filter(**of_it, removed_at__isnull=True, taken_at__lte=at).order_by("-taken_at")
    copies = Upkeep.objects.filter(**of_it, kind=UpkeepKind.COPIES)
    slots = WalSlot.objects.filter(**of_it).order_by("-retained_bytes")
    # The first version tells since when anything was due.
    first = BackupPolicy.objects.filter(**of_it).order_by("version")
    taken = RecoveryPoint.objects.filter(**of_it, finished_at__lte=at).order_by("-finished_at")
    return (
        BackupPolicy.objects.active()
        .annotate(
            watched_since=Subquery(first.values("created_at")[:1]),
            succeeded_at=Subquery(taken.values("finished_at")[:1]),
            proved_at=Subquery(proved.values("consistent_at")[:1]),
            proved_level=Subquery(proved.values("level")[:1]),
            point_at=Subquery(points.values("consistent_at")[:1]),
            last_drill_at=Subquery(drills.order_by("-finished_at").values("finished_at")[:1]),
            wal_at=Subquery(wal.values("ends_at")[:1]),
            copied_until=Subquery(copies.values("reached_at")[:1]),
            retained_bytes=Subquery(slots.values("retained_bytes")[:1]),
            attachments_at=Subquery(attachments.values("taken_at")[:1]),
        )
        .order_by("environment")
    )


def _since_success(one: Any, at: datetime) -> float:
    return _seconds(at, one.succeeded_at or one.watched_since)


def _since_proof(one: Any, at: datetime) -> float:
    return _seconds(at, one.proved_at or one.watched_since)


def _level(one: Any, at: datetime) -> float:
    return float(one.proved_level or 0)


def _loss(one: Any, at: datetime) -> float:
    """Return the older of what the store holds of the database and of its attachments: a point is the pair."""
    if one.point_at is None:
        return _seconds(at, one.watched_since)  # without a point, WAL leads nowhere
    safe_at = max(one.point_at, one.wal_at or one.point_at)
    if one.filestore_seconds is not None:
        safe_at = min(safe_at, max(one.point_at, one.attachments_at or one.point_at))
    return _seconds(at, safe_at)


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
    "last_success_age_seconds": ("Age of the last backup that succeeded", _since_success),
    "verified_point_age_seconds": ("Age of the data of the newest verified recovery point", _since_proof),
    "verified_point_level": ("Level of the newest verified recovery point, 0 where there is none", _level),
    "rpo_seconds": (
        "What would be lost now: time since the newest pair of database and attachments in the store",
        _loss,
    ),
    "copy_lag_seconds": (
        "Time since the newest moment that the other destination covers, 0 where there is none or it is not told",
        _behind,
    ),
    "wal_retained_bytes": ("WAL that a server keeps for the slot until it is archived", _retained),
    "drill_overdue_seconds": ("How long a drill has been overdue, 0 where none is", _overdue),
}
