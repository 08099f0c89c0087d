"""What drills found to be mended, over REST, until somebody says what was done."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.api.base import (
    ApiViewSet,
    Words,
    acting,
    command,
    listing,
    read,
    reading,
    scope_for,
    sight_for,
    yes_or_no,
)
from changecontrol.api.idempotency import idempotent
from changecontrol.rules.roles import Ability
from recovery.actions.drills import close_corrective_action, link_corrective_action
from recovery.api.ground import first_of, named
from recovery.models import CorrectiveAction
from recovery.queries.history import corrective_actions_of


class CloseWords(Words):
    note = serializers.CharField(max_length=500, help_text="What was done; it stays in the report.")


class LinkWords(Words):
    number = serializers.CharField(max_length=20, help_text="Of a change of the same tenant, such as CHG-000142.")


class CorrectiveActionSerializer(serializers.ModelSerializer[CorrectiveAction]):
    """A finding of a drill. `change` is the number of the change that mends it; `problem` says why none was opened."""

    owner = named("owner")
    change = serializers.CharField(source="change.number", read_only=True, allow_null=True, default=None)
    closed_by = named("closed_by")

    class Meta:
        model = CorrectiveAction
        fields = ["id", "title", "owner", "change", "problem", "opened_at", "closed_at", "closed_by", "closing_note"]
        read_only_fields = fields


class PlacedCorrectiveActionSerializer(CorrectiveActionSerializer):
    tenant = serializers.CharField(source="drill.environment.tenant.slug", read_only=True)
    environment = serializers.CharField(source="drill.environment.slug", read_only=True)

    class Meta(CorrectiveActionSerializer.Meta):
        fields = [*CorrectiveActionSerializer.Meta.fields, "tenant", "environment", "drill"]
        read_only_fields = fields


class CorrectiveActionFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("drill__environment__tenant__slug", max_length=63, help_text="A slug.")
    environment = django_filters.CharFilter("drill__environment__slug", max_length=63, help_text="A slug.")
    is_open = yes_or_no("closed_at", lookup_expr="isnull")


@listing(PlacedCorrectiveActionSerializer)
class CorrectiveActionViewSet(mixins.ListModelMixin, ApiViewSet[CorrectiveAction]):
    """Corrective actions you may see, closed ones too, newest first."""

    queryset = CorrectiveAction.objects.none()
    serializer_class = PlacedCorrectiveActionSerializer
    filterset_class = CorrectiveActionFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[CorrectiveAction]:
        return corrective_actions_of(scope_for(self.request))

    @reading(PlacedCorrectiveActionSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One corrective action."""
        return Response(self._told(first_of(corrective_actions_of(scope_for(request)), pk=pk)))

    @command(request=LinkWords, responses=PlacedCorrectiveActionSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def link(self, request: Request, pk: str) -> Response:
        """Name the change that mends a finding; its evidence pack carries the drill's report. 409 once it is closed."""
        words = read(LinkWords, request)
        found = first_of(corrective_actions_of(sight_for(request)), pk=pk)
        link_corrective_action(actor=acting(request), corrective_action_id=found.pk, at=clock.now(), **words)
        return Response(self._told(first_of(corrective_actions_of(sight_for(request)), pk=found.pk)))

    @command(request=CloseWords, responses=PlacedCorrectiveActionSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def close(self, request: Request, pk: str) -> Response:
        """Say what was done about a finding. 409 where somebody has said so before."""
        words = read(CloseWords, request)
        found = first_of(corrective_actions_of(sight_for(request)), pk=pk)
        close_corrective_action(actor=acting(request), corrective_action_id=found.pk, at=clock.now(), **words)
        return Response(self._told(first_of(corrective_actions_of(sight_for(request)), pk=found.pk)))

    def _told(self, found: CorrectiveAction) -> Any:
        return PlacedCorrectiveActionSerializer(found).data
