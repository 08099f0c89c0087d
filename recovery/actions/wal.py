"""What leads on from a point: WAL in the stores, and the times that an operator says it can restore."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from changecontrol.models import Environment
from recovery.models import ClusterCoverage, WalSegment


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
def record_remaining_wal(
    *, environment: Environment, store: str, segments: Iterable[NewSegment], actor: Actor, at: datetime
) -> None:
    """Record what is left of the WAL in a store after some was removed. What was shipped meanwhile stays recorded."""
    Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=environment.pk)
    before = list(WalSegment.objects.filter(environment=environment, store__in={store, ""}))
    places = {(one.system_identifier, one.timeline, one.start_lsn) for one in before}
    left = []
    for segment in segments:
        for later in _meeting(environment, segment):
            if later.end_lsn > segment.end_lsn:
                reach = {name: getattr(later, name) for name in ("end_lsn", "ends_at", "key", "size", "sha256")}
                segment = replace(segment, **reach)
        left.append(segment)
    if {(one.system_identifier, one.timeline, one.start_lsn) for one in left} == places:
        return
    WalSegment.objects.filter(pk__in=[one.pk for one in before]).delete()
    WalSegment.objects.bulk_create(WalSegment(environment=environment, **asdict(one)) for one in left)
    data = {"left": [{"timeline": one.timeline, "start": one.start_lsn, "end": one.end_lsn} for one in left]}
    audit.record(Tag.WAL_REMOVED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id)


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
