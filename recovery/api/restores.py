"""Restores over REST: always into a new database, at a time that is said and covered."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.api.base import ApiViewSet, acting, command, listing, read, reading, scope_for, sight_for
from changecontrol.api.idempotency import idempotent
from changecontrol.api.runs import TROUBLE_HELP
from changecontrol.api.times import Moment
from changecontrol.rules.roles import Ability
from changecontrol.workflow.trouble import trouble_of
from recovery.actions.restores import ask_incident_restore, ask_restore, cancel_restore
from recovery.api.ground import (
    OfEnvironmentFilters,
    OfEnvironmentSerializer,
    PlaceWords,
    ReasonWords,
    WithProgress,
    first_of,
    named,
    place_of,
    seconds,
)
from recovery.lifecycles.restore import RestoreState
from recovery.models import CutOver, Drill, Restore
from recovery.models.restore import RestorePurpose
from recovery.queries.points import restores_of
from recovery.queries.reports import recovery_times
from recovery.rules.objectives import measure_rto


class NewRestore(PlaceWords, ReasonWords):
    target_at = Moment(help_text="The time to go back to, with its offset. There is no default.")
    target_database = serializers.CharField(max_length=63, help_text="The new database; never one in use.")


class NewIncidentRestore(NewRestore):
    declared_at = Moment(help_text="When recovery was declared: the RTO clock began then.")


class RtoSerializer(serializers.Serializer[Any]):
    """The time to recover by its parts, in seconds; null for what is not over (BCK-6)."""

    decide_seconds = serializers.FloatField(allow_null=True)
    provision_seconds = serializers.FloatField(allow_null=True)
    restore_seconds = serializers.FloatField(allow_null=True)
    validate_seconds = serializers.FloatField(allow_null=True)
    whole_seconds = serializers.FloatField(allow_null=True)


class CutOverSerializer(serializers.ModelSerializer[CutOver]):
    """The change that puts it in place, and what becomes of the database that ran before (BCK-4)."""

    change = serializers.CharField(source="change.number", read_only=True)

    class Meta:
        model = CutOver
        fields = ["change", "state", "sentence", "old_database", "keep_hours", "kept_until"]
        read_only_fields = fields


class RestoreSerializer(OfEnvironmentSerializer):
    point = serializers.CharField(source="point.key", read_only=True)
    asked_by = named("asked_by")
    size = serializers.IntegerField(read_only=True, help_text="In bytes: of the point and all that it builds upon.")
    trouble = serializers.SerializerMethodField(help_text=TROUBLE_HELP)
    rto = serializers.SerializerMethodField()
    cut_over = serializers.SerializerMethodField(help_text="Null but for a restore into production.")

    class Meta:
        model = Restore
        fields = [
            "id",
            "tenant",
            "environment",
            "purpose",
            "point",
            "target_at",
            "target_database",
            "target_filestore",
            "is_neutralised",
            "state",
            "step",
            "sentence",
            "trouble",
            "reason",
            "asked_by",
            "size",
            "expected_seconds",
            "expected_error_seconds",
            "declared_at",
            "decided_at",
            "provisioned_at",
            "restored_at",
            "validated_at",
            "finished_at",
            "rto",
            "cut_over",
        ]
        read_only_fields = fields

    def get_trouble(self, row: Restore) -> str:
        return trouble_of(row)

    @extend_schema_field(CutOverSerializer(allow_null=True))
    def get_cut_over(self, row: Restore) -> Any:
        return CutOverSerializer(row.cut_over).data if row.purpose == RestorePurpose.PRODUCTION else None

    @extend_schema_field(RtoSerializer)
    def get_rto(self, row: Restore) -> Any:
        return rto_of(row)


class RestoreDetailSerializer(RestoreSerializer, WithProgress):
    class Meta(RestoreSerializer.Meta):
        fields = [*RestoreSerializer.Meta.fields, "progress"]
        read_only_fields = fields


class RestoreFilters(OfEnvironmentFilters):
    state = django_filters.MultipleChoiceFilter(choices=RestoreState.choices())
    purpose = django_filters.ChoiceFilter(choices=RestorePurpose.choices())


@listing(RestoreSerializer)
class RestoreViewSet(mixins.ListModelMixin, ApiViewSet[Restore]):
    """Restores you may see, newest first."""

    queryset = Restore.objects.none()
    serializer_class = RestoreSerializer
    filterset_class = RestoreFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[Restore]:
        return restores_of(scope_for(self.request))

    @reading(RestoreDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One restore, and how far it is."""
        return Response(self._told(first_of(restores_of(scope_for(request)), pk=pk)))

    @command(request=NewRestore, responses={201: RestoreDetailSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Ask for a neutralised copy of an environment as it was at a time.

        One that takes the environment's place is a change: POST /api/v1/changes/ with the kind `restore`.
        409 with the last safe time where that time is in a gap or outside of what is covered; nothing is begun then.
        """
        words = read(NewRestore, request)
        environment = place_of(request, words)
        asked = ask_restore(actor=acting(request), environment_id=environment.pk, at=clock.now(), **words)
        return self._asked(asked)

    @command(request=NewIncidentRestore, responses={201: RestoreDetailSerializer})
    @action(detail=False, methods=["post"])
    @idempotent
    def incident(self, request: Request) -> Response:
        """Ask for a restore during an incident: a safety action, which needs the role and a reason, and no window."""
        words = read(NewIncidentRestore, request)
        environment = place_of(request, words)
        asked = ask_incident_restore(actor=acting(request), environment_id=environment.pk, at=clock.now(), **words)
        return self._asked(asked)

    @command(request=ReasonWords, responses=RestoreDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: str) -> Response:
        """End a restore before it is done, with a reason. What it began is cleared away; 409 where it has ended."""
        words = read(ReasonWords, request)
        restore = first_of(restores_of(sight_for(request)), pk=pk)
        cancel_restore(actor=acting(request), restore_id=restore.pk, at=clock.now(), **words)
        return self._asked(restore, status=200)

    def _asked(self, restore: Restore, *, status: int = 201) -> Response:
        return Response(self._told(first_of(restores_of(sight_for(self.request)), pk=restore.pk)), status=status)

    def _told(self, restore: Restore) -> Any:
        return RestoreDetailSerializer(restore).data


def rto_of(row: Restore | Drill) -> Any:
    """Return how long each part of the time to recover took, in seconds."""
    measured = measure_rto(recovery_times(row))
    parts = ("decide", "provision", "restore", "validate", "whole")
    return RtoSerializer({f"{one}_seconds": seconds(getattr(measured, one)) for one in parts}).data
