"""What belongs at the other destination of an environment, and up to when that one covers it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from django.db.models import F, QuerySet

from changecontrol.models import Environment
from recovery.models import BackupPolicy, FilestoreCopy, RecoveryPoint, Upkeep
from recovery.models.point import PointPart, UpkeepKind
from recovery.models.policy import Engine
from recovery.queries.points import coverage_in_store
from recovery.rules.coverage import Segment


def points_to_copy(policy: BackupPolicy) -> Mapping[int, str]:
    """Return the names of the points in a policy's store that are whole and stay, by key."""
    rows = RecoveryPoint.objects.restorable().filter(environment=policy.environment_id, policy__store=policy.store)
    return dict(rows.values_list("pk", "key"))


def points_new_elsewhere(policy: BackupPolicy, *, points: Collection[int]) -> QuerySet[RecoveryPoint]:
    """Return those of the points that no copy at the other destination is recorded of, and that are to be locked there.

    What another tool made lies where that tool says.
    """
    rows = RecoveryPoint.objects.filter(pk__in=points, policy__lock_days__gt=0).exclude(policy__engine=Engine.EXTERNAL)
    return rows.exclude(copies__store=policy.copy_store)


def lists_to_copy(policy: BackupPolicy) -> set[str]:
    """Return the keys of the lists of attachments in a policy's store."""
    rows = FilestoreCopy.objects.filter(environment=policy.environment_id, removed_at__isnull=True)
    return set(rows.filter(policy__store=policy.store).values_list("key", flat=True))


def digests_recorded(policy: BackupPolicy) -> Mapping[str, str]:
    """Return the digests of what a policy's store holds and the catalogue names, by key: of a stream that of its head.

    What another tool registered has keys of its own, and is copied by that.
    """
    here = {"environment": policy.environment_id, "removed_at__isnull": True, "policy__store": policy.store}
    points = RecoveryPoint.objects.filter(**here).exclude(policy__engine=Engine.EXTERNAL)
    parts = PointPart.objects.filter(point__in=points)
    return dict(parts.values_list("key", "sha256")) | dict(
        FilestoreCopy.objects.filter(**here).values_list("key", "sha256")
    )


def covered_elsewhere(
    policy: BackupPolicy, *, points: Collection[int], wal: Mapping[str, Sequence[Segment]], lists: Collection[str]
) -> datetime | None:
    """Return the newest time that these points, this WAL and these lists of attachments lead to together.

    What an operator keeps lies where the operator puts it, and is not told here.
    """
    whole = RecoveryPoint.objects.restorable().filter(environment=policy.environment_id, pk__in=points)
    rows = whole.exclude(policy__engine=Engine.CLOUDNATIVEPG)
    coverage = coverage_in_store(list(rows.annotate(engine=F("policy__engine"))), wal)
    copies = FilestoreCopy.objects.filter(environment=policy.environment_id, removed_at__isnull=True)
    if copies.exists():
        there = copies.filter(policy__store=policy.store, key__in=lists).order_by("-taken_at").first()
        if there is None:
            return None
        coverage = coverage.until(there.taken_at)
    return coverage.spans[-1].end if coverage.spans else None


def copies_of(environment: Environment) -> Upkeep | None:
    """Return the upkeep that copies to the other destination: up to when that covers, and what keeps it back."""
    return Upkeep.objects.filter(environment=environment, kind=UpkeepKind.COPIES).first()
