"""Windows and freezes over REST."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.access import Scope
from changecontrol.actions.freezes import lift_freeze, open_freeze
from changecontrol.actions.places import PlaceIds
from changecontrol.actions.windows import WindowContent, create_window, edit_window
from changecontrol.api.base import (
    ApiViewSet,
    Words,
    acting,
    command,
    listing,
    one_of,
    read,
    reading,
    scope_for,
    sight_for,
    yes_or_no,
)
from changecontrol.api.idempotency import idempotent
from changecontrol.api.times import LocalTime, MomentFilter
from changecontrol.errors import Invalid
from changecontrol.models import Cluster, Cohort, Environment, Freeze, Tenant, Window
from changecontrol.models.estate import Stage
from changecontrol.models.window import Effect
from changecontrol.queries.windows import freezes_of, windows_of
from changecontrol.rules.roles import Ability

DURATION_LIMIT = 14 * 86_400
PLACES: dict[str, Any] = {"environment": Environment, "cluster": Cluster, "cohort": Cohort}


class PlaceWords(Words):
    stage = serializers.ChoiceField(Stage.choices(), required=False, allow_blank=True)
    environment = serializers.CharField(max_length=63, required=False, allow_null=True, help_text="A slug.")
    cluster = serializers.CharField(max_length=63, required=False, allow_null=True, help_text="A slug.")
    cohort = serializers.CharField(max_length=63, required=False, allow_null=True, help_text="A slug.")


class WindowWords(PlaceWords):
    name = serializers.CharField(max_length=120)
    effect = serializers.ChoiceField(Effect.choices(), required=False)
    rrule = serializers.CharField(
        max_length=500, required=False, allow_blank=True, help_text="Such as FREQ=WEEKLY;BYDAY=TU,TH. Empty: once."
    )
    starts_local = LocalTime(help_text="Wall-clock start, such as 2026-11-24T02:00:00.")
    zone = serializers.CharField(
        max_length=64, required=False, allow_blank=True, help_text="An IANA time zone. Empty: each store's own."
    )
    duration_seconds = serializers.IntegerField(min_value=1, max_value=DURATION_LIMIT)
    excluded_local = serializers.ListField(child=LocalTime(), required=False, max_length=500)
    added_local = serializers.ListField(child=LocalTime(), required=False, max_length=500)
    is_active = serializers.BooleanField(required=False)


class NewWindow(WindowWords):
    tenant = serializers.CharField(max_length=63, allow_null=True, help_text="A slug; null: the platform's.")
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class WindowChanges(WindowWords):
    seen_version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="The version you read.")
    reason = serializers.CharField(max_length=500, help_text="Why the window changes; it stays in the record.")


class NewFreeze(PlaceWords):
    tenant = serializers.CharField(max_length=63, allow_null=True, help_text="A slug; null: the platform's.")
    name = serializers.CharField(max_length=120)
    reason = serializers.CharField(max_length=500)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()


class LiftWords(Words):
    reason = serializers.CharField(max_length=500, help_text="Why the freeze ends early.")


class PlacedSerializer(serializers.ModelSerializer[Any]):
    stage = serializers.ChoiceField(Stage.choices(), allow_blank=True, read_only=True)
    tenant = serializers.CharField(source="tenant.slug", read_only=True, allow_null=True, default=None)
    environment = serializers.CharField(source="environment.slug", read_only=True, allow_null=True, default=None)
    cluster = serializers.CharField(source="cluster.slug", read_only=True, allow_null=True, default=None)
    cohort = serializers.CharField(source="cohort.slug", read_only=True, allow_null=True, default=None)


class WindowSerializer(PlacedSerializer):
    starts_local = LocalTime(read_only=True)
    excluded_local = serializers.ListField(child=LocalTime(), read_only=True)
    added_local = serializers.ListField(child=LocalTime(), read_only=True)

    class Meta:
        model = Window
        fields = [
            "id",
            "tenant",
            "stage",
            "environment",
            "cluster",
            "cohort",
            "name",
            "effect",
            "rrule",
            "starts_local",
            "zone",
            "duration_seconds",
            "excluded_local",
            "added_local",
            "is_active",
            "version",
            "reason",
            "created_at",
        ]
        read_only_fields = fields


class FreezeSerializer(PlacedSerializer):
    opened_by = serializers.CharField(source="opened_by.username", read_only=True)
    lifted_by = serializers.CharField(source="lifted_by.username", read_only=True, allow_null=True, default=None)

    class Meta:
        model = Freeze
        fields = [
            "id",
            "tenant",
            "stage",
            "environment",
            "cluster",
            "cohort",
            "name",
            "reason",
            "starts_at",
            "ends_at",
            "opened_by",
            "lifted_at",
            "lifted_by",
        ]
        read_only_fields = fields


class WindowFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("tenant__slug", max_length=63, help_text="A slug.")
    stage = django_filters.ChoiceFilter(choices=Stage.choices())
    effect = django_filters.ChoiceFilter(choices=Effect.choices())
    is_active = yes_or_no()


class FreezeFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("tenant__slug", max_length=63, help_text="A slug.")
    holds_at = MomentFilter(method="holding", help_text="Freezes that hold at this moment.")

    def holding(self, rows: QuerySet[Freeze], name: str, value: Any) -> QuerySet[Freeze]:
        unlifted = Q(lifted_at__isnull=True) | Q(lifted_at__gt=value)
        return rows.filter(unlifted, starts_at__lte=value, ends_at__gt=value)


@listing(WindowSerializer)
class WindowViewSet(mixins.ListModelMixin, ApiViewSet[Window]):
    """Change windows you may see: the platform's, and those of your tenants, newest first."""

    queryset = Window.objects.none()
    serializer_class = WindowSerializer
    filterset_class = WindowFilters
    http_method_names = ["get", "post", "patch", "head", "options"]
    seen_with = Ability.WINDOW_VIEW

    def get_queryset(self) -> QuerySet[Window]:
        return windows_of(scope_for(self.request))

    @reading(WindowSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One window."""
        return Response(WindowSerializer(one_of(scope_for(request), windows_of(scope_for(request)), pk=pk)).data)

    @command(request=NewWindow, responses={201: WindowSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Add a window."""
        words = read(NewWindow, request)
        reason, tenant_id = words.pop("reason"), _tenant_id(request, words.pop("tenant"))
        content = WindowContent(place=_place(request, words, tenant_id=tenant_id), **_times(words))
        window = create_window(
            actor=acting(request), tenant_id=tenant_id, content=content, reason=reason, at=clock.now()
        )
        return Response(WindowSerializer(window).data, status=201)

    @command(request=WindowChanges(partial=True), responses=WindowSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a window from now on; past runs stay judged as they were. `seen_version` and `reason` are needed."""
        words = read(WindowChanges, request, is_partial=True)
        missing = [name for name in ("seen_version", "reason") if name not in words]
        if missing:
            raise Invalid(f"Say {' and '.join(missing)}.", fields={name: ["This is needed."] for name in missing})
        reason, seen = words.pop("reason"), words.pop("seen_version")
        window = one_of(sight_for(request), windows_of(sight_for(request)), pk=pk)
        before = _content_of(window)
        place = _place(request, words, tenant_id=window.tenant_id, before=before.place)
        saved = edit_window(
            actor=acting(request),
            window_id=window.pk,
            content=replace(before, place=place, **_times(words)),
            seen_version=seen,
            reason=reason,
            at=clock.now(),
        )
        return Response(WindowSerializer(saved).data)


@listing(FreezeSerializer)
class FreezeViewSet(mixins.ListModelMixin, ApiViewSet[Freeze]):
    """Freezes you may see, lifted and past ones too, newest first."""

    queryset = Freeze.objects.none()
    serializer_class = FreezeSerializer
    filterset_class = FreezeFilters
    seen_with = Ability.WINDOW_VIEW

    def get_queryset(self) -> QuerySet[Freeze]:
        return freezes_of(scope_for(self.request))

    @reading(FreezeSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One freeze."""
        return Response(FreezeSerializer(one_of(scope_for(request), freezes_of(scope_for(request)), pk=pk)).data)

    @command(request=NewFreeze, responses={201: FreezeSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Open a freeze: nothing in its scope starts or goes on while it holds. Safety actions stay free."""
        words = read(NewFreeze, request)
        tenant_id = _tenant_id(request, words.pop("tenant"))
        place = _place(request, words, tenant_id=tenant_id)
        freeze = open_freeze(actor=acting(request), tenant_id=tenant_id, place=place, at=clock.now(), **words)
        return Response(FreezeSerializer(freeze).data, status=201)

    @command(request=LiftWords, responses=FreezeSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def lift(self, request: Request, pk: str) -> Response:
        """End a freeze now, with a reason."""
        reason = read(LiftWords, request)["reason"]
        freeze = one_of(sight_for(request), Freeze.objects.all(), pk=pk)
        lifted = lift_freeze(actor=acting(request), freeze_id=freeze.pk, reason=reason, at=clock.now())
        return Response(FreezeSerializer(lifted).data)


def _tenant_id(request: Request, slug: str | None) -> int | None:
    return None if slug is None else one_of(sight_for(request), Tenant.objects.all(), slug=slug).pk


def _place(
    request: Request, words: dict[str, Any], *, tenant_id: int | None, before: PlaceIds | None = None
) -> PlaceIds:
    """Take the place out of the words: slugs become keys, among what is in sight and of the tenant."""
    sight, found, problems = sight_for(request), before or PlaceIds(), {}
    if "stage" in words:
        found = replace(found, stage=words.pop("stage"))
    for name, model in PLACES.items():
        if name not in words:
            continue
        slug = words.pop(name)
        thing = None if slug is None else _named(sight, model, slug=slug, tenant_id=tenant_id)
        if slug is not None and thing is None:
            problems[name] = [f"There is no {name} called “{slug}” here."]
        key: dict[str, Any] = {f"{name}_id": thing.pk if thing else None}
        found = replace(found, **key)
    if problems:
        raise Invalid("The place does not exist.", fields=problems)
    return found


def _named(sight: Scope, model: Any, *, slug: str, tenant_id: int | None) -> Any:
    """Return a thing by its slug. Environments and cohorts are a tenant's: without one, no slug names any."""
    rows = model.objects.filter(slug=slug)
    if model is not Cluster:
        rows = rows.filter(tenant=tenant_id)
    return access.visible(sight, rows).first()


def _times(words: dict[str, Any]) -> dict[str, Any]:
    """Return the words with their lists of times as the action takes them."""
    return {name: tuple(value) if name in {"excluded_local", "added_local"} else value for name, value in words.items()}


def _content_of(window: Window) -> WindowContent:
    """Return what a window says now, for what somebody changes of it."""
    read_times = serializers.ListField(child=LocalTime()).run_validation
    return WindowContent(
        name=window.name,
        starts_local=window.starts_local.replace(tzinfo=None),
        duration_seconds=window.duration_seconds,
        effect=window.effect,
        rrule=window.rrule,
        zone=window.zone,
        excluded_local=tuple(read_times(window.excluded_local)),
        added_local=tuple(read_times(window.added_local)),
        is_active=window.is_active,
        place=PlaceIds(
            stage=window.stage,
            environment_id=window.environment_id,
            cluster_id=window.cluster_id,
            cohort_id=window.cohort_id,
        ),
    )
