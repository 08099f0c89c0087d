"""What the calendar shows: places, windows, freezes and changes, in as many statements however much there is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Environment, Freeze, Region, Store, Tenant, Window
from changecontrol.models.window import Effect, Scoped
from changecontrol.queries.estate import tier_of
from changecontrol.queries.windows import NO_STORES_ZONE, freezes_of, recurrence_of, window_rule, windows_of
from changecontrol.queries.windows import scope_words as scope_words
from changecontrol.rules import windows as rules
from changecontrol.rules.conflicts import Claim, find_conflicts
from changecontrol.rules.intervals import FOREVER, Interval
from changecontrol.rules.recurrence import occurrences
from changecontrol.rules.windows import Judgement, WindowTarget

SHOWN_STATES = (
    ChangeState.AUTHORIZE,
    ChangeState.SCHEDULED,
    ChangeState.ON_HOLD,
    ChangeState.IMPLEMENTING,
    ChangeState.VALIDATING,
)
TO_START = frozenset({ChangeState.AUTHORIZE, ChangeState.SCHEDULED})
SHORTEST = timedelta(minutes=30)
MOST_CHANGES = 500
MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class Lane:
    """A tenant's stores in one region, or (no region) what it runs that serves no store."""

    tenant: Tenant
    region: Region | None
    zones: tuple[str, ...]
    store_count: int
    environments: tuple[Environment, ...]
    cohort_ids: frozenset[int]

    def covers(self, one: Scoped) -> bool:
        """Tell whether a window or freeze holds for something of this lane."""
        if one.tenant_id not in (None, self.tenant.pk):
            return False
        if one.cohort_id is not None and one.cohort_id not in self.cohort_ids:
            return False
        narrowed = one.environment_id is not None or one.cluster_id is not None or bool(one.stage)
        return not narrowed or any(_fits(environment, one) for environment in self.environments)


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening of a window in one zone."""

    window: Window
    zone: str
    interval: Interval


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A change in the frame and when: planned, or since it started."""

    change: ChangeRequest
    interval: Interval
    environment_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class WaitingChange:
    """A change without a planned start. `judgement` says when its first target may start; None: nothing may."""

    change: ChangeRequest
    judgement: Judgement | None


@dataclass(frozen=True, slots=True)
class Clash:
    """Something that needs a decision: two changes at one place, or one where it may not start."""

    title: str
    sentence: str
    change: ChangeRequest


@dataclass(frozen=True, slots=True)
class Calendar:
    """`openings` are by window and zone; a freeze's interval ends where it was lifted."""

    start: datetime
    end: datetime
    lanes: tuple[Lane, ...]
    windows: tuple[Window, ...]
    openings: tuple[Opening, ...]
    freezes: tuple[Freeze, ...]
    changes: tuple[PlannedChange, ...]
    waiting: tuple[WaitingChange, ...]
    clashes: tuple[Clash, ...]
    zones: tuple[str, ...]


def calendar_of(scope: Scope, *, start: datetime, end: datetime, at: datetime) -> Calendar:
    """Return everything between two moments that the scope may see."""
    frame = Interval(start, end)
    environments = tuple(
        access.visible(scope, Environment.objects.select_related("tenant"))
        .prefetch_related("cohorts", "processes")
        .order_by("tenant__name", "slug")
    )
    counted = _counted_stores(scope)
    lanes = _lanes(environments, counted)
    zones = tuple(sorted({zone for _, _, _, zone, _ in counted})) or (NO_STORES_ZONE,)
    windows = tuple(windows_of(scope).filter(is_active=True))
    freezes = tuple(freezes_of(scope).filter(starts_at__lt=end, ends_at__gt=min(start, at)))
    changes = _changes(scope, frame)
    return Calendar(
        start=start,
        end=end,
        lanes=lanes,
        windows=windows,
        openings=tuple(_openings(windows, zones, frame)),
        freezes=freezes,
        changes=changes,
        waiting=tuple(_waiting(scope, environments, counted, windows, freezes, at=at)) if start <= at < end else (),
        clashes=tuple(_clashes(changes, environments, counted, windows, freezes, at=at)),
        zones=zones,
    )


def freeze_end(freeze: Freeze) -> datetime:
    return min(freeze.ends_at, freeze.lifted_at or freeze.ends_at)


StoreCount = tuple[Tenant, Region, int, str, int]
"""Tenant, region, key of the cohort, zone and how many stores."""


def _counted_stores(scope: Scope) -> list[StoreCount]:
    rows = access.visible(scope, Store.objects.order_by("tenant", "region", "cohort", "zone"))
    found = list(rows.values_list("tenant", "region", "cohort", "zone").annotate(count=Count("pk")))
    regions = Region.objects.select_related("tenant").in_bulk({region for _, region, _, _, _ in found})
    return [(regions[region].tenant, regions[region], cohort, zone, count) for _, region, cohort, zone, count in found]


def _lanes(environments: Sequence[Environment], counted: Sequence[StoreCount]) -> tuple[Lane, ...]:
    lanes = []
    by_region: dict[int, list[StoreCount]] = {}
    for row in counted:
        by_region.setdefault(row[1].pk, []).append(row)
    for rows in by_region.values():
        tenant, region = rows[0][0], rows[0][1]
        cohorts = frozenset(row[2] for row in rows)
        serving = tuple(one for one in environments if cohorts & {cohort.pk for cohort in one.cohorts.all()})
        zones = tuple(dict.fromkeys(row[3] for row in rows))
        lanes.append(Lane(tenant, region, zones, sum(row[4] for row in rows), serving, cohorts))
    storeless: dict[int, list[Environment]] = {}
    for one in environments:
        if not one.cohorts.all():
            storeless.setdefault(one.tenant_id, []).append(one)
    lanes += [Lane(rest[0].tenant, None, (NO_STORES_ZONE,), 0, tuple(rest), frozenset()) for rest in storeless.values()]
    return tuple(sorted(lanes, key=lambda one: (one.tenant.name, one.region is None, str(one.region or ""))))


def _fits(environment: Environment, one: Scoped) -> bool:
    return (
        one.environment_id in (None, environment.pk)
        and one.cluster_id in (None, environment.cluster_id)
        and one.stage in ("", environment.stage)
    )


def _openings(windows: Iterable[Window], zones: Sequence[str], frame: Interval) -> Iterable[Opening]:
    for window in windows:
        rule = recurrence_of(window)
        for zone in [rule.zone] if rule.zone else zones:
            for interval in occurrences(rule, zone=zone, frame=frame):
                yield Opening(window, zone, interval)


def _changes(scope: Scope, frame: Interval) -> tuple[PlannedChange, ...]:
    begun = Q(started_at__isnull=False, finished_at__isnull=True) | Q(planned_start_at__isnull=False)
    rows = ChangeRequest.objects.filter(begun, state__in=list(SHOWN_STATES)).select_related("tenant")
    found = []
    for change in access.visible(scope, rows).prefetch_related("environments").order_by("-pk")[:MOST_CHANGES]:
        first = change.started_at or change.planned_start_at
        if first is None:
            continue
        last = change.finished_at or change.planned_end_at or first
        interval = Interval(first, max(last, first + SHORTEST))
        if interval.meets(frame):
            ids = frozenset(environment.pk for environment in change.environments.all())
            found.append(PlannedChange(change, interval, ids))
    return tuple(sorted(found, key=lambda one: (one.interval.start, one.change.pk)))


def _clashes(
    changes: Sequence[PlannedChange],
    environments: Sequence[Environment],
    counted: Sequence[StoreCount],
    windows: Sequence[Window],
    freezes: Sequence[Freeze],
    *,
    at: datetime,
) -> Iterable[Clash]:
    named = {one.pk: one.slug for one in environments}
    claims = {
        one.change.number: Claim(
            change=one.change.number,
            interval=one.interval,
            environments=frozenset(f"{one.change.tenant.slug}/{named.get(pk, pk)}" for pk in one.environment_ids),
        )
        for one in changes
    }
    told: set[frozenset[str]] = set()
    for one in changes:
        for conflict in find_conflicts(claims[one.change.number], others=claims.values()):
            pair = frozenset({one.change.number, conflict.change})
            if conflict.is_blocking and pair not in told:
                told.add(pair)
                places = ", ".join(name.partition("/")[2] for name in conflict.names)
                sentence = f"{one.change.number} and {conflict.change} want {places}. The second waits for the lock."
                yield Clash(f"Two changes on {places} at once", sentence, one.change)
    yield from _closed_starts(changes, environments, counted, windows, freezes, at=at)


def _closed_starts(
    changes: Sequence[PlannedChange],
    environments: Sequence[Environment],
    counted: Sequence[StoreCount],
    windows: Sequence[Window],
    freezes: Sequence[Freeze],
    *,
    at: datetime,
) -> Iterable[Clash]:
    """Find the changes that nothing lets start when they are planned."""
    for one in changes:
        if one.change.state not in TO_START or one.interval.start < at:
            continue
        judged = _judged(one.environment_ids, environments, counted, windows, freezes, at=one.interval.start)
        if judged and not any(judgement.is_open for judgement in judged):
            first = judged[0]
            what = "a freeze" if first.verdict is rules.WindowVerdict.FROZEN else "a closed time"
            yield Clash(f"{one.change.number} falls into {what}", first.reason, one.change)


def _waiting(
    scope: Scope,
    environments: Sequence[Environment],
    counted: Sequence[StoreCount],
    windows: Sequence[Window],
    freezes: Sequence[Freeze],
    *,
    at: datetime,
) -> Iterable[WaitingChange]:
    """Find the changes that begin as soon as they may, and when that is: the target that opens first decides."""
    rows = ChangeRequest.objects.filter(
        state__in=[*TO_START, ChangeState.ON_HOLD], planned_start_at__isnull=True, started_at__isnull=True
    ).select_related("tenant")
    for change in access.visible(scope, rows).prefetch_related("environments").order_by("-pk")[:MOST_WAITING]:
        ids = frozenset(one.pk for one in change.environments.all())
        judged = _judged(ids, environments, counted, windows, freezes, at=at) if change.state in TO_START else []
        yield WaitingChange(change, min(judged, key=lambda one: _opens_at(one, at), default=None))


def _opens_at(judgement: Judgement, at: datetime) -> datetime:
    return at if judgement.is_open else judgement.next_opening or FOREVER


def _judged(
    ids: frozenset[int],
    environments: Sequence[Environment],
    counted: Sequence[StoreCount],
    windows: Sequence[Window],
    freezes: Sequence[Freeze],
    *,
    at: datetime,
) -> list[Judgement]:
    """Judge every target of some environments at a moment: the rules' own judgement, asked in memory."""
    targets = [target for one in environments if one.pk in ids for target in _targets(one, counted)]
    holding = [
        rules.Freeze(one.name, one.starts_at, one.ends_at, scope=window_scope(one))
        for one in freezes
        if not one.lifted_at
    ]
    allowing = [window_rule(one) for one in windows]
    return list(rules.judge_targets(allowing, freezes=holding, targets=targets, at=at).values())


def _targets(environment: Environment, counted: Sequence[StoreCount]) -> Iterable[WindowTarget]:
    cohorts = {cohort.pk: cohort.slug for cohort in environment.cohorts.all()}
    served = {(cohorts[row[2]], row[3]) for row in counted if row[2] in cohorts} or {("", NO_STORES_ZONE)}
    for cohort, zone in sorted(served):
        yield WindowTarget(
            key=f"{environment.pk}/{cohort}/{zone}",
            tenant=str(environment.tenant_id),
            environment_stage=environment.stage,
            environment=environment.slug,
            cluster=str(environment.cluster_id),
            cohort=cohort,
            tier=tier_of(environment),
            zone=zone,
        )


def window_scope(one: Scoped) -> rules.Scope:
    return rules.Scope(
        tenants=frozenset({str(one.tenant_id)} if one.tenant_id else ()),
        environment_stages=frozenset({one.stage} if one.stage else ()),
        environments=frozenset({one.environment.slug} if one.environment else ()),
        clusters=frozenset({str(one.cluster_id)} if one.cluster_id else ()),
        cohorts=frozenset({one.cohort.slug} if one.cohort else ()),
    )


def affected_environments(scope: Scope, one: Scoped) -> list[Environment]:
    """Return the environments in sight where a window or freeze holds."""
    rows = Environment.objects.select_related("tenant", "cluster").prefetch_related("cohorts")
    narrowed = {"tenant": one.tenant_id, "pk": one.environment_id, "cluster": one.cluster_id, "cohorts": one.cohort_id}
    rows = rows.filter(**{key: value for key, value in narrowed.items() if value})
    if one.stage:
        rows = rows.filter(stage=one.stage)
    return list(access.visible(scope, rows).order_by("tenant__name", "slug"))


def affected_changes(scope: Scope, environments: Iterable[Environment]) -> list[ChangeRequest]:
    """Return the changes in sight there that have yet to end, next start first."""
    rows = ChangeRequest.objects.filter(
        state__in=list(SHOWN_STATES), environments__in=list(environments)
    ).select_related("tenant")
    return list(access.visible(scope, rows).distinct().order_by("planned_start_at", "pk")[:MOST_CHANGES])


def is_blackout(window: Window) -> bool:
    return window.effect == Effect.DENY


def held(interval: Interval, freezes: Iterable[Freeze]) -> bool:
    """Tell whether a freeze holds when an opening begins."""
    return any(one.starts_at <= interval.start < min(freeze_end(one), FOREVER) for one in freezes)
