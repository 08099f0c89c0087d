"""What can be said of one environment's recovery: how fresh, how far back, what is wrong, what would go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.api.base import (
    ApiViewSet,
    Words,
    acting,
    command,
    read,
    reading,
    scope_for,
    sight_for,
    wanted,
    yes_or_no,
)
from changecontrol.api.idempotency import idempotent
from changecontrol.api.times import MomentFilter
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.adoptions import ask_adoption
from recovery.actions.comparisons import ask_unknown_removal
from recovery.actions.locking import policy_of
from recovery.actions.retention import ask_retention
from recovery.api.alarms import AlarmSerializer, among, watched_for
from recovery.api.ground import ReasonWords, first_of, named, seconds
from recovery.models import Disagreement, RecoveryPoint
from recovery.models.policy import Engine
from recovery.queries.catalogue import usage_in
from recovery.queries.comparison import comparison_of, disagreements_of
from recovery.queries.freshness import freshness_of
from recovery.queries.overview import Standing, environments_in, standings
from recovery.queries.points import coverage_of
from recovery.queries.restores import preview_of
from recovery.queries.upkeep import removal_of
from recovery.rules.comparison import DifferenceKind
from recovery.rules.coverage import Coverage
from recovery.rules.faults import FaultKind
from recovery.rules.retention import Retention

POINTS_LIMIT = 10_000


class ObjectivesSerializer(serializers.Serializer[Any]):
    """The strictest RTO and RPO of the processes the environment supports, and whose each is."""

    rto_seconds = serializers.FloatField()
    rto_of = serializers.CharField()
    rpo_seconds = serializers.FloatField()
    rpo_of = serializers.CharField()


class FreshnessSerializer(serializers.Serializer[Any]):
    """The newest verified point: what the gate asks. `age_seconds` is of its data, not of its check."""

    is_verified = serializers.BooleanField()
    sentence = serializers.CharField()
    point = serializers.CharField(source="point_key", help_text="A key; empty where no point is verified.")
    level = serializers.IntegerField()
    consistent_at = serializers.DateTimeField(allow_null=True)
    age_seconds = serializers.SerializerMethodField()
    checked_at = serializers.DateTimeField(allow_null=True)

    def get_age_seconds(self, found: Any) -> float | None:
        return seconds(found.age)


class SpanSerializer(serializers.Serializer[Any]):
    start_at = serializers.DateTimeField()
    end_at = serializers.DateTimeField()


class ReachSerializer(SpanSerializer):
    point = serializers.CharField()


class AskedTimeSerializer(serializers.Serializer[Any]):
    """One time: whether there is a way back to it, from which point, and how long that is expected to take."""

    at = serializers.DateTimeField()
    is_covered = serializers.BooleanField()
    sentence = serializers.CharField(help_text="Why not, and the last safe time; empty where it is covered.")
    last_safe_at = serializers.DateTimeField(allow_null=True)
    point = serializers.CharField(allow_null=True)
    lost_seconds = serializers.FloatField(allow_null=True, help_text="What a restore to it would not bring back.")
    expected_seconds = serializers.FloatField(allow_null=True)
    expected_error_seconds = serializers.FloatField(allow_null=True)


class CoverageSerializer(serializers.Serializer[Any]):
    """The times that can be restored, ends included, the gaps between them, and how far each point reaches."""

    spans = SpanSerializer(many=True)
    gaps = SpanSerializer(many=True)
    reaches = ReachSerializer(many=True)
    asked = AskedTimeSerializer(allow_null=True)


class FaultSerializer(serializers.Serializer[Any]):
    """Something a check found. `is_bad`: no verified point is left to go back to."""

    kind = serializers.ChoiceField(FaultKind.choices())
    sentence = serializers.CharField()
    since = serializers.DateTimeField(help_text="When it was found.")
    is_bad = serializers.BooleanField()
    number = serializers.IntegerField(help_text="The `id` of the point, or else of the drill, that says more.")


class StandingSerializer(serializers.Serializer[Any]):
    """Where an environment stands. What a policy says is null, and `alarms` empty, where there is none yet."""

    id = serializers.IntegerField(source="environment.pk")
    tenant = serializers.CharField(source="environment.tenant.slug")
    environment = serializers.CharField(source="environment.slug")
    policy = serializers.IntegerField(source="watched.policy.pk", allow_null=True, default=None)
    policy_version = serializers.IntegerField(source="watched.policy.version", allow_null=True, default=None)
    engine = serializers.ChoiceField(Engine.choices(), source="watched.policy.engine", allow_null=True, default=None)
    objectives = serializers.SerializerMethodField()
    last_success_at = serializers.DateTimeField(
        source="watched.facts.last_success_at", allow_null=True, default=None, help_text="Of what is not broken."
    )
    last_safe_at = serializers.SerializerMethodField(help_text="The newest time there is a way back to.")
    rpo_now_seconds = serializers.SerializerMethodField(help_text="What would be lost if it happened now.")
    is_rpo_met = serializers.BooleanField()
    freshness = FreshnessSerializer()
    last_drill_at = serializers.DateTimeField(source="watched.facts.last_drill_at", allow_null=True, default=None)
    drill_due_at = serializers.DateTimeField(source="watched.drill_due_at", allow_null=True, default=None)
    is_drill_overdue = serializers.BooleanField()
    alarms = serializers.SerializerMethodField(help_text="What is wrong now, worst first.")
    faults = serializers.SerializerMethodField(help_text="What checks found and nobody has mended, worst first.")

    @extend_schema_field(ObjectivesSerializer)
    def get_objectives(self, row: Standing) -> Any:
        found = row.objectives
        told = {"rto_of": found.rto_of, "rpo_of": found.rpo_of}
        return {"rto_seconds": seconds(found.rto), "rpo_seconds": seconds(found.rpo), **told}

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_last_safe_at(self, row: Standing) -> Any:
        found = row.coverage.last_safe_before(row.at)
        return None if found is None else serializers.DateTimeField().to_representation(found)

    def get_rpo_now_seconds(self, row: Standing) -> float | None:
        return seconds(row.rpo_now)

    @extend_schema_field(AlarmSerializer(many=True))
    def get_alarms(self, row: Standing) -> Any:
        return AlarmSerializer(row.watched.alarms if row.watched else (), many=True).data

    @extend_schema_field(FaultSerializer(many=True))
    def get_faults(self, row: Standing) -> Any:
        return FaultSerializer(row.watched.faults if row.watched else (), many=True).data


class UsageSerializer(serializers.Serializer[Any]):
    """What an environment has in its stores; sizes in bytes. `copy_count` of its points lie in more than one place."""

    point_count = serializers.IntegerField()
    point_size = serializers.IntegerField()
    attachment_count = serializers.IntegerField()
    attachment_size = serializers.IntegerField(help_text="What copies of attachments added to the store.")
    wal_size = serializers.IntegerField(help_text="Before compression.")
    copy_count = serializers.IntegerField()
    size = serializers.IntegerField()
    oldest_at = serializers.DateTimeField(allow_null=True)


class GoingSerializer(serializers.ModelSerializer[RecoveryPoint]):
    class Meta:
        model = RecoveryPoint
        fields = ["key", "consistent_at", "size", "removal_asked_at"]
        read_only_fields = fields


class StayingSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    reasons = serializers.ListField(child=serializers.CharField())


class RetentionSerializer(serializers.Serializer[Any]):
    """`goes` in the order it may be removed, dependants first; `stays` with every reason.

    `lost` are the times, ends not included where another point holds them, that could be restored no more without it.
    """

    goes = GoingSerializer(many=True)
    stays = StayingSerializer(many=True)
    lost = SpanSerializer(many=True)


class SpanWords(Words):
    start_at = serializers.DateTimeField()
    end_at = serializers.DateTimeField()


class RetentionWords(Words):
    seen_goes = serializers.ListField(
        child=serializers.CharField(max_length=120),
        max_length=POINTS_LIMIT,
        help_text="The keys of all that would go, as you read them.",
    )
    seen_lost = serializers.ListField(
        child=SpanWords(),
        max_length=POINTS_LIMIT,
        default=list,
        help_text="The times that would be lost with them, as you read them in `lost`.",
    )


class DifferenceSerializer(serializers.ModelSerializer[Disagreement]):
    """One thing that only the catalogue or only a store knows. `goes_at` null: it stays until somebody decides."""

    kind = serializers.ChoiceField(DifferenceKind.choices())
    point = serializers.CharField(source="point.key", allow_null=True, default=None, read_only=True)
    asked_by = named("asked_by")
    adoption_asked_by = named("adoption_asked_by")

    class Meta:
        model = Disagreement
        fields = [
            *("id", "store", "kind", "name", "sentence", "point", "object_count", "size", "stored_at"),
            *("found_at", "goes_at", "asked_at", "asked_by", "adoption_asked_at", "adoption_asked_by", "refusal"),
        ]
        read_only_fields = fields


class ComparisonSerializer(serializers.Serializer[Any]):
    """What catalogue and stores disagreed on when last compared; `trouble` is why they could not be since."""

    compared_at = serializers.DateTimeField(allow_null=True)
    trouble = serializers.CharField()
    differences = DifferenceSerializer(many=True)


class DifferenceWords(ReasonWords):
    difference = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Of the kind `unknown_set`.")


class StandingFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    tenant = django_filters.CharFilter("tenant__slug", max_length=63, help_text="A slug.")
    environment = django_filters.CharFilter("slug", max_length=63, help_text="A slug.")
    has_policy = yes_or_no(method="watched")
    has_alarm = yes_or_no(method="alarmed", help_text="Whether anything is wrong with its backups now.")
    is_drill_overdue = yes_or_no(method="overdue", help_text="Whether a drill should have passed and has not.")

    def watched(self, rows: QuerySet[Environment], name: str, value: bool) -> QuerySet[Environment]:
        return among(rows, watched_for(self.request), value)

    def alarmed(self, rows: QuerySet[Environment], name: str, value: bool) -> QuerySet[Environment]:
        return among(rows, (key for key, one in watched_for(self.request).items() if one.alarms), value)

    def overdue(self, rows: QuerySet[Environment], name: str, value: bool) -> QuerySet[Environment]:
        at = clock.now()
        return among(rows, (key for key, one in watched_for(self.request).items() if one.drill_due_at < at), value)


class CoverageFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    at = MomentFilter(help_text="ISO 8601; a time to go back to.")

    class Meta:
        model = Environment
        fields: list[str] = []


class EnvironmentRecoveryViewSet(ApiViewSet[Environment]):
    """The environments whose recovery you may see, newest first, those without a policy too."""

    queryset = Environment.objects.none()
    serializer_class = StandingSerializer
    filterset_class = StandingFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[Environment]:
        return environments_in(scope_for(self.request)).prefetch_related("processes")

    @reading(StandingSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Where environments stand: how far back, how fresh, what is wrong."""
        found = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self._told(found or []))

    @reading(StandingSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Where one environment stands."""
        return Response(self._told([self._environment(pk)])[0])

    @reading(FreshnessSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def freshness(self, request: Request, pk: str) -> Response:
        """Is there a verified point, how old, of which level: what the gate asks before it lets a change start."""
        return Response(FreshnessSerializer(freshness_of(self._environment(pk), clock.now())).data)

    @reading(
        CoverageSerializer,
        parameters=[
            OpenApiParameter("at", OpenApiTypes.DATETIME, description="A time to go back to, with its offset.")
        ],
    )
    @action(detail=True, pagination_class=None, filterset_class=CoverageFilters)
    def coverage(self, request: Request, pk: str) -> Response:
        """The times this environment can be brought back to; with `at`, whether that one is among them."""
        environment = self._environment(pk)
        asked = wanted(request, CoverageFilters)["at"]
        return Response(CoverageSerializer(_covered(environment, coverage_of(environment), asked=asked)).data)

    @reading(UsageSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def usage(self, request: Request, pk: str) -> Response:
        """What it has in its stores."""
        environment = self._environment(pk)
        return Response(UsageSerializer(usage_in([environment])[environment.pk]).data)

    @reading(RetentionSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def retention(self, request: Request, pk: str) -> Response:
        """Which points would go by the policy, which times with them, why the rest stays. Looking removes nothing."""
        environment = self._environment(pk)
        return Response(_retained(environment, removal_of(policy_of(environment), at=clock.now())))

    @command(request=RetentionWords, responses=RetentionSerializer)
    @retention.mapping.post  # type: ignore[untyped-decorator]  # the library has no types
    @idempotent
    def ask_retention(self, request: Request, pk: str) -> Response:
        """Have removed exactly what you read that would go; 409 where that is another set now."""
        words = read(RetentionWords, request)
        words["seen_lost"] = [(one["start_at"], one["end_at"]) for one in words["seen_lost"]]
        environment = first_of(environments_in(sight_for(request)), pk=pk)
        plan = ask_retention(actor=acting(request), environment_id=environment.pk, at=clock.now(), **words)
        return Response(_retained(environment, plan))

    @reading(ComparisonSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def comparison(self, request: Request, pk: str) -> Response:
        """What its catalogue and its stores disagree on, losses first."""
        return Response(_compared(self._environment(pk)))

    @command(request=DifferenceWords, responses=ComparisonSerializer)
    @comparison.mapping.post  # type: ignore[untyped-decorator]  # the library has no types
    @idempotent
    def let_go(self, request: Request, pk: str) -> Response:
        """Let a whole point go that the catalogue does not name. 409 for anything else, and while a hold keeps it."""
        words = read(DifferenceWords, request)
        environment = first_of(environments_in(sight_for(request)), pk=pk)
        found = first_of(Disagreement.objects.filter(environment=environment), pk=words["difference"])
        ask_unknown_removal(actor=acting(request), disagreement_id=found.pk, reason=words["reason"], at=clock.now())
        return Response(_compared(environment))

    @command(request=DifferenceWords, responses=ComparisonSerializer)
    @action(detail=True, methods=["post"], url_path="comparison/take-in", pagination_class=None, filterset_class=None)
    @idempotent
    def take_in(self, request: Request, pk: str) -> Response:
        """Have a whole point read that the catalogue does not name, and taken in where it belongs.

        It is gone from the comparison once it is a point; its `refusal` says why it is none. 409 for anything else.
        """
        words = read(DifferenceWords, request)
        environment = first_of(environments_in(sight_for(request)), pk=pk)
        found = first_of(Disagreement.objects.filter(environment=environment), pk=words["difference"])
        ask_adoption(actor=acting(request), disagreement_id=found.pk, reason=words["reason"], at=clock.now())
        return Response(_compared(environment))

    def _environment(self, pk: str) -> Environment:
        return first_of(self.get_queryset(), pk=pk)

    def _told(self, environments: Sequence[Environment]) -> Any:
        found = standings(environments, watched=watched_for(self.request), at=clock.now())
        return StandingSerializer(found, many=True).data


def _compared(environment: Environment) -> Any:
    upkeep = comparison_of(environment)
    return ComparisonSerializer(
        {
            "compared_at": upkeep.done_at if upkeep else None,
            "trouble": upkeep.trouble if upkeep else "",
            "differences": disagreements_of(environment),
        }
    ).data


def _covered(environment: Environment, coverage: Coverage, *, asked: Any) -> dict[str, Any]:
    reaches = sorted(coverage.reaches.items(), key=lambda one: (one[1], one[0]))
    return {
        "spans": [{"start_at": one.start, "end_at": one.end} for one in coverage.spans],
        "gaps": [{"start_at": start, "end_at": end} for start, end in coverage.gaps],
        "reaches": [{"point": key, "start_at": span.start, "end_at": span.end} for key, span in reaches],
        "asked": None if asked is None else _asked(environment, coverage, at=asked),
    }


def _asked(environment: Environment, coverage: Coverage, *, at: Any) -> dict[str, Any]:
    preview = preview_of(environment, coverage=coverage, target_at=at, at=clock.now())
    expected = None if preview is None else preview.expected
    return {
        "at": at,
        "is_covered": preview is not None,
        "sentence": coverage.refusal(at),
        "last_safe_at": coverage.last_safe_before(at),
        "point": None if preview is None else preview.point.key,
        "lost_seconds": None if preview is None else seconds(preview.lost),
        "expected_seconds": None if expected is None else seconds(expected.takes),
        "expected_error_seconds": None if expected is None else seconds(expected.error),
    }


def _retained(environment: Environment, plan: Retention) -> Any:
    points = RecoveryPoint.objects.filter(environment=environment, key__in=plan.goes)
    known = {one.key: one for one in points}
    stays = [{"key": key, "reasons": reasons} for key, reasons in plan.stays.items()]
    lost = [{"start_at": one.start, "end_at": one.end} for one in plan.lost]
    return RetentionSerializer({"goes": [known[key] for key in plan.goes], "stays": stays, "lost": lost}).data
