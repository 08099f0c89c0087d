"""Runs over REST: where they stand, and what people may ask of them."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.actions.runs import ask_run
from changecontrol.api.base import ApiViewSet, acting, command, listing, read, reading, scope_for, sight_for
from changecontrol.api.idempotency import idempotent
from changecontrol.api.serializers import ReasonSerializer
from changecontrol.errors import NotFound
from changecontrol.lifecycles.run import HUMAN_VERBS, PauseReason, RunState
from changecontrol.models import Run, RunLog, RunTarget
from changecontrol.queries.runs import run_named, runs_of, targets_of
from changecontrol.rules.roles import Ability
from changecontrol.workflow.trouble import trouble_of

TROUBLE_HELP = "What is wrong now, since when, and when it is tried again; empty while all goes well."
VERBS = tuple(verb.replace("_", "-") for verb in HUMAN_VERBS)


class RunSerializer(serializers.ModelSerializer[Run]):
    change = serializers.CharField(source="change.number", read_only=True)
    pause_reason = serializers.ChoiceField(PauseReason.choices(), allow_blank=True, read_only=True)
    trouble = serializers.SerializerMethodField(help_text=TROUBLE_HELP)

    class Meta:
        model = Run
        fields = [
            "id",
            "change",
            "kind",
            "state",
            "wave",
            "pause_reason",
            "sentence",
            "trouble",
            "intent",
            "bakes_until",
            "created_at",
            "started_at",
            "finished_at",
            "detected_at",
            "rollback_decided_at",
            "rollback_started_at",
            "rollback_serving_at",
            "rollback_verified_at",
        ]
        read_only_fields = fields

    def get_trouble(self, row: Run) -> str:
        return trouble_of(row)


class RunTargetSerializer(serializers.ModelSerializer[RunTarget]):
    environment = serializers.CharField(source="environment.slug", read_only=True)
    cohort = serializers.CharField(source="cohort.slug", read_only=True, allow_null=True, default=None)
    trouble = serializers.SerializerMethodField(help_text=TROUBLE_HELP)

    class Meta:
        model = RunTarget
        fields = [
            "id",
            "environment",
            "cohort",
            "wave",
            "workload",
            "state",
            "sentence",
            "trouble",
            "ready_count",
            "desired_count",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_trouble(self, row: RunTarget) -> str:
        return trouble_of(row)


class RunDetailSerializer(RunSerializer):
    targets = serializers.SerializerMethodField()

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "targets"]
        read_only_fields = fields

    def get_targets(self, run: Run) -> list[dict[str, Any]]:
        return [dict(row) for row in RunTargetSerializer(targets_of(run), many=True).data]


class RunLogSerializer(serializers.ModelSerializer[RunLog]):
    class Meta:
        model = RunLog
        fields = ["id", "at", "sentence", "detail", "target"]
        read_only_fields = fields


class RunFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    state = django_filters.MultipleChoiceFilter(choices=RunState.choices())
    tenant = django_filters.CharFilter("change__tenant__slug", max_length=63, help_text="A slug.")

    class Meta:
        model = Run
        fields: list[str] = []


@listing(RunSerializer)
class RunViewSet(mixins.ListModelMixin, ApiViewSet[Run]):
    """Rollouts you may see, newest first."""

    queryset = Run.objects.none()
    serializer_class = RunSerializer
    filterset_class = RunFilters
    seen_with = Ability.RUN_VIEW

    def get_queryset(self) -> QuerySet[Run]:
        return runs_of(scope_for(self.request))

    @reading(RunDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One rollout, with its targets."""
        return Response(RunDetailSerializer(self._run(pk)).data)

    @reading(RunLogSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def log(self, request: Request, pk: str) -> Response:
        """The lines of the run's log, newest first."""
        return self.rows(self._run(pk).log.all(), RunLogSerializer)

    @command(
        request=ReasonSerializer,
        responses=RunDetailSerializer,
        parameters=[OpenApiParameter("verb", str, OpenApiParameter.PATH, enum=VERBS)],
    )
    @action(detail=True, methods=["post"], url_path=f"(?P<verb>{'|'.join(VERBS)})")
    @idempotent
    def ask(self, request: Request, pk: str, verb: str) -> Response:
        """Ask something of a run; its next tick obeys. Pause, abort and roll back are never blocked by a window."""
        reason = read(ReasonSerializer, request)["reason"]
        run = run_named(sight_for(request), int(pk))
        if run is None:
            raise NotFound("There is no such run.")
        ask_run(actor=acting(request), run_id=run.pk, verb=verb.replace("-", "_"), reason=reason, at=clock.now())
        return Response(RunDetailSerializer(run_named(sight_for(request), run.pk)).data)

    def _run(self, pk: str) -> Run:
        run = run_named(scope_for(self.request), int(pk))
        if run is None:
            raise NotFound("There is no such run.")
        return run
