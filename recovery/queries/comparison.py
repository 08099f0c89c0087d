"""What the catalogue says lies in a store, and what it and the stores disagreed on when they were last compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from changecontrol.access import Scope
from changecontrol.errors import Conflict
from changecontrol.models import Environment, Job
from recovery.lifecycles.point import ACTIVE_BACKUPS, KEPT, PointState
from recovery.models import (
    BackupPolicy,
    BackupRun,
    ClusterCoverage,
    Disagreement,
    FilestoreCopy,
    LegalHold,
    PointPart,
    RecoveryPoint,
    Upkeep,
    WalSegment,
)
from recovery.models.backup import BackupKind
from recovery.models.point import PartKind, UpkeepKind
from recovery.models.policy import Engine
from recovery.queries.points import in_sight
from recovery.rules.comparison import LOSSES, NamedPoint, WalSpan

STREAMS = frozenset({PartKind.DATABASE, PartKind.DATABASE_MANIFEST})


@dataclass(frozen=True, slots=True)
class Place:
    """A store with what belongs to an environment, and the newest policy that names it, as primary or for copies."""

    store: str
    policy: BackupPolicy
    is_copy: bool


@dataclass(frozen=True, slots=True)
class WalRecorded:
    """What WAL the catalogue had in a store, after so many removals of upkeep: after another it says nothing more."""

    spans: frozenset[WalSpan]
    removals: int


def places_of(policy: BackupPolicy) -> list[Place]:
    """Return the stores of the policy in force, then those of earlier ones in which something is kept."""
    kept = RecoveryPoint.objects.kept().filter(environment=policy.environment_id).values("policy")
    copied = FilestoreCopy.objects.filter(environment=policy.environment_id, removed_at__isnull=True).values("policy")
    rows = BackupPolicy.objects.exclude(engine=Engine.EXTERNAL).filter(
        Q(pk=policy.pk) | Q(pk__in=kept) | Q(pk__in=copied)
    )
    found: dict[str, Place] = {}
    for one in rows.select_related("environment__tenant").order_by("-version"):
        found.setdefault(one.store, Place(one.store, one, is_copy=False))
        if one.copy_store:
            found.setdefault(one.copy_store, Place(one.copy_store, one, is_copy=True))
    return list(found.values())


def points_in(place: Place, *, prefix: str) -> list[NamedPoint]:
    """Return what every kept point has in a store. What another tool wrote is told by its own listing, not by ours."""
    points = (
        RecoveryPoint.objects.kept()
        .filter(environment=place.policy.environment_id, copies__store=place.store, removing_at__isnull=True)
        .exclude(policy__engine=Engine.EXTERNAL)
        .prefetch_related("parts")
    )
    return [_named(one, list(one.parts.all()), prefix=prefix) for one in points]


def _named(point: RecoveryPoint, parts: Sequence[PointPart], *, prefix: str) -> NamedPoint:
    streams = [one for one in parts if one.kind in STREAMS]
    objects: dict[str, int | None] = {one.key: one.size for one in parts if one.kind not in STREAMS}
    # A head says which parts make a stream, and the facts what the streams are: their size is not recorded.
    objects |= dict.fromkeys(one.key for one in streams)
    is_dump = point.kind == BackupKind.DUMP
    if is_dump or any(one.kind == PartKind.DATABASE_MANIFEST for one in streams):
        folder = "dump" if is_dump else "base"
        objects[f"{prefix}/{folder}/{point.key}/facts.json"] = None
    return NamedPoint(
        point_id=point.pk,
        key=point.key,
        objects=objects,
        streams=tuple(one.key for one in streams),
        stream_size=sum(one.size for one in streams),
    )


def copies_in(place: Place) -> list[FilestoreCopy]:
    """Return the lists of attachments that lie in a store, newest first; between backups none has to be elsewhere."""
    if place.is_copy:
        return []
    rows = FilestoreCopy.objects.filter(environment=place.policy.environment_id, removed_at__isnull=True)
    kept = rows.filter(policy__store=place.store).exclude(point__removing_at__isnull=False)
    kept = kept.select_related("policy__environment__tenant")
    return list(kept.exclude(pk__in=_going(place.policy.environment_id)))


def _going(environment_id: int) -> list[int]:
    """Return the lists of attachments whose removal is ordered: they are gone before their rows say so."""
    row = Upkeep.objects.filter(environment=environment_id, kind=UpkeepKind.RETENTION).first()
    job = Job.objects.filter(key=row.job_key).first() if row is not None else None
    return list(job.order["copies"]) if job is not None else []


def wal_in(place: Place) -> WalRecorded | None:
    """Return the WAL that is recorded in a store; None of a copy, of which none is, and while some is removed."""
    return None if place.is_copy else wal_recorded(place.policy.environment_id, store=place.store)


def wal_recorded(environment_id: int, *, store: str) -> WalRecorded | None:
    """Return the WAL that is recorded in a store; None while some is removed, which is gone before its rows say so."""
    removal = Upkeep.objects.filter(environment=environment_id, kind=UpkeepKind.RETENTION).first()
    if removal is not None and Job.objects.filter(key=removal.job_key).exists():
        return None
    rows = WalSegment.objects.filter(environment=environment_id, store=store)
    spans = (WalSpan(*one) for one in rows.values_list("system_identifier", "timeline", "start_lsn", "end_lsn"))
    return WalRecorded(frozenset(spans), removals=removal.count if removal is not None else 0)


def names_known(environment_id: int) -> tuple[set[str], set[str]]:
    """Return the names under which something may lie in the stores, and those of points that are removed."""
    states = RecoveryPoint.objects.filter(environment=environment_id).values_list("key", "state")
    removed = {key for key, state in states if state == PointState.REMOVED}
    known = {key for key, state in states if state in KEPT}
    copies = FilestoreCopy.objects.filter(environment=environment_id, removed_at__isnull=True)
    known |= set(copies.values_list("name", flat=True))
    runs = BackupRun.objects.filter(environment=environment_id, state__in=sorted(ACTIVE_BACKUPS))
    return known | {one.label for one in runs}, removed


def servers_known(environment_id: int) -> set[str]:
    """Return the system identifiers of the servers that an environment is known to have run on."""
    points = RecoveryPoint.objects.filter(environment=environment_id).exclude(system_identifier="")
    told = ClusterCoverage.objects.filter(environment=environment_id).exclude(system_identifier="")
    return {*points.values_list("system_identifier", flat=True), *told.values_list("system_identifier", flat=True)}


def place_of_adoption(environment_id: int, *, store: str) -> Place:
    """Return the store of this address where points are taken in from it. Raises `Conflict` with why they are not."""
    found = places_of_adoption(environment_id, stores=[store])[store]
    if isinstance(found, str):
        raise Conflict(found)
    return found


def places_of_adoption(environment_id: int, *, stores: Collection[str]) -> Mapping[str, Place | str]:
    """Return for each address the store that points are taken in from, or why none is."""
    policy = BackupPolicy.objects.active().filter(environment=environment_id).first()
    if policy is None:
        return dict.fromkeys(stores, "No backup policy is in force: publish one that names its store.")
    if policy.engine == Engine.EXTERNAL:
        sentence = "Another tool backs this environment up now: no point is taken in while its policy says so."
        return dict.fromkeys(stores, sentence)
    known: dict[str, Place | str] = {
        one.store: "It lies among copies. A point is taken in from the store of a policy: publish one that names this "
        "as its."
        if one.is_copy
        else one
        for one in places_of(policy)
    }
    absent = "No backup policy under which anything is kept names its store: publish one that does."
    return {store: known.get(store, absent) for store in stores}


def policy_made_under(environment_id: int, *, store: str, engine: Engine, began_at: datetime) -> BackupPolicy | None:
    """Return the newest policy that a point in a store fits: its own engine, its attachments where they were then.

    None where there is none. What was in force before the first version is taken to be that.
    """
    versions = list(BackupPolicy.objects.filter(environment=environment_id).order_by("-version"))
    then = next((one for one in versions if one.created_at <= began_at), versions[-1]) if versions else None
    fitting = (one for one in versions if then is not None and one.filestore == then.filestore)
    return next((one for one in fitting if (one.store, one.engine) == (store, engine)), None)


def adoption_due(environment_id: int) -> Disagreement | None:
    """Return the point that waits longest for being taken in."""
    rows = Disagreement.objects.filter(environment=environment_id, adoption_asked_at__isnull=False)
    return rows.order_by("adoption_asked_at", "pk").first()


def waiting_for_adoption() -> QuerySet[Environment]:
    """Return the environments in which a point waits for being taken in."""
    rows = Disagreement.objects.filter(adoption_asked_at__isnull=False)
    return Environment.objects.filter(pk__in=rows.values("environment"))


def is_held(environment_id: int) -> bool:
    """Tell whether a legal hold keeps everything of an environment."""
    holds = LegalHold.objects.filter(environment=environment_id, lifted_at__isnull=True, point__isnull=True)
    return holds.exists()


def due_to_go(environment_id: int, *, at: datetime) -> list[tuple[str, str]]:
    """Return the stores and names of what is collected: orphans after their grace, what somebody let go."""
    rows = Disagreement.objects.filter(environment=environment_id)
    return list(rows.filter(Q(goes_at__lte=at) | Q(asked_at__isnull=False)).values_list("store", "name"))


def disagreements_of(environment: Environment) -> list[Disagreement]:
    """Return what was found when last compared: losses first, then the newest."""
    rows = Disagreement.objects.filter(environment=environment).select_related("point", "asked_by", "adoption_asked_by")
    return sorted(rows, key=lambda one: (one.kind not in LOSSES, -one.pk))


def disagreement_named(scope: Scope, disagreement_id: int) -> Disagreement | None:
    rows = Disagreement.objects.select_related("environment__tenant")
    return in_sight(scope, rows).filter(pk=disagreement_id).first()


def comparison_of(environment: Environment) -> Upkeep | None:
    """Return the upkeep that compares an environment's stores: when it last did, and what keeps it from it."""
    return Upkeep.objects.filter(environment=environment, kind=UpkeepKind.COMPARISON).first()


def losses_in(environment_ids: Iterable[int]) -> Mapping[int, list[Disagreement]]:
    """Return what stores lost, by environment, in one statement."""
    found: dict[int, list[Disagreement]] = {}
    for one in Disagreement.objects.losses().filter(environment__in=environment_ids).order_by("store", "pk"):
        found.setdefault(one.environment_id, []).append(one)
    return found
