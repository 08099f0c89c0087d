"""The job that keeps the other destination close behind: WAL, attachments and points, every few minutes.

What is there already is not written again, so an attempt that was killed is gone on with by the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from changecontrol.ports import ObjectStore, StoredObject
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.postgres.wal import stretches_of
from recovery.jobs.points import copy_missing, told_lock
from recovery.jobs.removal import archives_in
from recovery.jobs.saying import CountedStore, Saying
from recovery.models import BackupPolicy
from recovery.queries.copies import (
    covered_elsewhere,
    digests_recorded,
    lists_to_copy,
    points_new_elsewhere,
    points_to_copy,
)
from recovery.rules.coverage import Segment


def copy_onward(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Copy what the other destination lacks of what is whole. The order: `policy`.

    Returns the keys of the `points` of which it holds everything, the `locks` of those that are new there by key, and
    `reached_at`, up to when it covers.
    """
    policy = BackupPolicy.objects.select_related("environment__tenant").get(pk=order["policy"])
    saying = Saying(report)
    saying.begin("copy", "Copying to the other destination what is new.")
    store, other = doors.open_store(policy), CountedStore(doors.open_copy_store(policy), saying)
    prefix = doors.prefix_of(policy.environment)
    # Read before anything is listed: a point of later may have objects that no listing here has seen.
    points = points_to_copy(policy)
    copy = partial(copy_missing, store, other, recorded=digests_recorded(policy))
    copy(below=f"{prefix}/wal", choose=_not_superseded)
    # What is named is there before what names it: packs before lists, backups before the sets they are part of.
    copy(below=f"{prefix}/filestore/packs")
    # What no row names is about to be named, or an orphan, which is none of the other destination's.
    named = lists_to_copy(policy)
    lists = f"{prefix}/filestore/points"
    copy(below=lists, choose=lambda rows: (one for one in rows if one.key in named))
    for name in points.values():
        for folder in ("base", "dump"):
            copy(below=f"{prefix}/{folder}/{name}")
    described = tuple(f"{prefix}/sets/{name}-" for name in points.values())
    sets = f"{prefix}/sets"
    copy(below=sets, choose=lambda rows: (one for one in rows if one.key.startswith(described)))
    reached_at = _reached_at(other, policy, points=points)
    return {
        "points": list(points),
        "locks": _locks(other, policy, points=points),
        "reached_at": reached_at.isoformat() if reached_at else None,
    }


def _not_superseded(rows: list[StoredObject]) -> Iterator[StoredObject]:
    """Leave out the pieces of a segment that is there finished."""
    finished = {one.key.rpartition("/")[0] for one in rows if "/full-" in one.key}
    return (one for one in rows if "/full-" in one.key or one.key.rpartition("/")[0] not in finished)


def _locks(other: ObjectStore, policy: BackupPolicy, *, points: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Ask until when the other destination locks points that are new there, where their own policy promises a lock."""
    told = {}
    for one in points_new_elsewhere(policy, points=points):
        parts = one.parts.values("kind", "key")
        if (lock := told_lock(lambda: other, parts, address=policy.copy_store)) is not None:
            told[str(one.pk)] = lock
    return told


def _reached_at(other: ObjectStore, policy: BackupPolicy, *, points: Mapping[int, str]) -> datetime | None:
    """Return the newest time that can be restored from the other destination alone; None where there is none."""
    wal: dict[str, list[Segment]] = {}
    for archive in archives_in(other, policy=policy):
        wal[archive.system_identifier] = [
            Segment(one.timeline, one.start, one.end, one.reached_at, one.parent, one.forked_at)
            for one in stretches_of(archive)
        ]
    lists = {one.key for one in other.observe_objects(f"{doors.prefix_of(policy.environment)}/filestore/points")}
    return covered_elsewhere(policy, points=points, wal=wal, lists=lists)
