"""Reads behind the pages of points: a list, one point with all that hangs on it, backups, legal holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Aggregate, Count, F, Min, Prefetch, Q, QuerySet, Sum

from changecontrol.access import Scope
from changecontrol.models import Environment
from recovery.models import BackupRun, FilestoreCopy, LegalHold, RecoveryPoint, Verification, WalSegment
from recovery.queries.overview import environments_in
from recovery.queries.points import in_sight

POINTS_PAGE = 50
BACKUPS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Chain:
    """The points that one cannot be restored without, nearest first, and those that cannot without it, oldest first."""

    needs: tuple[RecoveryPoint, ...]
    needed_by: tuple[RecoveryPoint, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What an environment has in its stores, in bytes; `copy_count` of its points lie in more than one place.

    Attachments count what their copies added to the store. WAL counts what it is before compression: only its reach is
    recorded.
    """

    point_count: int
    point_size: int
    copy_count: int
    oldest_at: datetime | None
    attachment_count: int
    attachment_size: int
    wal_size: int

    @property
    def size(self) -> int:
        return self.point_size + self.attachment_size + self.wal_size


def environment_named(scope: Scope, *, tenant: str, slug: str) -> Environment | None:
    """Return an environment whose recovery the scope may see, with the processes that set its objectives."""
    rows = environments_in(scope).prefetch_related("processes")
    return rows.filter(tenant__slug=tenant, slug=slug).first()


def points_page(
    environment: Environment, *, before: int | None = None, after: int | None = None
) -> tuple[list[RecoveryPoint], bool, bool]:
    """Return one page of an environment's points, newest first, and whether there are newer and older ones.

    Pages begin at a point, by its key: the order is that of times, which say more than keys where points are registered
    late. What was removed is listed too, since what is known of it stays.
    """
    rows = (
        RecoveryPoint.objects.filter(environment=environment)
        .select_related("parent")
        .prefetch_related("copies", Prefetch("holds", queryset=LegalHold.objects.filter(lifted_at__isnull=True)))
    )
    edge = RecoveryPoint.objects.filter(environment=environment, pk=after or before or 0).first()
    if edge is not None and after is not None:
        newer = Q(consistent_at__gt=edge.consistent_at) | Q(consistent_at=edge.consistent_at, pk__gt=edge.pk)
        found = list(rows.filter(newer).order_by("consistent_at", "pk")[: POINTS_PAGE + 1])
        return found[:POINTS_PAGE][::-1], len(found) > POINTS_PAGE, True
    if edge is not None:
        rows = rows.filter(
            Q(consistent_at__lt=edge.consistent_at) | Q(consistent_at=edge.consistent_at, pk__lt=edge.pk)
        )
    found = list(rows[: POINTS_PAGE + 1])
    return found[:POINTS_PAGE], edge is not None, len(found) > POINTS_PAGE


def point_named(scope: Scope, point_id: int) -> RecoveryPoint | None:
    """Return a point with its parts, copies, verifications and legal holds, newest first."""
    rows = RecoveryPoint.objects.select_related(
        "environment__tenant", "policy", "parent", "run__asked_by", "removal_asked_by", "filestore_copy"
    ).prefetch_related(
        "environment__processes",
        "parts",
        "copies",
        Prefetch("verifications", queryset=Verification.objects.order_by("-pk").select_related("drill")),
        Prefetch("holds", queryset=_holds().order_by("-pk")),
    )
    return in_sight(scope, rows).filter(pk=point_id).first()


def holds_on(environment: Environment) -> list[LegalHold]:
    """Return the legal holds in force on everything of an environment."""
    return list(_holds().filter(environment=environment, point__isnull=True, lifted_at__isnull=True))


def hold_named(scope: Scope, hold_id: int) -> LegalHold | None:
    return in_sight(scope, _holds()).filter(pk=hold_id).first()


def chain_of(point: RecoveryPoint) -> Chain:
    """Follow what a point builds on, and what builds on it, in one statement."""
    rows = RecoveryPoint.objects.kept().filter(environment=point.environment_id).order_by("consistent_at", "pk")
    known = {one.pk: one for one in rows}
    needs = []
    parent = point.parent_id
    while parent in known:
        needs.append(known[parent])
        parent = known[parent].parent_id
    reached, needed_by = {point.pk}, []
    # An increment is consistent after what it builds on, so one pass in the order of time meets every descendant.
    for one in known.values():
        if one.parent_id in reached:
            reached.add(one.pk)
            needed_by.append(one)
    return Chain(tuple(needs), tuple(needed_by))


def backups_of(environment: Environment) -> list[BackupRun]:
    """Return the newest backups of an environment."""
    rows = BackupRun.objects.filter(environment=environment).select_related("asked_by", "point").order_by("-pk")
    return list(rows[:BACKUPS_SHOWN])


def backup_named(scope: Scope, run_id: int) -> BackupRun | None:
    rows = BackupRun.objects.select_related("environment__tenant", "policy", "asked_by", "point")
    return in_sight(scope, rows).filter(pk=run_id).first()


def kept_points(environment: Environment) -> Mapping[str, RecoveryPoint]:
    """Return the points of an environment whose bytes are still there, by name, newest first."""
    rows = RecoveryPoint.objects.kept().filter(environment=environment).select_related("removal_asked_by")
    return {one.key: one for one in rows}


def usage_in(environments: Iterable[Environment]) -> Mapping[int, Usage]:
    """Return what environments have in their stores, by key, in four statements however many they are."""
    keys = [one.pk for one in environments]
    kept = RecoveryPoint.objects.kept().filter(environment__in=keys).order_by()
    points = _by_environment(kept, count=Count("pk"), size=Sum("size"), oldest_at=Min("consistent_at"))
    elsewhere = kept.annotate(places=Count("copies")).filter(places__gt=1).values_list("environment_id", flat=True)
    copied = Counter(elsewhere)
    copies = FilestoreCopy.objects.filter(environment__in=keys, removed_at__isnull=True).order_by()
    attachments = _by_environment(copies, count=Count("pk"), size=Sum("stored_bytes"))
    segments = WalSegment.objects.filter(environment__in=keys).order_by()
    wal = _by_environment(segments, size=Sum(F("end_lsn") - F("start_lsn")))
    return {
        key: Usage(
            point_count=points.get(key, {}).get("count", 0),
            point_size=points.get(key, {}).get("size", 0),
            copy_count=copied[key],
            oldest_at=points.get(key, {}).get("oldest_at"),
            attachment_count=attachments.get(key, {}).get("count", 0),
            attachment_size=attachments.get(key, {}).get("size", 0),
            wal_size=int(wal.get(key, {}).get("size", 0)),
        )
        for key in keys
    }


def _by_environment(rows: QuerySet[Any], **figures: Aggregate) -> Mapping[int, dict[str, Any]]:
    renamed = {f"its_{name}": figure for name, figure in figures.items()}
    return {
        one["environment_id"]: {name: one[f"its_{name}"] for name in figures}
        for one in rows.values("environment_id").annotate(**renamed)
    }


def _holds() -> QuerySet[LegalHold]:
    return LegalHold.objects.select_related("environment__tenant", "point", "placed_by", "lifted_by")
