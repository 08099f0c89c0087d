"""What leads on from a point: WAL in the stores, and the times that an operator says it can restore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import Environment
from recovery.models import BackupPolicy, ClusterCoverage, WalSegment
from recovery.queries.upkeep import points_by_server, segment_sizes
from recovery.rules.coverage import Segment
from recovery.rules.retention import KeptPoint, cut_wal


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A piece of WAL in the store; see the columns of `WalSegment`."""

    system_identifier: str
    timeline: int
    start_lsn: int
    end_lsn: int
    ends_at: datetime
    key: str
    size: int
    sha256: str
    store: str = ""
    parent: int = 0
    forked_lsn: int = 0


@transaction.atomic
def record_segment(*, environment: Environment, segment: NewSegment, actor: Actor, at: datetime) -> WalSegment:
    """Record WAL that the store holds without a hole. It grows every few seconds: its beginning alone is an event."""
    Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=environment.pk)
    before = _meeting(environment, segment).last()
    if before is not None:
        is_known = (before.store, before.parent) == (segment.store, segment.parent)
        if not is_known or (before.end_lsn, before.ends_at) < (segment.end_lsn, segment.ends_at):
            _lengthen(before, segment)
        return before
    found = WalSegment.objects.create(environment=environment, **asdict(segment))
    data = {"key": segment.key, "size": segment.size, "sha256": segment.sha256, "ends_at": segment.ends_at.isoformat()}
    audit.record(Tag.WAL_RECORDED, subject=found, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return found


@transaction.atomic
def record_cluster_coverage(
    *,
    environment: Environment,
    system_identifier: str,
    starts_at: datetime,
    ends_at: datetime,
    actor: Actor,
    at: datetime,
) -> ClusterCoverage:
    """Record which times an operator says it can restore. They move all the time: that a server has any is an event."""
    Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=environment.pk)
    is_new = not ClusterCoverage.objects.filter(environment=environment, system_identifier=system_identifier).exists()
    found, _ = ClusterCoverage.objects.update_or_create(
        environment=environment,
        defaults={"system_identifier": system_identifier, "starts_at": starts_at, "ends_at": ends_at},
    )
    if is_new:
        reach = {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat()}
        data = {"system_identifier": system_identifier, **reach}
        audit.record(Tag.WAL_RECORDED, subject=found, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return found


@transaction.atomic
def let_wal_go(policy: BackupPolicy, *, actor: Actor, at: datetime) -> Mapping[str, list[KeptPoint]] | None:
    """Count no more on the WAL that retention removes, before a byte of it goes: no time is offered that it led to.

    Returns the points that stay by the server whose WAL they need, empty while everything is held, None while somebody
    is at work: then nothing goes.
    """
    environment = Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=policy.environment_id)
    servers, sizes = points_by_server(policy), segment_sizes(environment.pk)
    for server, points in (servers or {}).items():
        rows = list(
            WalSegment.objects.select_for_update(of=("self",)).filter(
                environment=environment, store__in={policy.store, ""}, system_identifier=server
            )
        )
        if not rows:
            continue
        left = cut_wal(map(_extent, rows), points=points, segment_bytes=sizes[server])
        cut = [row for row in rows if left[_extent(row)] != (_extent(row),)]
        if not cut:
            continue
        WalSegment.objects.filter(pk__in=[row.pk for row in cut]).delete()
        WalSegment.objects.bulk_create(_piece(row, piece) for row in cut for piece in left[_extent(row)])
        places = sorted((one.timeline, one.start_lsn, one.end_lsn) for pieces in left.values() for one in pieces)
        data = {"left": [{"timeline": timeline, "start": start, "end": end} for timeline, start, end in places]}
        audit.record(Tag.WAL_REMOVED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return servers


def _extent(row: WalSegment) -> Segment:
    return Segment(row.timeline, row.start_lsn, row.end_lsn, row.ends_at, row.parent, row.forked_lsn)


def _piece(row: WalSegment, piece: Segment) -> WalSegment:
    columns: dict[str, Any] = {one.name: getattr(row, one.name) for one in fields(NewSegment)}
    return WalSegment(environment_id=row.environment_id, **columns | asdict(piece))


def _meeting(environment: Environment, segment: NewSegment) -> QuerySet[WalSegment]:
    """Return the recorded WAL of a store that a piece overlaps or adjoins, in its order."""
    return WalSegment.objects.filter(
        environment=environment,
        # Where what was recorded before stores were lies is said by whoever looks there first.
        store__in={segment.store, ""},
        system_identifier=segment.system_identifier,
        timeline=segment.timeline,
        start_lsn__lte=segment.end_lsn,
        end_lsn__gte=segment.start_lsn,
    ).order_by("end_lsn")


def _lengthen(known: WalSegment, segment: NewSegment) -> None:
    known.end_lsn, known.ends_at = max(known.end_lsn, segment.end_lsn), max(known.ends_at, segment.ends_at)
    known.key, known.size, known.sha256 = segment.key, segment.size, segment.sha256
    known.store, known.parent, known.forked_lsn = segment.store, segment.parent, segment.forked_lsn
    known.save(update_fields=["end_lsn", "ends_at", "key", "size", "sha256", "store", "parent", "forked_lsn"])
