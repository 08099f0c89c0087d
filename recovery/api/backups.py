"""Backups over REST: which ran, how far one is, asking for one now, and ending it before it is done."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.api.base import ApiViewSet, acting, command, listing, read, reading, scope_for, sight_for
from changecontrol.api.idempotency import idempotent
from changecontrol.api.runs import TROUBLE_HELP
from changecontrol.rules.roles import Ability
from changecontrol.workflow.trouble import trouble_of
from recovery.actions.backups import ask_backup, cancel_backup
from recovery.api.ground import (
    OfEnvironmentFilters,
    OfEnvironmentSerializer,
    PlaceWords,
    ReasonWords,
    WithProgress,
    first_of,
    named,
    place_of,
)
from recovery.lifecycles.point import BackupState
from recovery.models import BackupRun
from recovery.models.backup import BackupKind
from recovery.queries.history import backups_of


class NewBackup(PlaceWords, ReasonWords):
    pass


class BackupSerializer(OfEnvironmentSerializer):
    """`due_at` is null where a person asked for it; `point` is the key of what it made, once it has."""

    policy_version = serializers.IntegerField(source="policy.version", read_only=True)
    asked_by = named("asked_by")
    point = serializers.SerializerMethodField()
    trouble = serializers.SerializerMethodField(help_text=TROUBLE_HELP)

    class Meta:
        model = BackupRun
        fields = [
            "id",
            "tenant",
            "environment",
            "kind",
            "state",
            "step",
            "sentence",
            "trouble",
            "policy_version",
            "due_at",
            "asked_by",
            "reason",
            "point",
            "created_at",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_point(self, row: BackupRun) -> str | None:
        point = getattr(row, "point", None)
        return point.key if point else None

    def get_trouble(self, row: BackupRun) -> str:
        return trouble_of(row)


class BackupDetailSerializer(BackupSerializer, WithProgress):
    class Meta(BackupSerializer.Meta):
        fields = [*BackupSerializer.Meta.fields, "progress"]
        read_only_fields = fields


class BackupFilters(OfEnvironmentFilters):
    state = django_filters.MultipleChoiceFilter(choices=BackupState.choices())
    kind = django_filters.ChoiceFilter(choices=BackupKind.choices())


@listing(BackupSerializer)
class BackupViewSet(mixins.ListModelMixin, ApiViewSet[BackupRun]):
    """Backups you may see, newest first."""

    queryset = BackupRun.objects.none()
    serializer_class = BackupSerializer
    filterset_class = BackupFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[BackupRun]:
        return backups_of(scope_for(self.request))

    @reading(BackupDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One backup, and how far it is."""
        return Response(self._told(first_of(backups_of(scope_for(request)), pk=pk)))

    @command(request=NewBackup, responses={201: BackupDetailSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Ask for a full backup now, beside the schedule. 409 where one is under way."""
        words = read(NewBackup, request)
        environment = place_of(request, words)
        run = ask_backup(actor=acting(request), environment_id=environment.pk, at=clock.now(), **words)
        return Response(self._told(first_of(backups_of(sight_for(request)), pk=run.pk)), status=201)

    @command(request=ReasonWords, responses=BackupDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: str) -> Response:
        """End a backup before it is done, with a reason. No point is made of what it copied; 409 where it has ended."""
        words = read(ReasonWords, request)
        run = first_of(backups_of(sight_for(request)), pk=pk)
        cancel_backup(actor=acting(request), run_id=run.pk, at=clock.now(), **words)
        return Response(self._told(first_of(backups_of(sight_for(request)), pk=run.pk)))

    def _told(self, run: BackupRun) -> Any:
        return BackupDetailSerializer(run).data
