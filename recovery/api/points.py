"""Recovery points over REST: what there is, where it lies, what was proved of it; and registering another tool's."""

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
from changecontrol.api.times import Moment, MomentFilter
from changecontrol.errors import Invalid
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.drills import drill_point
from recovery.actions.points import NewPart, NewPoint, register_point
from recovery.api.drills import DrillReportSerializer, report_of
from recovery.api.ground import (
    OfEnvironmentFilters,
    OfEnvironmentSerializer,
    PlaceWords,
    first_of,
    named,
    place_of,
)
from recovery.api.holds import HoldSerializer
from recovery.lifecycles.point import PointState
from recovery.models import PointCopy, PointPart, RecoveryPoint, Verification
from recovery.models.backup import BackupKind
from recovery.models.point import PartKind
from recovery.ports.postgres import format_lsn, parse_lsn
from recovery.queries.points import holds_of, points_of

PARTS_LIMIT = 1_000
BYTES_LIMIT = 2**53 - 1
"""What JSON carries exactly everywhere: the size of a point is in its event, too."""
MODULES_LIMIT = 5_000
_SHA256 = r"^[0-9a-f]{64}$"
_COMMIT = r"^[0-9a-f]{7,64}$"
# As PostgreSQL writes it; the database keeps 63 bits of it.
_LSN = r"^[0-7]?[0-9A-Fa-f]{1,7}/[0-9A-Fa-f]{1,8}$"


@extend_schema_field({"type": "string", "pattern": _LSN, "example": "0/3000028"})
class Lsn(serializers.RegexField):
    """A WAL position as PostgreSQL writes it; kept as its number of bytes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(_LSN, **options)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        found = super().run_validation(data)
        return parse_lsn(found) if isinstance(found, str) else found

    def to_representation(self, value: Any) -> str:
        return format_lsn(value)


class NewPartWords(Words):
    kind = serializers.ChoiceField(PartKind.choices())
    key = serializers.CharField(max_length=500, help_text="Below the environment's own place in the policy's store.")
    size = serializers.IntegerField(min_value=0, max_value=BYTES_LIMIT, help_text="In bytes.")
    sha256 = serializers.RegexField(_SHA256)
    started_at = Moment()
    finished_at = Moment()


class NewPointWords(PlaceWords):
    key = serializers.CharField(max_length=120, help_text="Its name in the store, unique within the environment.")
    kind = serializers.ChoiceField(BackupKind.choices())
    parent = serializers.CharField(  # type: ignore[assignment]  # DRF's own name
        max_length=120, required=False, allow_null=True, default=None, help_text="The key of what it builds on."
    )
    started_at = Moment()
    consistent_at = Moment(help_text="The moment that restoring it alone leads to.")
    finished_at = Moment()
    parts: Any = NewPartWords(  # type: ignore[call-arg]  # what a list takes
        many=True, allow_empty=False, max_length=PARTS_LIMIT, help_text="Its evidence among them."
    )
    system_identifier = serializers.RegexField(r"^[0-9]{1,20}$", required=False, allow_blank=True, default="")
    server_version = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    timeline = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False, default=0)
    start_lsn = Lsn(required=False, default=0)
    stop_lsn = Lsn(required=False, default=0)
    filestore_at = Moment(required=False, allow_null=True, default=None, help_text="When attachments were copied.")
    git_commit = serializers.RegexField(_COMMIT, required=False, allow_blank=True, default="")
    image = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    modules = serializers.DictField(
        child=serializers.CharField(max_length=64), required=False, default=dict, help_text="Version by name."
    )
    locked_until = Moment(required=False, allow_null=True, default=None)

    def validate_parts(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if sum(one["size"] for one in parts) > BYTES_LIMIT:
            raise serializers.ValidationError(f"A point has at most {BYTES_LIMIT:,} bytes.")
        return parts

    def validate_modules(self, modules: dict[str, str]) -> dict[str, str]:
        if len(modules) > MODULES_LIMIT or any(len(name) > 120 for name in modules):
            raise serializers.ValidationError(f"At most {MODULES_LIMIT:,} modules, each of at most 120 characters.")
        return modules


class PointPartSerializer(serializers.ModelSerializer[PointPart]):
    class Meta:
        model = PointPart
        fields = ["kind", "key", "size", "sha256", "started_at", "finished_at"]
        read_only_fields = fields


class PointCopySerializer(serializers.ModelSerializer[PointCopy]):
    class Meta:
        model = PointCopy
        fields = ["store", "stored_at", "locked_until", "lock_told_at"]
        read_only_fields = fields


class VerificationSerializer(serializers.ModelSerializer[Verification]):
    class Meta:
        model = Verification
        fields = ["level", "is_passed", "sentence", "at", "drill"]
        read_only_fields = fields


class PointSerializer(OfEnvironmentSerializer):
    """A recovery point. `level` is the highest that its checks prove; `backup` null: another tool made it."""

    policy_version = serializers.IntegerField(source="policy.version", read_only=True)
    backup = serializers.IntegerField(source="run_id", read_only=True, allow_null=True)
    parent = serializers.CharField(  # type: ignore[assignment]  # DRF's own name
        source="parent.key", read_only=True, allow_null=True, default=None
    )
    start_lsn = Lsn(read_only=True)
    stop_lsn = Lsn(read_only=True)
    removal_asked_by = named("removal_asked_by")
    copies: Any = PointCopySerializer(many=True, read_only=True)

    class Meta:
        model = RecoveryPoint
        fields = [
            "id",
            "tenant",
            "environment",
            "key",
            "kind",
            "state",
            "level",
            "checked_at",
            "policy_version",
            "backup",
            "parent",
            "started_at",
            "consistent_at",
            "finished_at",
            "filestore_at",
            "system_identifier",
            "server_version",
            "timeline",
            "start_lsn",
            "stop_lsn",
            "git_commit",
            "image",
            "size",
            "copies",
            "locked_until",
            "removal_asked_at",
            "removal_asked_by",
            "removed_at",
        ]
        read_only_fields = fields


class OperatorBackupSerializer(serializers.Serializer[Any]):
    """The base backup that an operator keeps: `name` is that of its cluster, with its namespace."""

    name = serializers.CharField()
    backup = serializers.CharField()
    destination = serializers.CharField(allow_blank=True, default="")
    object_store = serializers.CharField(allow_blank=True, default="")


class PointDetailSerializer(PointSerializer):
    """A point with its parts, every check of it, oldest first, and the legal holds in force that keep it."""

    modules = serializers.DictField(child=serializers.CharField(), read_only=True)
    parts: Any = PointPartSerializer(many=True, read_only=True)
    verifications: Any = VerificationSerializer(many=True, read_only=True)
    holds = serializers.SerializerMethodField()
    operator_backup = OperatorBackupSerializer(
        source="cluster_facts", read_only=True, allow_null=True, help_text="What CloudNativePG keeps; else null."
    )

    class Meta(PointSerializer.Meta):
        fields = [*PointSerializer.Meta.fields, "modules", "parts", "operator_backup", "verifications", "holds"]
        read_only_fields = fields

    @extend_schema_field(HoldSerializer(many=True))
    def get_holds(self, row: RecoveryPoint) -> Any:
        of_environment = holds_of(self.context["scope"]).filter(environment=row.environment)
        return HoldSerializer([one for one in of_environment if one.point_id in {None, row.pk}], many=True).data


class PointDrillWords(Words):
    level = serializers.IntegerField(min_value=1, max_value=5)


class PointFilters(OfEnvironmentFilters):
    state = django_filters.MultipleChoiceFilter(choices=PointState.choices())
    kind = django_filters.ChoiceFilter(choices=BackupKind.choices())
    min_level = django_filters.TypedChoiceFilter(
        "level", lookup_expr="gte", choices=[(level, str(level)) for level in range(6)], coerce=int
    )
    since = MomentFilter("consistent_at", lookup_expr="gte", help_text="ISO 8601; points consistent at or after it.")
    until = MomentFilter("consistent_at", lookup_expr="lt", help_text="ISO 8601; points consistent before it.")
    is_going = yes_or_no(
        "removal_asked_at", lookup_expr="isnull", exclude=True, help_text="Whether its removal was asked for."
    )


@listing(PointSerializer)
class PointViewSet(mixins.ListModelMixin, ApiViewSet[RecoveryPoint]):
    """Recovery points you may see, removed ones too, newest record first."""

    queryset = RecoveryPoint.objects.none()
    serializer_class = PointSerializer
    filterset_class = PointFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[RecoveryPoint]:
        return points_of(scope_for(self.request)).select_related("policy", "parent", "removal_asked_by")

    @reading(PointDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One point."""
        return Response(self._told(first_of(self.get_queryset(), pk=pk)))

    @command(request=NewPointWords, responses={201: PointDetailSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Register a point that another tool has made, where the policy's engine is `external`.

        It lies in the policy's store, and is `copied` until a drill has restored, started and questioned it.
        """
        words = read(NewPointWords, request)
        environment = place_of(request, words)
        point = register_point(
            actor=acting(request),
            environment_id=environment.pk,
            point=self._new(environment, words),
            at=clock.now(),
        )
        return Response(self._told(point), status=201)

    @command(request=PointDrillWords, responses={201: DrillReportSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def drill(self, request: Request, pk: str) -> Response:
        """Begin a drill of this point at its own moment, whatever it is worth: one that broke is mended by a pass."""
        words = read(PointDrillWords, request)
        point = first_of(points_of(sight_for(request)), pk=pk)
        drill = drill_point(actor=acting(request), point_id=point.pk, at=clock.now(), **words)
        return Response(report_of(sight_for(request), drill.pk), status=201)

    def _new(self, environment: Environment, words: dict[str, Any]) -> NewPoint:
        parent, parts = words.pop("parent"), words.pop("parts")
        rows = points_of(sight_for(self.request)).filter(environment=environment)
        known = None if parent is None else rows.filter(key=parent).first()
        if parent is not None and known is None:
            sentence = f"There is no point called “{parent}” here."
            raise Invalid(sentence, fields={"parent": [sentence]})
        # The action puts the policy's store in its place.
        return NewPoint(
            **words,
            store="",
            parent_id=known.pk if known else None,
            parts=tuple(NewPart(**one) for one in parts),
        )

    def _told(self, point: RecoveryPoint) -> Any:
        context = {**self.get_serializer_context(), "scope": sight_for(self.request)}
        return PointDetailSerializer(point, context=context).data
