"""Changes over REST: the same actions as the pages, in other words."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.actions import approvals, changes, exports
from changecontrol.api.base import REFUSALS, acting, command, idempotent, one_of, scope_for
from changecontrol.api.serializers import (
    ChangeDetailSerializer,
    ChangeSerializer,
    CloseSerializer,
    ContentSerializer,
    DraftSerializer,
    EventSerializer,
    GateResultSerializer,
    NewChangeSerializer,
    NewVoteSerializer,
    ReasonSerializer,
    RevisionSerializer,
    RunDetailSerializer,
    ScheduleSerializer,
    SubmissionSerializer,
    VoteSerializer,
    WithdrawSerializer,
)
from changecontrol.errors import Invalid, NotFound
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import ChangeRequest, Requirement, Tenant, Vote
from changecontrol.queries import evidence
from changecontrol.rules.content import Content


class ChangeFilter(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """What a list of changes can be narrowed by; several states may be named."""

    state = django_filters.MultipleChoiceFilter(choices=ChangeState.choices())
    tenant = django_filters.CharFilter("tenant__slug")
    environment = django_filters.CharFilter("environments__slug")
    stage = django_filters.CharFilter()
    tier = django_filters.NumberFilter()
    requester = django_filters.CharFilter("requester__username")
    assignee = django_filters.CharFilter("assignee__username")
    title = django_filters.CharFilter(lookup_expr="icontains")

    class Meta:
        model = ChangeRequest
        fields: list[str] = []


class ChangeViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[ChangeRequest]):
    """Changes you may see, newest first."""

    queryset = ChangeRequest.objects.none()
    serializer_class = ChangeSerializer
    filterset_class = ChangeFilter
    lookup_field = "number"
    lookup_value_regex = "CHG-[0-9]{6,18}"

    def get_queryset(self) -> QuerySet[ChangeRequest]:
        rows = ChangeRequest.objects.select_related("tenant", "requester", "assignee", "plan")
        return access.visible(scope_for(self.request), rows.defer("draft"))

    @extend_schema(responses={200: ChangeDetailSerializer, **REFUSALS})
    def retrieve(self, request: Request, number: str) -> Response:
        return Response(self._detail(self._change(number)))

    @command(request=NewChangeSerializer, responses={201: ChangeDetailSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """File a draft. With `content`, its answers are kept at once; submitting is a command of its own."""
        words = _read(NewChangeSerializer, request)
        tenant = one_of(request, Tenant.objects.all(), slug=words["tenant"])
        actor, at = acting(request), clock.now()
        with transaction.atomic():
            change = changes.create_change(
                actor=actor, tenant_id=tenant.pk, title=words["title"], kind=words["kind"], type=words["type"], at=at
            )
            if "content" in words:
                content = {**change.draft, **words["content"]}
                change = changes.save_draft(
                    actor=actor, change_id=change.pk, content=content, seen_version=change.draft_version, at=at
                )
        return Response(self._detail(change), status=201)

    @command(request=DraftSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def draft(self, request: Request, number: str) -> Response:
        """Keep answers of a draft; what is not named stays. `seen_version` is the `draft_version` you read."""
        words = _read(DraftSerializer, request)
        change = self._change(number)
        saved = changes.save_draft(
            actor=acting(request),
            change_id=change.pk,
            content={**change.draft, **words["content"]},
            seen_version=words["seen_version"],
            at=clock.now(),
        )
        return Response(self._detail(saved))

    @command(request=None, responses=SubmissionSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def submit(self, request: Request, number: str) -> Response:
        """Submit the draft for assessment; also what was rejected or expired. Warnings stop nothing yet."""
        done = changes.submit_change(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        return Response({"change": self._detail(done.change), "warnings": list(done.warnings)})

    @extend_schema(methods=["GET"], responses={200: RevisionSerializer(many=True), **REFUSALS})
    @command(methods=["POST"], request=ContentSerializer, responses={201: SubmissionSerializer})
    @action(detail=True, methods=["get", "post"], pagination_class=None, filterset_class=None)
    def revisions(self, request: Request, number: str) -> Response:
        """List the revisions, oldest first; or write the next one, which is resolved and judged from the start."""
        if request.method == "GET":
            rows = self._change(number).revisions.select_related("author").order_by("number")
            return Response(RevisionSerializer(rows, many=True).data)
        return self._revise(request, number)

    @idempotent
    def _revise(self, request: Request, number: str) -> Response:
        words = _read(ContentSerializer, request)
        change = self._change(number)
        if change.revision is None:
            raise Invalid("This change was never submitted; save and submit its draft.")
        content = {**Content.from_json(change.revision.content).to_json(), **words}
        done = changes.revise_change(actor=acting(request), change_id=change.pk, content=content, at=clock.now())
        return Response({"change": self._detail(done.change), "warnings": list(done.warnings)}, status=201)

    @command(request=ReasonSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def hold(self, request: Request, number: str) -> Response:
        """Put the change on hold, with a reason."""
        reason = _read(ReasonSerializer, request)["reason"]
        return self._done(
            changes.hold_change(actor=acting(request), change_id=self._change(number).pk, reason=reason, at=clock.now())
        )

    @command(request=None, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def release(self, request: Request, number: str) -> Response:
        """End a hold: the change is resolved and judged again."""
        return self._done(
            changes.release_change(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        )

    @command(request=ReasonSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, number: str) -> Response:
        """Give the change up before its execution."""
        reason = _read(ReasonSerializer, request)["reason"]
        return self._done(
            changes.cancel_change(
                actor=acting(request), change_id=self._change(number).pk, reason=reason, at=clock.now()
            )
        )

    @command(request=ScheduleSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def schedule(self, request: Request, number: str) -> Response:
        """Set another planned start."""
        start = _read(ScheduleSerializer, request)["planned_start_at"]
        return self._done(
            changes.schedule_change(
                actor=acting(request), change_id=self._change(number).pk, planned_start_at=start, at=clock.now()
            )
        )

    @command(request=CloseSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def close(self, request: Request, number: str) -> Response:
        """Close a change in review, with its close code."""
        words = _read(CloseSerializer, request)
        return self._done(
            changes.close_change(
                actor=acting(request),
                change_id=self._change(number).pk,
                close_code=words["close_code"],
                note=words["note"],
                at=clock.now(),
            )
        )

    @command(request=NewVoteSerializer, responses={201: VoteSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def vote(self, request: Request, number: str) -> Response:
        """Cast a vote on the plan you read. A repeated vote is one vote; a superseded plan is refused with 409."""
        words = _read(NewVoteSerializer, request)
        vote = approvals.cast_vote(
            actor=acting(request),
            requirement_id=self._requirement(number, words["requirement"]),
            verdict=words["verdict"],
            seen_digest=words["seen_digest"],
            comment=words["comment"],
            at=clock.now(),
        )
        return Response(VoteSerializer(vote).data, status=201)

    @command(request=WithdrawSerializer, responses={201: VoteSerializer})
    @action(detail=True, methods=["post"], url_path="withdraw-vote")
    @idempotent
    def withdraw_vote(self, request: Request, number: str) -> Response:
        """Take your vote back, with a comment, until execution starts."""
        words = _read(WithdrawSerializer, request)
        vote = approvals.withdraw_vote(
            actor=acting(request),
            requirement_id=self._requirement(number, words["requirement"]),
            comment=words["comment"],
            at=clock.now(),
        )
        return Response(VoteSerializer(vote).data, status=201)

    @extend_schema(responses={200: OpenApiTypes.OBJECT, **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_class=None)
    def plan(self, request: Request, number: str) -> Response:
        """The current plan, as the document its digest is taken of."""
        change = self._change(number)
        if change.plan is None:
            raise NotFound("This change has no plan yet.")
        return Response({"digest": change.plan.digest, "document": change.plan.content})

    @extend_schema(responses={200: GateResultSerializer(many=True), **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_class=None)
    def gates(self, request: Request, number: str) -> Response:
        """Every verdict ever given, oldest first; the newest of each gate counts."""
        return Response(GateResultSerializer(self._change(number).gate_results.order_by("id"), many=True).data)

    @extend_schema(responses={200: OpenApiTypes.OBJECT, **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_class=None)
    def approvals(self, request: Request, number: str) -> Response:
        """Every round with its policy as copied, its requirements, and the votes cast."""
        change = self._change(number)
        requirements = Requirement.objects.filter(round__change=change).select_related("round")
        votes = Vote.objects.filter(requirement__round__change=change).select_related("voter", "acting_for")
        return Response(
            {
                "rounds": evidence.round_facts(change),
                "requirements": [
                    {
                        "id": one.pk,
                        "round": one.round.number,
                        "stage": one.stage,
                        "stage_name": one.stage_name,
                        "name": one.name,
                        "role": one.role,
                        "quorum": one.quorum,
                    }
                    for one in requirements.order_by("round__number", "stage", "position")
                ],
                "votes": VoteSerializer(votes.order_by("id"), many=True).data,
            }
        )

    @extend_schema(responses={200: RunDetailSerializer, **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_class=None)
    def run(self, request: Request, number: str) -> Response:
        """The newest rollout of the change, with its targets."""
        rows = self._change(number).runs.filter(kind="rollout").select_related("change").order_by("-id")
        run = rows.prefetch_related("targets__environment", "targets__cohort").first()
        if run is None:
            raise NotFound("This change has no run yet.")
        return Response(RunDetailSerializer(run).data)

    @extend_schema(responses={200: EventSerializer(many=True), **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_class=None)
    def timeline(self, request: Request, number: str) -> Response:
        """The audit events of the change, oldest first, with their chain."""
        return Response(EventSerializer(self._change(number).auditevent_set.order_by("id"), many=True).data)

    @extend_schema(responses={200: OpenApiTypes.OBJECT, **REFUSALS})
    @action(detail=True, pagination_class=None, filterset_class=None)
    def evidence(self, request: Request, number: str) -> Response:
        """What is kept as evidence, by SHA-256."""
        kept = evidence.artefacts(self._change(number))
        fields = ("name", "media_type", "sha256", "size", "source", "created_at")
        return Response([{field: getattr(one, field) for field in fields} for one in kept])

    @extend_schema(
        responses={(200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The pack, a zip file."), **REFUSALS}
    )
    @action(detail=True, url_path="evidence-pack", pagination_class=None, filterset_class=None)
    def evidence_pack(self, request: Request, number: str) -> HttpResponse:
        """The evidence pack: signed, and verified offline by the `verify.py` in it."""
        pack = exports.export_evidence_pack(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        return HttpResponse(
            pack.data,
            content_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{pack.name}"', "Cache-Control": "no-store"},
        )

    def _change(self, number: str) -> ChangeRequest:
        rows = ChangeRequest.objects.select_related("tenant", "requester", "assignee", "plan", "revision__author")
        return one_of(self.request, rows, pk=int(number.removeprefix("CHG-")))

    def _requirement(self, number: str, requirement_id: int) -> int:
        """Return the requirement's id where it is one of this change."""
        rows = Requirement.objects.filter(round__change=self._change(number))
        return one_of(self.request, rows, pk=requirement_id).pk

    def _detail(self, change: ChangeRequest) -> Any:
        return ChangeDetailSerializer(change).data

    def _done(self, change: ChangeRequest) -> Response:
        return Response(self._detail(change))


def _read(shape: Any, request: Request) -> dict[str, Any]:
    words = shape(data=request.data)
    words.is_valid(raise_exception=True)
    read: dict[str, Any] = words.validated_data
    return read
