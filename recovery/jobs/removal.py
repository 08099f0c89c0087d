"""The job that removes from the store what may leave it: points, copies of attachments, WAL; orphans after a grace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.errors import Transient
from changecontrol.ports import ObjectStore
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.actions.points import begin_removal
from recovery.actions.wal import let_wal_go
from recovery.adapters.postgres.facts import FACTS
from recovery.adapters.postgres.wal import observe_archive, observe_systems
from recovery.adapters.streams import ensure_stream_absent, leftovers
from recovery.jobs import attachments
from recovery.jobs.saying import Saying
from recovery.models import BackupPolicy, FilestoreCopy, RecoveryPoint
from recovery.models.point import PartKind
from recovery.ports.postgres import WalArchive
from recovery.queries.upkeep import copies_leaving, points_by_server, wal_counted_on
from recovery.rules.comparison import GRACE
from recovery.rules.coverage import Segment
from recovery.rules.retention import KeptPoint, plan_wal


def remove(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Remove what the order names, as far as it still may go, and WAL. Returns the points and copies that went.

    Beside a backup, a restore or a drill copies and WAL stay; the result says so with `is_busy`.

    Before the first byte of a point or of WAL goes, that is written down: an attempt that was killed is gone on with,
    and nobody takes what is left for a point, or for a way to a time.
    """
    policy = BackupPolicy.objects.select_related("environment__tenant").get(pk=order["policy"])
    saying = Saying(report)
    _check_there(policy)
    saying.begin("removing", "Removing points.")
    points = RecoveryPoint.objects.filter(pk__in=order["points"]).select_related("policy__environment__tenant")
    removed = []
    for point in points.order_by("-consistent_at", "-pk"):
        if begin_removal(point_id=point.pk, actor=system_actor(), at=clock.now()):
            for store in _stores(point.policy):
                _remove_point(point, store=store)
            removed.append(point.pk)
    saying.say("Removing copies of attachments.")
    # Asked again: a hold, a restore or a backup may have begun since this was ordered.
    asked = [points_by_server(policy)]
    still = copies_leaving(policy, servers=asked[0] or {}, at=clock.now())
    copies = FilestoreCopy.objects.filter(pk__in=set(order["copies"]) & set(still))
    for copy in copies.select_related("policy__environment__tenant"):
        for store in _stores(copy.policy):
            attachments.archive_of(copy.policy, store).ensure_removed(attachments.point_of(copy))
    saying.say("Removing WAL and orphans.")
    for address, store in zip((policy.store, policy.copy_store), _stores(policy), strict=False):
        asked.append(let_wal_go(policy, actor=system_actor(), at=clock.now()))
        _remove_wal(store, address=address, policy=policy, servers=asked[-1] or {})
        _collect(store, policy=policy, at=clock.now())
    # Orders of before this was said do not name it.
    is_busy = order.get("is_busy", False) or None in asked
    return {"points": removed, "copies": [copy.pk for copy in copies], "is_busy": is_busy}


def _check_there(policy: BackupPolicy) -> None:
    """Raise `Transient` where nothing at all lies at a destination that holds points: a disk that is not mounted."""
    prefix = doors.prefix_of(policy.environment)
    points = RecoveryPoint.objects.kept().filter(environment=policy.environment_id, removing_at__isnull=True)
    for address, store in zip((policy.store, policy.copy_store), _stores(policy), strict=False):
        if points.filter(copies__store=address).exists() and next(iter(store.observe_objects(prefix)), None) is None:
            raise Transient(
                f"Nothing at all lies at {address}, where points should: is it the right place, and mounted?"
            )


def _stores(policy: BackupPolicy) -> list[ObjectStore]:
    """Return every destination that a policy writes to."""
    return [doors.open_store(policy), *([doors.open_copy_store(policy)] if policy.copy_store else [])]


def _remove_point(point: RecoveryPoint, *, store: ObjectStore) -> None:
    # The facts first: then no listing of backups names it any more.
    store.ensure_absent(f"{doors.folder_of(point)}/{FACTS}")
    for part in point.parts.all():
        if part.kind in (PartKind.DATABASE, PartKind.DATABASE_MANIFEST):
            ensure_stream_absent(store, part.key)
        elif part.kind == PartKind.FILESTORE_MANIFEST:
            copy = FilestoreCopy.objects.get(environment=point.environment_id, key=part.key)
            attachments.archive_of(point.policy, store).ensure_removed(attachments.point_of(copy))
        elif part.kind == PartKind.CONFIGURATION:
            store.ensure_absent(part.key)


def _remove_wal(
    store: ObjectStore, *, address: str, policy: BackupPolicy, servers: Mapping[str, list[KeptPoint]]
) -> None:
    """Remove WAL that retention lets go, of servers that have a whole point: of another one nothing is known yet.

    What the catalogue counts on stays, whatever else the store holds.
    """
    counted_on = wal_counted_on(policy, store=address)
    for archive in archives_in(store, policy=policy):
        points = servers.get(archive.system_identifier)
        if not points:
            continue
        forks = {one.timeline: (one.parent, one.at) for one in archive.switches}
        of_segment = {
            Segment(one.timeline, one.start, one.end, one.reached_at, *forks.get(one.timeline, (0, 0))): one
            for one in archive.objects
        }
        spans = counted_on.get(archive.system_identifier, [])
        may_go = plan_wal(of_segment, points=points, segment_bytes=archive.segment_bytes)
        goes = {one for one in may_go if not any(span.meets(one) for span in spans)}
        finished = {(one.timeline, one.start) for one in archive.objects if one.is_finished}
        for segment, one in of_segment.items():
            whole = (one.timeline, one.start - one.start % archive.segment_bytes)
            is_superseded = not one.is_finished and whole in finished and clock.now() - one.reached_at > GRACE
            if segment in goes or is_superseded:
                store.ensure_absent(one.key)


def _collect(store: ObjectStore, *, policy: BackupPolicy, at: datetime) -> None:
    if policy.filestore:
        attachments.archive_of(policy, store).ensure_pruned(at=at, grace=GRACE)
    prefix = doors.prefix_of(policy.environment)
    for folder in ("base", "dump"):
        for key in list(leftovers(store, f"{prefix}/{folder}", before=at - GRACE)):
            store.ensure_absent(key)


def archives_in(store: ObjectStore, *, policy: BackupPolicy) -> Iterator[WalArchive]:
    """Yield the WAL of every server of an environment that a store holds."""
    prefix = doors.prefix_of(policy.environment)
    for system_identifier, segment_bytes in observe_systems(store, prefix=prefix):
        yield observe_archive(store, prefix=prefix, system_identifier=system_identifier, segment_bytes=segment_bytes)
