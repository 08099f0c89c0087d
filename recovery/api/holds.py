"""Legal holds over REST: what may not go, whatever a policy says."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.api.base import ApiViewSet, acting, command, listing, read, reading, scope_for, sight_for, yes_or_no
from changecontrol.api.idempotency import idempotent
from changecontrol.rules.roles import Ability
from recovery.actions.holds import lift_hold, place_hold
from recovery.api.ground import (
    OfEnvironmentFilters,
    OfEnvironmentSerializer,
    PlaceWords,
    ReasonWords,
    first_of,
    named,
    place_of,
)
from recovery.models import LegalHold
from recovery.queries.history import holds_ever_of
from recovery.queries.points import points_of


class NewHold(PlaceWords, ReasonWords):
    name = serializers.CharField(max_length=120, help_text="The case.")
    point = serializers.CharField(
        max_length=120,
        required=False,
        allow_null=True,
        default=None,
        help_text="A point's key; null: everything of the environment.",
    )


class HoldSerializer(OfEnvironmentSerializer):
    """`point` is the key of what it keeps; null: everything of the environment."""

    point = serializers.CharField(source="point.key", read_only=True, allow_null=True, default=None)
    placed_by = named("placed_by")
    lifted_by = named("lifted_by")

    class Meta:
        model = LegalHold
        fields = [
            "id",
            "tenant",
            "environment",
            "point",
            "name",
            "reason",
            "placed_at",
            "placed_by",
            "lifted_at",
            "lifted_by",
        ]
        read_only_fields = fields


class HoldFilters(OfEnvironmentFilters):
    is_lifted = yes_or_no("lifted_at", lookup_expr="isnull", exclude=True)


@listing(HoldSerializer)
class HoldViewSet(mixins.ListModelMixin, ApiViewSet[LegalHold]):
    """Legal holds you may see, lifted ones too, newest first."""

    queryset = LegalHold.objects.none()
    serializer_class = HoldSerializer
    filterset_class = HoldFilters
    seen_with = Ability.RECOVERY_VIEW

    def get_queryset(self) -> QuerySet[LegalHold]:
        return holds_ever_of(scope_for(self.request))

    @reading(HoldSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """One legal hold."""
        return Response(self._told(first_of(holds_ever_of(scope_for(request)), pk=pk)))

    @command(request=NewHold, responses={201: HoldSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Keep a point, or everything of an environment, until the hold is lifted."""
        words = read(NewHold, request)
        environment = place_of(request, words)
        key = words.pop("point")
        rows = points_of(sight_for(request)).filter(environment=environment)
        point_id = None if key is None else first_of(rows, key=key).pk
        hold = place_hold(
            actor=acting(request), environment_id=environment.pk, point_id=point_id, at=clock.now(), **words
        )
        return Response(self._told(first_of(holds_ever_of(sight_for(request)), pk=hold.pk)), status=201)

    @command(request=ReasonWords, responses=HoldSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def lift(self, request: Request, pk: str) -> Response:
        """End a legal hold, with a reason. What it kept goes by the policy from now on."""
        words = read(ReasonWords, request)
        hold = first_of(holds_ever_of(sight_for(request)), pk=pk)
        lift_hold(actor=acting(request), hold_id=hold.pk, at=clock.now(), **words)
        return Response(self._told(first_of(holds_ever_of(sight_for(request)), pk=hold.pk)))

    def _told(self, hold: LegalHold) -> Any:
        return HoldSerializer(hold).data
