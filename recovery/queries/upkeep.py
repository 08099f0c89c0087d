"""What may leave the store now: points whose removal was asked for, copies nobody needs, WAL that leads nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from recovery.lifecycles.drill import ACTIVE as ACTIVE_DRILLS
from recovery.lifecycles.point import ACTIVE_BACKUPS, RESTORABLE
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.models import BackupPolicy, BackupRun, Drill, FilestoreCopy, LegalHold, RecoveryPoint, Restore
from recovery.models.backup import BackupKind
from recovery.queries.points import retention_of
from recovery.rules.retention import KeptPoint

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
    # Those whose removal is only asked for, too: they may stay after all.
    rows = RecoveryPoint.objects.filter(
        environment=policy.environment_id, state__in=sorted(RESTORABLE), removing_at__isnull=True
    )
    points = {one.pk: one for one in rows}
    found: dict[str, list[KeptPoint]] = {}
    for one in points.values():
        if _is_whole(one, points) and (one.system_identifier or one.kind == BackupKind.DUMP):
            place: dict[str, Any] = {"timeline": one.timeline, "start_lsn": one.start_lsn, "stop_lsn": one.stop_lsn}
            found.setdefault(one.system_identifier, []).append(KeptPoint(one.key, one.consistent_at, **place))
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
    points = sorted((one for rows in servers.values() for one in rows), key=lambda one: one.taken_at, reverse=True)
    if not points:
        return ()
    copies = FilestoreCopy.objects.filter(
        environment=policy.environment_id, removed_at__isnull=True, point__isnull=True
    )
    return tuple(_thinned(copies, before=points[: policy.keep_last][-1].taken_at, at=at))


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
