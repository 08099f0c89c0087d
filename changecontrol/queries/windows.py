"""When may work go on? Windows and freezes as the rules read them, and the calendar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Count, Q, QuerySet

from changecontrol import access
from changecontrol.access import Scope
from changecontrol.errors import Invalid
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Environment, Freeze, Store, Window
from changecontrol.models.window import Scoped
from changecontrol.queries.estate import tier_of
from changecontrol.rules import recurrence, windows
from changecontrol.rules.content import Content
from changecontrol.rules.intervals import Interval
from changecontrol.rules.windows import Judgement, WindowTarget, WindowVerdict

NO_STORES_ZONE = "UTC"
"""The zone of a target that serves no store."""
CALENDAR_LIMIT = timedelta(days=62)
SPANS_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class TargetVerdict:
    """The judgement of what one wave updates for the stores of one cohort and zone (WIN-2)."""

    wave: int
    environment: str
    cohort: str
    zone: str
    store_count: int
    judgement: Judgement

    @property
    def sentence(self) -> str:
        where = f"{self.environment}, {self.cohort}" if self.cohort else self.environment
        return f"{where} ({self.zone}): {self.judgement.reason}"


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening in UTC, and as the clocks of the window's zone show it."""

    starts_at: datetime
    ends_at: datetime
    zone: str

    @property
    def local_start(self) -> datetime:
        return self.starts_at.astimezone(ZoneInfo(self.zone))

    @property
    def local_end(self) -> datetime:
        return self.ends_at.astimezone(ZoneInfo(self.zone))


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of the calendar. `kind` is `allow`, `deny`, `freeze` or `change`; `zone` is empty for fixed times."""

    kind: str
    name: str
    starts_at: datetime
    ends_at: datetime
    scope: str
    path: str = ""
    zone: str = ""
    state: str = ""


def judge_change(
    change: ChangeRequest, *, at: datetime, content: Content | None = None, wave: int | None = None
) -> tuple[TargetVerdict, ...]:
    """Judge every group of targets of a change at a moment, wave by wave (WIN-5).

    `content` defaults to the current revision's; `wave` (from 0) narrows to one. Statements do not grow with targets.
    """
    if content is None:
        content = Content.from_json(change.revision.content if change.revision else change.draft)
    groups = _groups(change.tenant_id, content, wave=wave)
    rules, freezes = calendar_rules(change.tenant_id, at=at)
    targets = {target.key: target for _, target, _ in groups}
    judged = windows.judge_targets(rules, freezes=freezes, targets=targets.values(), at=at)
    return tuple(
        TargetVerdict(
            wave=number,
            environment=target.environment,
            cohort=target.cohort,
            zone=target.zone,
            store_count=count,
            judgement=judged[target.key],
        )
        for number, target, count in groups
    )


def is_start_allowed(verdicts: Iterable[TargetVerdict]) -> bool:
    """Tell whether a change may be scheduled then: no target of the first wave is frozen, and one is open.

    One is enough because each target waits for its own zone's opening; every wave is judged again (WIN-2, WIN-5).
    """
    first = [one.judgement for one in verdicts if one.wave == 0]
    is_frozen = any(one.verdict is WindowVerdict.FROZEN for one in first)
    return not is_frozen and any(one.is_open for one in first)


def calendar_rules(tenant_id: int, *, at: datetime) -> tuple[list[windows.Window], list[windows.Freeze]]:
    """Return what may concern a tenant from now on: its own windows and freezes and the platform's."""
    of_tenant = Q(tenant__isnull=True) | Q(tenant=tenant_id)
    related = ("environment", "cohort")
    rules = [window_rule(one) for one in Window.objects.filter(of_tenant, is_active=True).select_related(*related)]
    running = Freeze.objects.filter(of_tenant, lifted_at__isnull=True, ends_at__gt=at).select_related(*related)
    freezes = [
        windows.Freeze(name=one.name, starts_at=one.starts_at, ends_at=one.ends_at, scope=_scope(one))
        for one in running
    ]
    return rules, freezes


def window_rule(window: Window) -> windows.Window:
    return windows.Window(
        name=window.name,
        effect=windows.Effect(window.effect),
        recurrence=recurrence_of(window),
        scope=_scope(window),
    )


def recurrence_of(window: Window) -> recurrence.Recurrence:
    """Return the window's rule, its wall-clock times naive again."""
    return recurrence.Recurrence(
        starts_at=window.starts_local.replace(tzinfo=None),
        duration=timedelta(seconds=window.duration_seconds),
        zone=window.zone or None,
        rrule=window.rrule,
        exdates=tuple(datetime.fromisoformat(one) for one in window.excluded_local),
        rdates=tuple(datetime.fromisoformat(one) for one in window.added_local),
    )


def next_openings(
    window: Window, *, at: datetime, count: int = 10, zones: Iterable[str] = ()
) -> dict[str, tuple[Opening, ...]]:
    """Return the next openings, the running one first, by zone: the window's own, else each named (WIN-1)."""
    rule = recurrence_of(window)
    places = [rule.zone] if rule.zone else sorted(set(zones)) or [NO_STORES_ZONE]
    return {
        zone: tuple(
            Opening(starts_at=one.start, ends_at=one.end, zone=zone)
            for one in recurrence.openings(rule, zone=zone, after=at, count=count)
        )
        for zone in places
    }


def windows_of(scope: Scope) -> QuerySet[Window]:
    return access.visible(scope, Window.objects.select_related("tenant", "environment", "cluster", "cohort"))


def freezes_of(scope: Scope) -> QuerySet[Freeze]:
    related = ("tenant", "environment", "cluster", "cohort", "opened_by", "lifted_by")
    return access.visible(scope, Freeze.objects.select_related(*related))


def zones_of(scope: Scope) -> tuple[str, ...]:
    """Return the zones of the stores in sight."""
    return tuple(access.visible(scope, Store.objects.order_by("zone")).values_list("zone", flat=True).distinct())


def calendar_spans(scope: Scope, *, start: datetime, end: datetime) -> tuple[Span, ...]:
    """Return the bars of a calendar, by start: at most 62 days and 2,000 bars. Five statements, however many rows."""
    if not start < end <= start + CALENDAR_LIMIT:
        raise Invalid(f"A calendar shows between a moment and {CALENDAR_LIMIT.days} days.")
    frame = Interval(start, end)
    zones = zones_of(scope) or (NO_STORES_ZONE,)
    spans = [
        *(span for one in windows_of(scope).filter(is_active=True) for span in _window_spans(one, zones, frame)),
        *(_freeze_span(one) for one in freezes_of(scope).filter(starts_at__lt=end, ends_at__gt=start)),
        *(_change_span(one) for one in _scheduled(scope, frame)),
    ]
    return tuple(sorted(spans, key=lambda span: (span.starts_at, span.kind, span.name))[:SPANS_LIMIT])


def _groups(tenant_id: int, content: Content, *, wave: int | None) -> list[tuple[int, WindowTarget, int]]:
    environments = {
        one.slug: one
        for one in Environment.objects.filter(tenant=tenant_id, slug__in=content.environments).prefetch_related(
            "cohorts", "processes"
        )
    }
    cohort_ids = {cohort.pk for one in environments.values() for cohort in one.cohorts.all()}
    stores = Store.objects.filter(cohort__in=cohort_ids).order_by("cohort", "zone")
    zones: dict[int, list[tuple[str, int]]] = {}
    for cohort_id, zone, count in stores.values_list("cohort", "zone").annotate(count=Count("pk")):
        zones.setdefault(cohort_id, []).append((zone, count))
    found: list[tuple[int, WindowTarget, int]] = []
    for number, one in enumerate(content.waves):
        if wave is not None and number != wave:
            continue
        for slug in one.environments:
            if slug in environments:
                places = _places(environments[slug], one.cohorts, zones)
                found.extend((number, target, count) for target, count in places)
    return found


def _places(
    environment: Environment, named: tuple[str, ...], zones: dict[int, list[tuple[str, int]]]
) -> list[tuple[WindowTarget, int]]:
    cohorts = [one for one in environment.cohorts.all() if not named or one.slug in named]
    places = [(one.slug, zone, count) for one in cohorts for zone, count in zones.get(one.pk, [])]
    return [
        (
            WindowTarget(
                key=f"{environment.slug}/{cohort}/{zone}",
                tenant=str(environment.tenant_id),
                environment_stage=environment.stage,
                environment=environment.slug,
                cluster=str(environment.cluster_id),
                cohort=cohort,
                tier=tier_of(environment),
                zone=zone,
            ),
            count,
        )
        for cohort, zone, count in (places or [("", NO_STORES_ZONE, 0)])
    ]


def _scope(one: Scoped) -> windows.Scope:
    return windows.Scope(
        tenants=frozenset({str(one.tenant_id)} if one.tenant_id else ()),
        environment_stages=frozenset({one.stage} if one.stage else ()),
        environments=frozenset({one.environment.slug} if one.environment else ()),
        clusters=frozenset({str(one.cluster_id)} if one.cluster_id else ()),
        cohorts=frozenset({one.cohort.slug} if one.cohort else ()),
    )


def scope_words(one: Scoped) -> str:
    """Say where a window or freeze holds, for people."""
    parts = [one.tenant, one.stage, one.environment, one.cluster, one.cohort]
    words = [str(part) for part in parts if part]
    return ", ".join(words) or "The whole platform"


def _window_spans(window: Window, zones: Iterable[str], frame: Interval) -> list[Span]:
    rule = recurrence_of(window)
    return [
        Span(
            kind=str(window.effect),
            name=window.name,
            starts_at=one.start,
            ends_at=one.end,
            scope=scope_words(window),
            zone=zone,
        )
        for zone in ([rule.zone] if rule.zone else zones)
        for one in recurrence.occurrences(rule, zone=zone, frame=frame)
    ]


def _freeze_span(freeze: Freeze) -> Span:
    return Span(
        kind="freeze",
        name=freeze.name,
        starts_at=freeze.starts_at,
        ends_at=min(freeze.ends_at, freeze.lifted_at or freeze.ends_at),
        scope=scope_words(freeze),
        state="lifted" if freeze.lifted_at else "",
    )


def _scheduled(scope: Scope, frame: Interval) -> QuerySet[ChangeRequest]:
    planned = Q(planned_start_at__lt=frame.end) & (
        Q(planned_end_at__gt=frame.start) | Q(planned_end_at__isnull=True, planned_start_at__gte=frame.start)
    )
    states = [ChangeState.SCHEDULED, ChangeState.IMPLEMENTING, ChangeState.VALIDATING]
    changes = ChangeRequest.objects.filter(planned, state__in=states).select_related("tenant")
    return access.visible(scope, changes).order_by("planned_start_at")[:SPANS_LIMIT]


def _change_span(change: ChangeRequest) -> Span:
    start = change.planned_start_at or datetime.max.replace(tzinfo=UTC)
    return Span(
        kind="change",
        name=str(change),
        starts_at=start,
        ends_at=change.planned_end_at or start + timedelta(minutes=30),
        scope=str(change.tenant),
        path=change.get_absolute_url(),
        state=str(change.state),
    )
