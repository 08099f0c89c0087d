"""What may leave the store now: points whose removal was asked for, copies nobody needs, WAL that leads nowhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max

from recovery.lifecycles.drill import ACTIVE as ACTIVE_DRILLS
from recovery.lifecycles.point import ACTIVE_BACKUPS, RESTORABLE, PointState
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.models import (
    BackupPolicy,
    BackupRun,
    Drill,
    FilestoreCopy,
    LegalHold,
    RecoveryPoint,
    Restore,
    WalSegment,
)
from recovery.models.backup import BackupKind
from recovery.models.policy import Engine
from recovery.ports.postgres import segment_bytes_of
from recovery.queries.points import Restorable, keep_of, restorable_in, retention_of
from recovery.rules.coverage import Segment, Span
from recovery.rules.retention import KeptPoint, Retention, cut_wal, lead_on

EACH_FOR = timedelta(days=1)
"""So long every copy of attachments stays; after it the first of each hour."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """Keys of the rows that may go. `has_wal` where some WAL, or what killed uploads left, may lead nowhere.

    Which, the store and `points_by_server` tell. `is_busy` where somebody is at work: copies and WAL stay for now, and
    it is to be asked again soon.
    """

    points: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    has_wal: bool = False
    is_busy: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.points or self.copies or self.has_wal)

    def to_order(self, policy: BackupPolicy) -> dict[str, Any]:
        """Return the order of the job that removes it, as JSON values."""
        named = {"points": list(self.points), "copies": list(self.copies)}
        return {"policy": policy.pk, **named, "is_busy": self.is_busy}


def leaving(policy: BackupPolicy, *, at: datetime) -> Leaving:
    """Say what may leave the store of a policy's environment, as things stand."""
    goes = set(retention_of(policy, at=at).goes)
    rows = RecoveryPoint.objects.kept().filter(environment=policy.environment_id)
    # What has begun to go is nothing any more: it goes whatever the plan says now.
    points = tuple(
        one.pk for one in rows if one.removing_at is not None or (one.removal_asked_at is not None and one.key in goes)
    )
    servers = points_by_server(policy)
    if servers is None:
        return Leaving(points, is_busy=True)
    return Leaving(points, copies_leaving(policy, servers=servers, at=at), bool(servers))


def points_by_server(policy: BackupPolicy) -> Mapping[str, list[KeptPoint]] | None:
    """Return the whole points to stay, by the server whose WAL they need, which alone tells what WAL leads nowhere.

    Dumps are there under no server: they need none, and the attachments that were copied before them may go.

    Empty while everything is held: nothing may go. None while something is read or a backup is taken: whoever is at
    work has chosen its WAL, and nobody can tell before they are done.
    """
    if _is_held(policy):
        return {}
    if _is_busy(policy):
        return None
    going = RecoveryPoint.objects.filter(environment=policy.environment_id, removing_at__isnull=False)
    asked_at = going.aggregate(newest=Max("removal_asked_at"))["newest"]
    # Times go with the points whose removal somebody asked for, as was said then: never by themselves. A policy that
    # has come into force since may keep more.
    is_as_asked = asked_at is not None and BackupPolicy.objects.active().filter(pk=policy.pk).exists()
    return _by_server(policy, alone=_alone(policy, asked_at=asked_at) if asked_at and is_as_asked else ())


def removal_of(policy: BackupPolicy, *, at: datetime) -> Retention:
    """Say which points of a policy's environment would go, why each other one stays, and which times would be lost."""
    plan = retention_of(policy, at=at)
    return replace(plan, lost=_times_lost(policy, plan=plan, at=at))


def _times_lost(policy: BackupPolicy, *, plan: Retention, at: datetime) -> tuple[Span, ...]:
    if not plan.goes:
        return ()
    # What is asked for already is told as well: it goes with the rest.
    rows = RecoveryPoint.objects.filter(state__in=sorted(RESTORABLE), removing_at__isnull=True)
    found = restorable_in([policy.environment_id], rows=rows)[policy.environment_id]
    points = [one for one in found.points if one.key not in plan.goes]
    wal = found.wal
    if policy.engine != Engine.EXTERNAL:
        servers = _by_server(policy, alone=_alone(policy, asked_at=at, without=plan.goes), without=plan.goes)
        sizes = segment_sizes(policy.environment_id)
        wal = {
            (store, server): _left(rows, points=servers.get(server, []), segment_bytes=sizes[server])
            # It goes from the store of the policy in force.
            if store in {policy.store, ""}
            else rows
            for (store, server), rows in found.wal.items()
        }
    return found.coverage().times_not_in(Restorable(points, wal, found.copied).coverage())


def _left(rows: list[Segment], *, points: list[KeptPoint], segment_bytes: int) -> list[Segment]:
    left = cut_wal(rows, points=points, segment_bytes=segment_bytes)
    return [piece for pieces in left.values() for piece in pieces]


def segment_sizes(environment_id: int) -> Mapping[str, int]:
    """Return how large a segment of WAL is, by server, as the names of objects tell."""
    rows = WalSegment.objects.filter(environment=environment_id).order_by("pk")
    return {server: segment_bytes_of(key) for server, key in rows.values_list("system_identifier", "key")}


def wal_counted_on(policy: BackupPolicy, *, store: str) -> Mapping[str, list[Segment]]:
    """Return the WAL by server that the catalogue counts on in a store of a policy.

    Where its copies go may have been the store of an earlier policy: what is counted on there is counted on.
    """
    found: dict[str, list[Segment]] = {}
    for (place, server), rows in restorable_in([policy.environment_id])[policy.environment_id].wal.items():
        if place in {policy.store, store, ""}:
            found.setdefault(server, []).extend(rows)
    return found


def _alone(policy: BackupPolicy, *, asked_at: datetime, without: Collection[str] = ()) -> Collection[str]:
    """Return the points after which no WAL stays, as things stood when a removal was asked for and it was said.

    Whatever was recorded since leads on, and while the policy is another one than then, every point does.
    """
    if policy.created_at > asked_at:
        return ()
    rows = RecoveryPoint.objects.kept().filter(environment=policy.environment_id, run__finished_at__lte=asked_at)
    kept = list(rows.filter(removing_at__isnull=True).exclude(key__in=without))
    then = [
        KeptPoint(one.key, one.consistent_at, is_broken=one.state == PointState.BROKEN, locked_until=one.locked_until)
        for one in kept
    ]
    # One that was broken then, and is mended, had another lead on in its place.
    since = {one.key for one in kept if one.checked_at is not None and one.checked_at > asked_at}
    known = [one for one in then if one.key not in since]
    leading = [lead_on(points, keep=keep_of(policy), at=asked_at) for points in (then, known)]
    return {one.key for one in then}.difference(*leading)


def _by_server(
    policy: BackupPolicy, *, alone: Collection[str], without: Collection[str] = ()
) -> Mapping[str, list[KeptPoint]]:
    # Those whose removal is only asked for, too: they may stay after all.
    rows = RecoveryPoint.objects.filter(
        environment=policy.environment_id, state__in=sorted(RESTORABLE), removing_at__isnull=True
    ).exclude(key__in=without)
    points = {one.pk: one for one in rows}
    found: dict[str, list[KeptPoint]] = {}
    for one in points.values():
        if _is_whole(one, points) and (one.system_identifier or one.kind == BackupKind.DUMP):
            place: dict[str, Any] = {"timeline": one.timeline, "start_lsn": one.start_lsn, "stop_lsn": one.stop_lsn}
            kept = KeptPoint(one.key, one.consistent_at, **place, is_alone=one.key in alone)
            found.setdefault(one.system_identifier, []).append(kept)
    return found


def _is_whole(point: RecoveryPoint, points: Mapping[int, RecoveryPoint]) -> bool:
    """Tell whether all that a point builds upon is there."""
    while point.parent_id is not None:
        if point.parent_id not in points:
            return False
        point = points[point.parent_id]
    return True


def copies_leaving(policy: BackupPolicy, *, servers: Mapping[str, list[KeptPoint]], at: datetime) -> tuple[int, ...]:
    """Return the copies of attachments that go: older than any time that WAL leads to, or not the first of an hour."""
    newest_first = (sorted(rows, key=lambda one: one.taken_at, reverse=True) for rows in servers.values() if rows)
    leading = [one for rows in newest_first for one in [each for each in rows if not each.is_alone] or rows[:1]]
    if not leading:
        return ()
    copies = FilestoreCopy.objects.filter(
        environment=policy.environment_id, removed_at__isnull=True, point__isnull=True
    )
    return tuple(_thinned(copies, before=min(one.taken_at for one in leading), at=at))


def _is_held(policy: BackupPolicy) -> bool:
    holds = LegalHold.objects.filter(environment=policy.environment_id, lifted_at__isnull=True, point__isnull=True)
    return holds.exists()


def _is_busy(policy: BackupPolicy) -> bool:
    restores = Restore.objects.filter(environment=policy.environment_id, state__in=sorted(ACTIVE_RESTORES))
    drills = Drill.objects.filter(environment=policy.environment_id, state__in=sorted(ACTIVE_DRILLS))
    backups = BackupRun.objects.filter(environment=policy.environment_id, state__in=sorted(ACTIVE_BACKUPS))
    return restores.exists() or drills.exists() or backups.exists()


def _thinned(copies: Iterable[FilestoreCopy], *, before: datetime, at: datetime) -> list[int]:
    hours: dict[datetime, FilestoreCopy] = {}
    newest_first = list(copies)
    for one in newest_first:
        hours[one.taken_at.replace(minute=0, second=0, microsecond=0)] = one
    firsts = {one.pk for one in hours.values()}
    return [
        one.pk
        for one in newest_first[1:]
        if one.taken_at < before or (one.pk not in firsts and at - one.taken_at > EACH_FOR)
    ]
