"""What is wrong with environments' backups now, from what is recorded (BCK-1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import BooleanField, ExpressionWrapper, F, Max, OuterRef, Q, QuerySet, Subquery, Value, Window
from django.db.models.functions import RowNumber

from recovery.lifecycles.point import PointState
from recovery.models import (
    AlarmWatch,
    BackupPolicy,
    Disagreement,
    FilestoreCopy,
    PointCopy,
    RecoveryPoint,
    WalSegment,
    WalSlot,
)
from recovery.models.policy import Engine
from recovery.queries.comparison import losses_in
from recovery.queries.drills import drill_times
from recovery.queries.points import schedule_of
from recovery.rules.alarms import Alarm, BackupFacts, SlotFacts, alarms, first_due
from recovery.rules.locks import PromisedLock

SIZES = 10
"""How many points tell what size is usual."""
OPERATOR = "cloudnativepg"
"""Stands among the silent stores for an operator that does not say that it archives WAL."""
WAL_PATIENCE = 3
"""How many shippings of WAL may be missed before it alarms: one may be under way."""
ATTACHMENTS_PATIENCE = 5
LEAST_PATIENCE = timedelta(minutes=5)
"""The same of attachments: a copy takes its time, and looks at every file."""


def alarms_of(policy: BackupPolicy, *, at: datetime) -> tuple[Alarm, ...]:
    """List what is wrong for the environment of a policy in force, worst first."""
    return alarms(backup_facts([policy], at=at)[policy.environment_id], at=at)


def backup_facts(policies: Iterable[BackupPolicy], *, at: datetime) -> Mapping[int, BackupFacts]:
    """Return what alarms are judged by, by environment, of policies in force: in eight statements however many."""
    rows = list(policies)
    keys = [one.environment_id for one in rows]
    times = drill_times(keys, at=at)
    points = _newest_points(keys, at=at)
    last_wal, last_attachments = _newest_shipped(keys)
    slots = _slots(keys)
    watches = {one.environment_id: one for one in AlarmWatch.objects.filter(environment__in=keys)}
    silent = {key: one.silent_stores for key, one in watches.items()}
    lost = losses_in(keys)
    locks = _locks(rows, at=at)
    return {
        one.environment_id: BackupFacts(
            watched_since=times[one.environment_id].watched_since,
            grace=timedelta(seconds=one.grace_seconds),
            wal_within=_wal_within(one),
            last_wal_at=last_wal.get(one.environment_id),
            slots=tuple(slots.get(one.environment_id, ())),
            slot_idle_for=timedelta(seconds=settings.WAL_SLOT_IDLE_SECONDS),
            attachments_within=_attachments_within(one),
            last_attachments_at=last_attachments.get(one.environment_id),
            unarchived_since=_unarchived_since(one, silent.get(one.environment_id, {})),
            unreachable_stores=_unreachable(one, silent.get(one.environment_id, {})),
            losses=_losses(lost.get(one.environment_id, [])),
            locks=tuple(locks.get(one.environment_id, ())),
            **_of_database(one, watches.get(one.environment_id)),
            drill_every=timedelta(days=one.drill_days),
            last_drill_at=times[one.environment_id].last_at,
            **_of_points(
                points.get(one.environment_id, []), policy=one, watched_since=times[one.environment_id].watched_since
            ),
        )
        for one in rows
    }


def _wal_within(policy: BackupPolicy) -> timedelta | None:
    """Return how long no WAL may come; None where we archive none: an operator says itself whether it does."""
    if policy.engine != Engine.POSTGRES or not policy.wal_seconds:
        return None
    return timedelta(seconds=WAL_PATIENCE * policy.wal_seconds)


def _attachments_within(policy: BackupPolicy) -> timedelta | None:
    """Return how long no attachments may be copied: the time that some copies may be missed, and one takes."""
    if not policy.filestore_seconds:
        return None
    return max(ATTACHMENTS_PATIENCE * timedelta(seconds=policy.filestore_seconds), LEAST_PATIENCE)


def _newest_shipped(environment_ids: list[int]) -> tuple[Mapping[int, datetime], Mapping[int, datetime]]:
    """Return until when WAL and attachments are in the store, each by environment."""
    wal = WalSegment.objects.filter(environment__in=environment_ids).order_by().values_list("environment_id")
    copies = FilestoreCopy.objects.filter(environment__in=environment_ids, removed_at__isnull=True).order_by()
    found = (
        wal.annotate(newest=Max("ends_at"), is_wal=Value(True))
        .union(copies.values_list("environment_id").annotate(newest=Max("taken_at"), is_wal=Value(False)))
        .values_list("environment_id", "newest", "is_wal")
    )
    both: dict[bool, dict[int, datetime]] = {True: {}, False: {}}
    for environment, newest, is_wal in found:
        both[is_wal][environment] = newest
    return both[True], both[False]


def _of_database(policy: BackupPolicy, watch: AlarmWatch | None) -> dict[str, Any]:
    """Return what is known of the database itself, where a policy has somebody who asks it each minute."""
    is_asked = policy.has_sentinel if policy.engine == Engine.CLOUDNATIVEPG else policy.wal_seconds is not None
    if watch is None or not is_asked:
        return {}
    return {"database_failing_since": watch.database_failing_since, "database_trouble": watch.database_trouble}


def _unarchived_since(policy: BackupPolicy, silent: Mapping[str, str]) -> datetime | None:
    since = silent.get(OPERATOR) if policy.engine == Engine.CLOUDNATIVEPG else None
    return datetime.fromisoformat(since) if since else None


def _slots(environment_ids: list[int]) -> Mapping[int, list[SlotFacts]]:
    """Return the slots of environments as they were last seen on servers that policies name or named."""
    found: dict[int, list[SlotFacts]] = {}
    for one in WalSlot.objects.filter(environment__in=environment_ids).select_related("environment__tenant"):
        values = {name: getattr(one, name) for name in SlotFacts.__dataclass_fields__ if name != "place"}
        place = f"{one.environment.tenant.slug}/{one.environment.slug}"
        found.setdefault(one.environment_id, []).append(SlotFacts(**values, place=place))
    return found


def _newest_points(environment_ids: list[int], *, at: datetime) -> Mapping[int, list[RecoveryPoint]]:
    """Return the newest points of each kind by environment, broken ones and others, newest first."""
    is_broken = ExpressionWrapper(Q(state=PointState.BROKEN), output_field=BooleanField())
    number = Window(
        RowNumber(),
        partition_by=[F("environment_id"), F("kind"), is_broken],
        order_by=[F("consistent_at").desc(), F("id").desc()],
    )
    rows = RecoveryPoint.objects.filter(environment__in=environment_ids, consistent_at__lte=at)
    found: dict[int, list[RecoveryPoint]] = {}
    for one in rows.annotate(number=number).filter(number__lte=SIZES).order_by("-consistent_at", "-id"):
        found.setdefault(one.environment_id, []).append(one)
    return found


def _of_points(newest_first: list[RecoveryPoint], *, policy: BackupPolicy, watched_since: datetime) -> dict[str, Any]:
    last_at = newest_first[0].finished_at if newest_first else None
    good_at = next((one.finished_at for one in newest_first if one.state != PointState.BROKEN), None)
    due_at = first_due(schedule_of(policy), watched_since=watched_since, last_success_at=last_at)
    if not newest_first:
        return {"due_at": due_at, "last_success_at": None}
    newest = newest_first[0]
    # Sizes are compared among backups of one kind: an incremental one is small.
    sizes = tuple(one.size for one in reversed([one for one in newest_first if one.kind == newest.kind][:SIZES]))
    return {"due_at": due_at, "last_success_at": good_at, "sizes": sizes, "measured_at": newest.finished_at}


def _losses(rows: list[Disagreement]) -> tuple[tuple[str, datetime, str], ...]:
    """Return of each store since when something is lost, and of what: the first, and how many more."""
    stores: dict[str, list[Disagreement]] = {}
    for one in rows:
        stores.setdefault(one.store, []).append(one)
    found = []
    for store, lost in stores.items():
        more = f" And {len(lost) - 1} more." if len(lost) > 1 else ""
        found.append((store, min(one.found_at for one in lost), f"{lost[0].sentence}{more}"))
    return tuple(found)


def _locks(policies: Iterable[BackupPolicy], *, at: datetime) -> Mapping[int, list[tuple[datetime, PromisedLock]]]:
    """Return of each store of policies in force the newest point of which it told its lock, by environment.

    Nothing is promised where the policy in force promises none, whatever an earlier version did.
    """
    ours = [one.pk for one in policies if one.lock_days and one.engine != Engine.EXTERNAL]
    told = PointCopy.objects.filter(
        point__environment=OuterRef("environment"), point__consistent_at__lte=at, lock_told_at__isnull=False
    ).order_by("-point__consistent_at", "-point_id")

    def newest(place: str) -> QuerySet[BackupPolicy, Any]:
        of_place = Subquery(told.filter(store=OuterRef(place)).values("pk")[:1])
        return BackupPolicy.objects.filter(pk__in=ours).annotate(newest=of_place).values("newest")

    rows = PointCopy.objects.filter(Q(pk__in=newest("store")) | Q(pk__in=newest("copy_store")))
    found: dict[int, list[tuple[datetime, PromisedLock]]] = {}
    for one in rows.select_related("point__policy"):
        point = one.point
        lock = PromisedLock(point.key, one.store, point.started_at, point.policy.lock_days, one.locked_until)
        found.setdefault(point.environment_id, []).append((point.finished_at, lock))
    return found


def _unreachable(policy: BackupPolicy, silent: Mapping[str, str]) -> tuple[tuple[str, datetime], ...]:
    """Return which stores of the policy did not answer when last asked, and since when. What it left counts no more."""
    named = {policy.store, policy.copy_store}
    return tuple((url, datetime.fromisoformat(since)) for url, since in sorted(silent.items()) if url in named)
