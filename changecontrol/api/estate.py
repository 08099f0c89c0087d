"""The estate over REST. Every write is `save_estate`, as from the pages and the estate file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import django_filters
from django.db import transaction
from django.db.models import Model, QuerySet
from drf_spectacular.utils import extend_schema_view
from rest_framework import mixins
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.access import Actor, Scope
from changecontrol.actions.estate import KINDS, save_estate
from changecontrol.actions.refusals import audited
from changecontrol.api import estate_serializers as shapes
from changecontrol.api.base import ApiViewSet, Words, acting, command, one_of, read, reading, scope_for, sight_for
from changecontrol.api.idempotency import idempotent
from changecontrol.errors import Conflict
from changecontrol.models import BusinessProcess, Cluster, Cohort, Environment, GitSource, Region, Store, Tenant
from changecontrol.models.estate import Stage
from changecontrol.queries import estate
from changecontrol.rules.roles import Ability


class EstateViewSet(mixins.ListModelMixin, ApiViewSet[Any]):
    """One kind of thing. `new` and `changes` are the words it is made and changed by."""

    kind: ClassVar[str]
    many: ClassVar[str]
    new: ClassVar[type[Words]]
    changes: ClassVar[type[Words]]
    http_method_names = ["get", "post", "patch", "head", "options"]
    is_oldest_first = True
    seen_with = Ability.ESTATE_VIEW

    def in_sight(self, scope: Scope) -> QuerySet[Any]:
        """Return what of this kind the scope may see, with what its JSON says."""
        raise NotImplementedError

    def get_queryset(self) -> QuerySet[Any]:
        return self.in_sight(scope_for(self.request))

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self._told(one_of(scope_for(request), self.in_sight(sight_for(request)), pk=pk)))

    @idempotent
    def create(self, request: Request) -> Response:
        words = read(self.new, request)
        tenant_id = None
        if "tenant" in words:
            tenant_id = one_of(sight_for(request), Tenant.objects.all(), slug=words.pop("tenant")).pk
        thing = _make(actor=acting(request), kind=self.kind, answers=words, tenant_id=tenant_id, at=clock.now())
        return Response(self._told(thing), status=201)

    def partial_update(self, request: Request, pk: str) -> Response:
        words = read(self.changes, request, is_partial=True)
        thing = one_of(sight_for(request), self.in_sight(sight_for(request)), pk=pk)
        key = KINDS[self.kind].key
        saved = save_estate(
            actor=acting(request),
            kind=self.kind,
            answers={**words, key: getattr(thing, key)},
            tenant_id=getattr(thing, "tenant_id", None),
            at=clock.now(),
        )
        return Response(self._told(saved.thing))

    def get_serializer_context(self) -> dict[str, Any]:
        scope = scope_for(self.request)

        def may_edit(thing: Model) -> bool:
            return Ability.ESTATE_EDIT in access.abilities_for(scope, thing)

        return {**super().get_serializer_context(), "may_edit": may_edit}

    def _told(self, thing: Model) -> Any:
        shape: Any = self.serializer_class
        return shape(thing, context=self.get_serializer_context()).data


def described(cls: type[EstateViewSet]) -> type[EstateViewSet]:
    """Describe the operations of a kind in the schema, in the kind's own shapes."""
    shape: Any = cls.serializer_class
    one, many = cls.kind, cls.many
    found: type[EstateViewSet] = extend_schema_view(
        list=reading(shape(many=True), description=f"List the {many} you may see, oldest first."),
        retrieve=reading(shape, description=f"One {one}."),
        create=command(request=cls.new, responses={201: shape}, description=f"Make a {one}; 409 where it exists."),
        partial_update=command(
            request=cls.changes(partial=True),
            responses=shape,
            parameters=[],
            description=f"Change a {one}. What is left out stays as it is; what names it never changes.",
        ),
    )(cls)
    return found


class TenantOnly(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("tenant__slug", max_length=63, help_text="A slug.")


class StoreFilters(TenantOnly):
    region = django_filters.CharFilter("region__slug", max_length=63, help_text="A slug.")
    cohort = django_filters.CharFilter("cohort__slug", max_length=63, help_text="A slug.")
    code = django_filters.CharFilter(max_length=32)


class EnvironmentFilters(TenantOnly):
    stage = django_filters.ChoiceFilter(choices=Stage.choices())
    cluster = django_filters.CharFilter("cluster__slug", max_length=63, help_text="A slug.")


class ProcessFilters(TenantOnly):
    tier = django_filters.TypedChoiceFilter(choices=[(tier, str(tier)) for tier in range(4)], coerce=int)


@described
class TenantViewSet(EstateViewSet):
    kind, many = "tenant", "tenants"
    queryset = Tenant.objects.none()
    serializer_class = shapes.TenantSerializer
    new, changes = shapes.NewTenant, shapes.TenantChanges

    def in_sight(self, scope: Scope) -> QuerySet[Tenant]:
        return estate.tenants_of(scope)


@described
class ClusterViewSet(EstateViewSet):
    kind, many = "cluster", "clusters"
    queryset = Cluster.objects.none()
    serializer_class = shapes.ClusterSerializer
    new, changes = shapes.NewCluster, shapes.ClusterChanges

    def in_sight(self, scope: Scope) -> QuerySet[Cluster]:
        return estate.clusters_of(scope)


@described
class RegionViewSet(EstateViewSet):
    kind, many = "region", "regions"
    queryset = Region.objects.none()
    serializer_class = shapes.RegionSerializer
    filterset_class = TenantOnly
    new, changes = shapes.NewRegion, shapes.RegionChanges

    def in_sight(self, scope: Scope) -> QuerySet[Region]:
        return estate.regions_of(scope)


@described
class CohortViewSet(EstateViewSet):
    kind, many = "cohort", "cohorts"
    queryset = Cohort.objects.none()
    serializer_class = shapes.CohortSerializer
    filterset_class = TenantOnly
    new, changes = shapes.NewCohort, shapes.CohortChanges

    def in_sight(self, scope: Scope) -> QuerySet[Cohort]:
        return estate.cohorts_of(scope)


@described
class StoreViewSet(EstateViewSet):
    kind, many = "store", "stores"
    queryset = Store.objects.none()
    serializer_class = shapes.StoreSerializer
    filterset_class = StoreFilters
    new, changes = shapes.NewStore, shapes.StoreChanges

    def in_sight(self, scope: Scope) -> QuerySet[Store]:
        return estate.stores_of(scope)


@described
class SourceViewSet(EstateViewSet):
    kind, many = "source", "Git sources"
    queryset = GitSource.objects.none()
    serializer_class = shapes.SourceSerializer
    filterset_class = TenantOnly
    new, changes = shapes.NewSource, shapes.SourceChanges

    def in_sight(self, scope: Scope) -> QuerySet[GitSource]:
        return estate.sources_of(scope)


@described
class ProcessViewSet(EstateViewSet):
    kind, many = "process", "business processes"
    queryset = BusinessProcess.objects.none()
    serializer_class = shapes.ProcessSerializer
    filterset_class = ProcessFilters
    new, changes = shapes.NewProcess, shapes.ProcessChanges

    def in_sight(self, scope: Scope) -> QuerySet[BusinessProcess]:
        return estate.processes_of(scope)


@described
class EnvironmentViewSet(EstateViewSet):
    kind, many = "environment", "environments"
    queryset = Environment.objects.none()
    serializer_class = shapes.EnvironmentSerializer
    filterset_class = EnvironmentFilters
    new, changes = shapes.NewEnvironment, shapes.EnvironmentChanges

    def in_sight(self, scope: Scope) -> QuerySet[Environment]:
        return estate.environments_of(scope)


@audited
@transaction.atomic
def _make(*, actor: Actor, kind: str, answers: Mapping[str, Any], tenant_id: int | None, at: datetime) -> Any:
    """Save what must be new. Raises `Conflict`, and changes nothing, where it is not."""
    saved = save_estate(actor=actor, kind=kind, answers=answers, tenant_id=tenant_id, at=at)
    if not saved.is_new:
        raise Conflict(f"There is already a {kind} called “{answers[KINDS[kind].key]}”.")
    return saved.thing
