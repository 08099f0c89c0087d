"""Reads of policies, points and what can be restored, and the facts that rules judge."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import F, Model, OuterRef, QuerySet, Subquery

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.lifecycles.drill import ACTIVE as ACTIVE_DRILLS
from recovery.lifecycles.point import PointState
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.lifecycles.restore import RestoreState
from recovery.models import (
    BackupPolicy,
    ClusterCoverage,
    Drill,
    LegalHold,
    RecoveryPoint,
    Restore,
    WalSegment,
)
from recovery.models.backup import BackupKind
from recovery.models.policy import Engine
from recovery.queries.attachments import places_of
from recovery.rules.attachments import Place, newest_until, times_without
from recovery.rules.coverage import Backup, Coverage, Segment, Span, cover, cover_as_told, together
from recovery.rules.objectives import (
    Expectation,
    Objectives,
    PastRestore,
    ProcessObjectives,
    expect_restore,
    strictest,
)
from recovery.rules.retention import Keep, KeptPoint, Retention, plan_retention
from recovery.rules.schedule import Schedule

M = TypeVar("M", bound=Model)

PAST_RESTORES = 20
"""How many earlier restores tell how long the next takes."""


def in_sight(scope: Scope, rows: QuerySet[M]) -> QuerySet[M]:
    """Narrow rows of environments to those whose recovery the scope may see."""
    return rows.filter(environment__in=access.environments_with(scope, Ability.RECOVERY_VIEW))


def policies_of(scope: Scope) -> QuerySet[BackupPolicy]:
    """Return the policies in force."""
    rows = BackupPolicy.objects.active().select_related("environment__tenant", "created_by")
    return in_sight(scope, rows).order_by("environment__tenant__name", "environment__slug")


def points_of(scope: Scope) -> QuerySet[RecoveryPoint]:
    """Return points, newest first, with where they lie."""
    return in_sight(scope, RecoveryPoint.objects.select_related("environment__tenant").prefetch_related("copies"))


def restores_of(scope: Scope) -> QuerySet[Restore]:
    rows = Restore.objects.select_related("environment__tenant", "point", "asked_by", "cut_over__change")
    return in_sight(scope, rows).order_by("-id")


def holds_of(scope: Scope) -> QuerySet[LegalHold]:
    """Return the legal holds in force."""
    rows = LegalHold.objects.filter(lifted_at__isnull=True).select_related("environment__tenant", "point", "placed_by")
    return in_sight(scope, rows)


def objectives_of(environment: Environment) -> Objectives:
    """Return the strictest RTO and RPO of the processes that an environment supports (BIZ-2)."""
    return strictest(
        ProcessObjectives(one.name, timedelta(seconds=one.rto_seconds), timedelta(seconds=one.rpo_seconds))
        for one in environment.processes.all()
    )


def coverage_of(environment: Environment) -> Coverage:
    """Compute to which times an environment can be brought back, from what is in the store, whole, and to stay."""
    return coverages_of([environment])[environment.pk]


@dataclass(frozen=True, slots=True)
class Restorable:
    """What an environment can be brought back from: points to stay, WAL by store and server, copies of attachments."""

    points: Sequence[Any]
    wal: Mapping[tuple[str, str], list[Segment]]
    copied: Mapping[str, Sequence[Place]]

    def coverage(self) -> Coverage:
        """Compute what the points of each store cover: a point is brought back from its own store alone.

        Where attachments are copied, a time counts once a copy was taken at it or later, of where they then lay: or it
        would be half of a pair.
        """
        stores: dict[str, list[Any]] = {}
        for one in self.points:
            stores.setdefault(one.store, []).append(one)
        found = []
        for store, rows in stores.items():
            servers: dict[str, list[Segment]] = {}
            for (place, server), segments in self.wal.items():
                if place in {store, ""}:
                    servers.setdefault(server, []).extend(segments)
            covered = coverage_in_store([one for one in rows if one.engine != Engine.EXTERNAL], servers)
            if places := self.copied.get(store):
                newest = newest_until(places[-1].newest or places[-1].since, places)
                assert newest is not None, "a store has places where something is copied"
                covered = covered.until(newest)
                for since, until in times_without(places):
                    covered = covered.without(since, until)
            # No attachments go with what another tool made, and so none of ours can be missing.
            theirs = coverage_in_store([one for one in rows if one.engine == Engine.EXTERNAL], {})
            found += [covered, theirs]
        return together(found)


def coverages_of(environments: Iterable[Environment]) -> Mapping[int, Coverage]:
    """Compute the coverage of environments by key, in three statements however many they are."""
    return {key: one.coverage() for key, one in restorable_in([one.pk for one in environments]).items()}


def restorable_in(keys: Collection[int], *, rows: QuerySet[RecoveryPoint] | None = None) -> Mapping[int, Restorable]:
    """Return what environments can be brought back from, by key, in three statements however many they are.

    `rows` are the points that count, where these are others than a restore may begin on.
    """
    points: dict[int, list[Any]] = {key: [] for key in keys}
    told = ClusterCoverage.objects.filter(
        environment=OuterRef("environment"), system_identifier=OuterRef("system_identifier")
    )
    of_policies = {
        "store": F("policy__store"),
        "engine": F("policy__engine"),
        "told_from": Subquery(told.values("starts_at")),
        "told_to": Subquery(told.values("ends_at")),
    }
    counting = RecoveryPoint.objects.restorable() if rows is None else rows
    for one in counting.filter(environment__in=keys).annotate(**of_policies):
        points[one.environment_id].append(one)
    wal: dict[int, dict[tuple[str, str], list[Segment]]] = {key: {} for key in keys}
    columns = ("timeline", "start_lsn", "end_lsn", "ends_at", "parent", "forked_lsn")
    for key, store, server, *segment in WalSegment.objects.filter(environment__in=keys).values_list(
        "environment_id", "store", "system_identifier", *columns
    ):
        wal[key].setdefault((store, server), []).append(Segment(*segment))
    copied = places_of(keys)
    return {key: Restorable(points[key], wal[key], copied[key]) for key in keys}


def coverage_in_store(points: Sequence[Any], wal: Mapping[str, Sequence[Segment]]) -> Coverage:
    """Compute what points cover with the WAL, by server, that lies with them. Each carries its policy's `engine`."""
    keys = {one.pk: one.key for one in points}
    backups: dict[str, list[Backup]] = {}
    for one in points:
        if one.engine == Engine.CLOUDNATIVEPG:
            continue
        backup = Backup(
            key=one.key,
            consistent_at=one.consistent_at,
            timeline=one.timeline,
            start_lsn=one.start_lsn,
            stop_lsn=one.stop_lsn,
            # A parent that is broken or goes is named still, so that the chain is known to be cut.
            needs=keys.get(one.parent_id, "gone") if one.parent_id is not None else "",
            # Of another tool's points nothing is known but what it says.
            brings_wal=one.kind == BackupKind.DUMP or one.engine == Engine.EXTERNAL,
        )
        # No WAL of ours leads them on, whatever server they say they are of: each is brought back to its own moment.
        server = "" if one.engine == Engine.EXTERNAL else one.system_identifier
        backups.setdefault(server, []).append(backup)
    # A server that was set up anew counts its positions anew: the same ones are other WAL.
    ours = (cover(rows, segments=wal.get(server, ()) if server else ()) for server, rows in backups.items())
    return together([*ours, *(_as_told(one) for one in points if one.engine == Engine.CLOUDNATIVEPG)])


def _as_told(point: Any) -> Coverage:
    """Return what an operator says that its backup leads to; while it has said nothing of that server, its own time."""
    told = Span(point.told_from or point.consistent_at, point.told_to or point.consistent_at)
    return cover_as_told(point.key, consistent_at=point.consistent_at, told=told)


def retention_of(policy: BackupPolicy, *, at: datetime) -> Retention:
    """Say which points of a policy's environment would go, and why each other one stays."""
    return retention_in([policy], at=at)[policy.environment_id]


def retention_in(policies: Iterable[BackupPolicy], *, at: datetime) -> Mapping[int, Retention]:
    """Say the same of policies in force, by environment, in four statements however many they are."""
    rows = list(policies)
    keys = [one.environment_id for one in rows]
    holds = list(LegalHold.objects.filter(environment__in=keys, lifted_at__isnull=True))
    everything: dict[int, str] = {}
    for one in holds:
        if one.point_id is None:
            everything.setdefault(one.environment_id, one.name)
    named = {one.point_id: one.name for one in holds if one.point_id is not None}
    restoring = Restore.objects.filter(environment__in=keys, state__in=sorted(ACTIVE_RESTORES))
    drilling = Drill.objects.filter(environment__in=keys, state__in=sorted(ACTIVE_DRILLS))
    in_use = {*restoring.values_list("point_id", flat=True), *drilling.values_list("point_id", flat=True)}
    points: dict[int, list[KeptPoint]] = {key: [] for key in keys}
    for point in RecoveryPoint.objects.kept().filter(environment__in=keys).select_related("parent"):
        hold = named.get(point.pk, everything.get(point.environment_id, ""))
        points[point.environment_id].append(_kept(point, hold=hold, is_in_use=point.pk in in_use))
    return {one.environment_id: plan_retention(points[one.environment_id], keep=keep_of(one), at=at) for one in rows}


def _kept(point: RecoveryPoint, *, hold: str, is_in_use: bool) -> KeptPoint:
    return KeptPoint(
        key=point.key,
        taken_at=point.consistent_at,
        needs=frozenset({point.parent.key} if point.parent else ()),
        is_verified=point.state == PointState.VERIFIED,
        hold=hold,
        is_in_use=is_in_use,
        is_broken=point.state == PointState.BROKEN,
        locked_until=point.locked_until,
        timeline=point.timeline,
        start_lsn=point.start_lsn,
        stop_lsn=point.stop_lsn,
    )


def schedule_of(policy: BackupPolicy) -> Schedule:
    return Schedule(policy.rrule, policy.starts_local.replace(tzinfo=None), policy.zone)


def keep_of(policy: BackupPolicy) -> Keep:
    return Keep(
        last=policy.keep_last,
        daily=policy.keep_daily,
        weekly=policy.keep_weekly,
        monthly=policy.keep_monthly,
        is_pci=policy.is_pci,
        zone=policy.zone,
    )


def sizes_to_restore(environment_id: int) -> Mapping[int, int]:
    """Return how many bytes restoring each point reads, by key, in one statement: its own, and of all it builds upon.

    What is gone counts, too: earlier restores are measured by it.
    """
    rows = RecoveryPoint.objects.filter(environment=environment_id).order_by("pk")
    found: dict[int, int] = {}
    # An increment is recorded after what it builds upon, so that is known by then.
    for key, parent, size in rows.values_list("pk", "parent_id", "size"):
        found[key] = size + found.get(parent, 0)
    return found


def size_to_restore(point: RecoveryPoint) -> int:
    """Return how many bytes restoring a point reads: its own, and those of all that it builds upon."""
    return point.size if point.parent_id is None else sizes_to_restore(point.environment_id)[point.pk]


def expected_restore(environment: Environment, *, size: int) -> Expectation | None:
    """Tell how long restoring so many bytes will take, from the last restores of the environment that succeeded."""
    rows = Restore.objects.filter(
        environment=environment, state=RestoreState.SUCCEEDED, provisioned_at__isnull=False, restored_at__isnull=False
    ).order_by("-id")[:PAST_RESTORES]
    if not rows:
        return None
    # By their points: what was recorded with them once counted no more than the last increment.
    sizes = sizes_to_restore(environment.pk)
    past = [PastRestore(sizes[one.point_id], one.restored_at - one.provisioned_at) for one in rows]  # type: ignore[operator]
    return expect_restore(size, past=past)
