"""Drills over REST: their reports in JSON, beginning one, canceling one, and signing one off."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.access import Scope
from changecontrol.api.base import (
    READ_REFUSALS,
    REFUSALS,
    ApiViewSet,
    Words,
    acting,
    command,
    listing,
    read,
    reading,
    scope_for,
    sight_for,
    wanted,
    yes_or_no,
)
from changecontrol.api.idempotency import idempotent
from changecontrol.api.runs import TROUBLE_HELP
from changecontrol.api.times import Moment, MomentFilter
from changecontrol.rules.roles import Ability
from changecontrol.workflow.trouble import trouble_of
from recovery.actions.drills import cancel_drill, sign_off_drill, start_drill
from recovery.actions.reports import export_drill_reports, print_drill_report
from recovery.api.corrective_actions import CorrectiveActionSerializer
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
from recovery.api.restores import RtoSerializer, rto_of
from recovery.lifecycles.drill import ENDED, DrillState
from recovery.models import Drill, DrillCheck, SignOff
from recovery.models.drill import Sabotage
from recovery.queries.drills import drills_of
from recovery.queries.reports import gaps_of, rpo_verdict, rto_verdict, with_report
from recovery.rules.levels import method_of
from recovery.rules.objectives import measure_rpo

UNFINISHED = {code: REFUSALS[code] for code in REFUSALS if code[0] == 409}
VERDICTS = "`pass`, `fail`, `no_data`, or `inconclusive` where the drill went further back than the RPO allows."


class NewDrill(PlaceWords):
    level = serializers.IntegerField(min_value=1, max_value=5)
    target_at = Moment(help_text="The time to go back to, with its offset.")
    scope = serializers.CharField(
        max_length=500, required=False, allow_blank=True, default="", help_text="What it covers and how, in words."
    )
    sabotage = serializers.ChoiceField(
        Sabotage.choices(),
        required=False,
        allow_blank=True,
        default="",
        help_text="What is broken on purpose in a copy; the drill passes where it is caught.",
    )


class SignOffWords(Words):
    note = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class SignOffSerializer(serializers.ModelSerializer[SignOff]):
    by = named("by")

    class Meta:
        model = SignOff
        fields = ["by", "at", "note"]
        read_only_fields = fields


class DrillCheckSerializer(serializers.ModelSerializer[DrillCheck]):
    class Meta:
        model = DrillCheck
        fields = ["name", "level", "is_passed", "sentence", "at"]
        read_only_fields = fields


class DrillSerializer(OfEnvironmentSerializer):
    """A drill. `asked_by` is null where it was held by schedule."""

    point = serializers.CharField(source="point.key", read_only=True)
    sabotage = serializers.ChoiceField(Sabotage.choices(), allow_blank=True, read_only=True)
    asked_by = named("asked_by")
    canceled_by = named("canceled_by")
    trouble = serializers.SerializerMethodField(help_text=TROUBLE_HELP)
    sign_off = serializers.SerializerMethodField()

    class Meta:
        model = Drill
        fields = [
            "id",
            "key",
            "tenant",
            "environment",
            "point",
            "level",
            "sabotage",
            "target_at",
            "state",
            "step",
            "sentence",
            "trouble",
            "scope",
            "asked_by",
            "declared_at",
            "decided_at",
            "provisioned_at",
            "restored_at",
            "validated_at",
            "finished_at",
            "canceled_at",
            "canceled_by",
            "cancel_reason",
            "sign_off",
        ]
        read_only_fields = fields

    def get_trouble(self, row: Drill) -> str:
        return trouble_of(row)

    @extend_schema_field(SignOffSerializer(allow_null=True))
    def get_sign_off(self, row: Drill) -> Any:
        signed = getattr(row, "sign_off", None)
        return SignOffSerializer(signed).data if signed else None


class DrillReportSerializer(DrillSerializer, WithProgress):
    """The report: targets beside what was measured, each check, and what must be done (BCK-7)."""

    rto_measured = serializers.SerializerMethodField()
    rto_verdict = serializers.SerializerMethodField(help_text=VERDICTS)
    rpo_verdict = serializers.SerializerMethodField(help_text=VERDICTS)
    rpo_measured_seconds = serializers.SerializerMethodField(
        help_text="Declared time minus the newest sentinel recovered; null where none was."
    )
    method = serializers.SerializerMethodField(help_text="What it asks, level by level.")
    gaps = serializers.SerializerMethodField(help_text="What it leaves open: not asked, not measured, or missed.")
    checks: Any = DrillCheckSerializer(many=True, read_only=True)
    corrective_actions: Any = CorrectiveActionSerializer(many=True, read_only=True)

    class Meta(DrillSerializer.Meta):
        fields = [
            *DrillSerializer.Meta.fields,
            "progress",
            "method",
            "rto_target_seconds",
            "rto_measured",
            "rto_verdict",
            "rpo_target_seconds",
            "rpo_measured_seconds",
            "rpo_verdict",
            "newest_sentinel_at",
            "trouble_found",
            "leftovers",
            "checks",
            "gaps",
            "corrective_actions",
        ]
        read_only_fields = fields

    def get_method(self, row: Drill) -> list[str]:
        return list(method_of(row.level))

    def get_gaps(self, row: Drill) -> list[str]:
        return list(gaps_of(row)) if row.state in ENDED else []

    @extend_schema_field(RtoSerializer)
    def get_rto_measured(self, row: Drill) -> Any:
        return rto_of(row)

    def get_rto_verdict(self, row: Drill) -> str:
        return rto_verdict(row)

    def get_rpo_verdict(self, row: Drill) -> str:
        return rpo_verdict(row)

    def get_rpo_measured_seconds(self, row: Drill) -> float | None:
        return seconds(measure_rpo(declared_at=row.declared_at, newest_sentinel_at=row.newest_sentinel_at))


def report_of(scope: Scope, pk: int | str) -> Any:
    """Return the report of a drill in sight as JSON values."""
    return DrillReportSerializer(first_of(with_report(drills_of(scope)), pk=pk)).data


class ReportFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    since = MomentFilter(help_text="ISO 8601; drills declared at or after it.")
    until = MomentFilter(help_text="ISO 8601; drills declared before it.")

    class Meta:
        model = Drill
        fields: list[str] = []


class DrillFilters(OfEnvironmentFilters):
    state = django_filters.MultipleChoiceFilter(choices=DrillState.choices())
    level = django_filters.TypedChoiceFilter(choices=[(level, str(level)) for level in range(1, 6)], coerce=int)
    is_sabotaged = yes_or_no(method="sabotaged")
    is_signed_off = yes_or_no("sign_off", lookup_expr="isnull", exclude=True)

    def sabotaged(self, rows: QuerySet[Drill], name: str, value: bool) -> QuerySet[Drill]:
        return rows.exclude(sabotage="") if value else rows.filter(sabotage="")


@listing(DrillSerializer)
class DrillViewSet(mixins.ListModelMixin, ApiViewSet[Drill]):
    """Drills you may see, newest first. Where one is overdue: `environments/?is_drill_overdue=true`."""

    queryset = Drill.objects.none()
    serializer_class = DrillSerializer
    filterset_class = DrillFilters
    seen_with = Ability.RECOVERY_VIEW
    parts_seen_with = {"reports": Ability.EVIDENCE_EXPORT}

    def get_queryset(self) -> QuerySet[Drill]:
        return drills_of(scope_for(self.request))

    @reading(DrillReportSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """The report of one drill, or how far it is."""
        return Response(report_of(scope_for(request), pk))

    @extend_schema(
        responses={
            (200, "application/pdf"): OpenApiResponse(OpenApiTypes.BINARY, "The report, for people."),
            **READ_REFUSALS,
            **UNFINISHED,
        }
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def pdf(self, request: Request, pk: str) -> HttpResponse:
        """The report of a drill that is over, as PDF; 409 while it goes on. That you took it is recorded."""
        drill = first_of(drills_of(scope_for(request)), pk=pk)
        printed = print_drill_report(actor=acting(request), drill_id=drill.pk, at=clock.now())
        return HttpResponse(printed.data, content_type=printed.media_type, headers=_as_download(printed.name))

    @extend_schema(
        operation_id="recovery_drills_reports_export",
        parameters=[
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="Drills declared at or after it."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Drills declared before it."),
        ],
        responses={
            (200, "application/x-ndjson"): OpenApiResponse(OpenApiTypes.BINARY, "A report a line, oldest first."),
            **READ_REFUSALS,
        },
    )
    @action(detail=False, pagination_class=None, filterset_class=ReportFilters)
    def reports(self, request: Request) -> StreamingHttpResponse:
        """Every report of a period, of failed and canceled drills too: the same bytes each time.

        That you took them is recorded.
        """
        found = export_drill_reports(actor=acting(request), at=clock.now(), **wanted(request, ReportFilters))
        return StreamingHttpResponse(found.lines, content_type="application/x-ndjson", headers=_as_download(found.name))

    @command(request=NewDrill, responses={201: DrillReportSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Begin a drill of one level that goes back to a time. The RTO clock starts now; 409 where one is under way."""
        words = read(NewDrill, request)
        environment = place_of(request, words)
        drill = start_drill(actor=acting(request), environment_id=environment.pk, at=clock.now(), **words)
        return Response(report_of(sight_for(request), drill.pk), status=201)

    @command(request=ReasonWords, responses=DrillReportSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: str) -> Response:
        """End a drill before it is done, with a reason. It clears away what it made, and proves nothing.

        409 where it clears away already or is over, and where what it asked is answered.
        """
        words = read(ReasonWords, request)
        drill = first_of(drills_of(sight_for(request)), pk=pk)
        cancel_drill(actor=acting(request), drill_id=drill.pk, at=clock.now(), **words)
        return Response(report_of(sight_for(request), drill.pk))

    @command(request=SignOffWords, responses=DrillReportSerializer)
    @action(detail=True, methods=["post"], url_path="sign-off")
    @idempotent
    def sign_off(self, request: Request, pk: str) -> Response:
        """Say that you have read the report of a drill that is over. Whoever ran it cannot."""
        words = read(SignOffWords, request)
        drill = first_of(drills_of(sight_for(request)), pk=pk)
        sign_off_drill(actor=acting(request), drill_id=drill.pk, at=clock.now(), **words)
        return Response(report_of(sight_for(request), drill.pk))


def _as_download(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
