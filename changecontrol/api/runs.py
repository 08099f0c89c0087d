"""Runs over REST: where they stand, and what people may ask of them."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.actions.runs import ask_run
from changecontrol.api.base import REFUSALS, acting, command, idempotent, one_of, scope_for
from changecontrol.api.serializers import ReasonSerializer, RunDetailSerializer, RunLogSerializer, RunSerializer
from changecontrol.lifecycles.run import HUMAN_VERBS
from changecontrol.models import Run

LOG_LINES = 500


class RunViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Run]):
    """Runs you may see, newest first."""

    queryset = Run.objects.none()
    serializer_class = RunSerializer
    filterset_fields = ["state", "kind"]
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Run]:
        return access.visible(scope_for(self.request), Run.objects.select_related("change"))

    @extend_schema(responses={200: RunDetailSerializer, **REFUSALS})
    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self._detail(pk))

    @extend_schema(responses={200: RunLogSerializer(many=True), **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_fields=None)
    def log(self, request: Request, pk: str) -> Response:
        """The newest lines of the run's log, newest first, at most 500."""
        run = one_of(request, Run.objects.all(), pk=pk)
        return Response(RunLogSerializer(run.log.order_by("-id")[:LOG_LINES], many=True).data)

    @command(request=ReasonSerializer, responses=RunDetailSerializer)
    @action(detail=True, methods=["post"], url_path=f"(?P<verb>{'|'.join(v.replace('_', '-') for v in HUMAN_VERBS)})")
    @idempotent
    def ask(self, request: Request, pk: str, verb: str) -> Response:
        """Ask something of a run; its next tick obeys. Pause, abort and roll back are never blocked by a window."""
        words = ReasonSerializer(data=request.data)
        words.is_valid(raise_exception=True)
        run = one_of(request, Run.objects.all(), pk=pk)
        ask_run(
            actor=acting(request),
            run_id=run.pk,
            verb=verb.replace("-", "_"),
            reason=words.validated_data["reason"],
            at=clock.now(),
        )
        return Response(self._detail(pk))

    def _detail(self, pk: str) -> Any:
        rows = Run.objects.select_related("change").prefetch_related("targets__environment", "targets__cohort")
        return RunDetailSerializer(one_of(self.request, rows, pk=pk)).data
