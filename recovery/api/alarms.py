"""What is wrong with backups now, over REST: facts that hold while one looks, not events that were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.api.base import ApiViewSet, reading, scope_for
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.queries.overview import Watched, environments_in, watched_in
from recovery.rules.alarms import AlarmKind


class AlarmSerializer(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(AlarmKind.choices())
    sentence = serializers.CharField()
    since = serializers.DateTimeField(help_text="When it became wrong, not when somebody looked.")


class AlarmedSerializer(serializers.ModelSerializer[Environment]):
    """An environment with all that is wrong with its backups, worst first."""

    tenant = serializers.CharField(source="tenant.slug", read_only=True)
    environment = serializers.CharField(source="slug", read_only=True)
    alarms = serializers.SerializerMethodField()

    class Meta:
        model = Environment
        fields = ["id", "tenant", "environment", "alarms"]
        read_only_fields = fields

    @extend_schema_field(AlarmSerializer(many=True))
    def get_alarms(self, row: Environment) -> Any:
        return AlarmSerializer(watched_for(self.context["request"])[row.pk].alarms, many=True).data


class AlarmFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("tenant__slug", max_length=63, help_text="A slug.")
    environment = django_filters.CharFilter("slug", max_length=63, help_text="A slug.")
    kind = django_filters.ChoiceFilter(choices=AlarmKind.choices(), method="of_kind", help_text="One of its alarms.")

    def of_kind(self, rows: QuerySet[Environment], name: str, value: str) -> QuerySet[Environment]:
        watched = watched_for(self.request)
        return among(rows, (key for key, one in watched.items() if value in {alarm.kind for alarm in one.alarms}), True)


class AlarmViewSet(ApiViewSet[Environment]):
    """Environments of yours with whose backups something is wrong."""

    queryset = Environment.objects.none()
    serializer_class = AlarmedSerializer
    filterset_class = AlarmFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[Environment]:
        return environments_in(scope_for(self.request))

    @reading(AlarmedSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Where something is wrong now, newest environment first; empty while all goes well."""
        alarmed = (key for key, one in watched_for(request).items() if one.alarms)
        return self.rows(among(self.get_queryset(), alarmed, True), AlarmedSerializer)


def watched_for(request: Request) -> Mapping[int, Watched]:
    """Return what is known and wrong of every environment in sight that has a policy, asked once a request."""
    found: Mapping[int, Watched] | None = getattr(request._request, "_watched", None)
    if found is None:
        found = watched_in(scope_for(request), at=clock.now())
        request._request._watched = found  # type: ignore[attr-defined]
    return found


def among(rows: QuerySet[Environment], keys: Iterable[int], is_among: bool) -> QuerySet[Environment]:
    found = list(keys)
    return rows.filter(pk__in=found) if is_among else rows.exclude(pk__in=found)
