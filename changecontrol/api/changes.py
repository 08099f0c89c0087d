"""Changes over REST: the same actions as the pages, in other words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import access, clock
from changecontrol.access import Actor
from changecontrol.actions import approvals, changes, exports
from changecontrol.actions.refusals import audited
from changecontrol.api.audit import EventSerializer
from changecontrol.api.base import (
    READ_REFUSALS,
    ApiViewSet,
    NoWords,
    acting,
    command,
    one_of,
    read,
    reading,
    scope_for,
    sight_for,
    wanted,
)
from changecontrol.api.idempotency import idempotent
from changecontrol.api.paging import Cursor, page, size_of
from changecontrol.api.runs import RunDetailSerializer
from changecontrol.api.serializers import (
    ApprovalsSerializer,
    ArtefactSerializer,
    ChangeDetailSerializer,
    ChangeSerializer,
    CloseSerializer,
    ContentSerializer,
    DraftSerializer,
    GateResultSerializer,
    HandOverSerializer,
    NewChangeSerializer,
    NewVoteSerializer,
    PlanSerializer,
    ReasonSerializer,
    RequirementSerializer,
    RevisionSerializer,
    ScheduleSerializer,
    SubmissionSerializer,
    VoteSerializer,
    WithdrawSerializer,
)
from changecontrol.errors import Invalid, NotFound
from changecontrol.lifecycles.change import ChangeKind, ChangeState, ChangeType
from changecontrol.models import ChangeRequest, Requirement, Tenant, User, Vote
from changecontrol.models.estate import Stage
from changecontrol.queries import evidence
from changecontrol.queries.changes import ChangeFilter, change_by_number, changes_page, timeline_of
from changecontrol.queries.runs import latest_run
from changecontrol.rules.content import Content
from changecontrol.rules.roles import Ability

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class ChangeFilters(django_filters.FilterSet):  # type: ignore[misc]  # the library has no types
    """What a list of changes can be narrowed by; several states may be named."""

    q = django_filters.CharFilter(max_length=200, help_text="Words of the title, or a number such as CHG-000123.")
    state = django_filters.MultipleChoiceFilter(choices=ChangeState.choices())
    tenant = django_filters.CharFilter(max_length=63, help_text="A slug.")
    environment = django_filters.CharFilter(max_length=63, help_text="A slug.")
    requester = django_filters.CharFilter(max_length=150, help_text="A username.")
    assignee = django_filters.CharFilter(max_length=150, help_text="A username.")
    stage = django_filters.ChoiceFilter(choices=Stage.choices())
    tier = django_filters.TypedChoiceFilter(choices=[(tier, str(tier)) for tier in range(4)], coerce=int)
    kind = django_filters.ChoiceFilter(choices=ChangeKind.choices())
    type = django_filters.ChoiceFilter(choices=ChangeType.choices())

    class Meta:
        model = ChangeRequest
        fields: list[str] = []

    @staticmethod
    def of(request: Request) -> ChangeFilter:
        """Return what the page's query calls the same."""
        asked = wanted(request, ChangeFilters)
        tier = asked.pop("tier")
        return ChangeFilter(
            text=asked.pop("q"),
            states=tuple(asked.pop("state")),
            tier=None if tier in ("", None) else tier,
            **asked,
        )


class ChangeViewSet(ApiViewSet[ChangeRequest]):
    """Changes you may see."""

    queryset = ChangeRequest.objects.none()
    serializer_class = ChangeSerializer
    filterset_class = ChangeFilters
    lookup_field = "number"
    lookup_value_regex = "CHG-[0-9]{6,18}"
    is_oldest_first = True
    seen_with = Ability.CHANGE_VIEW
    parts_seen_with = {"run": Ability.RUN_VIEW, "evidence": Ability.EVIDENCE_VIEW}

    @reading(ChangeSerializer(many=True))
    def list(self, request: Request) -> Response:
        """List changes, newest first."""
        cursor = Cursor.read(request)
        found = changes_page(
            scope_for(request),
            wanted=ChangeFilters.of(request),
            before=cursor.after,
            after=cursor.before,
            is_last=cursor.is_last,
            size=size_of(request),
        )
        rows = ChangeSerializer(found.rows, many=True).data
        return Response(page(request, rows, previous=found.newer, following=found.older))

    @reading(ChangeDetailSerializer)
    def retrieve(self, request: Request, number: str) -> Response:
        """One change, with its current revision and its draft."""
        return self._done(change_by_number(scope_for(request), number))

    @command(request=NewChangeSerializer, responses={201: ChangeDetailSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """File a draft. With `content`, its answers are kept at once; submitting is a command of its own."""
        words = read(NewChangeSerializer, request)
        tenant = one_of(sight_for(request), Tenant.objects.all(), slug=words["tenant"])
        change = _file(
            actor=acting(request),
            tenant_id=tenant.pk,
            title=words["title"],
            kind=words["kind"],
            type=words["type"],
            content=words.get("content"),
            at=clock.now(),
        )
        return self._done(change, status=201)

    @command(request=DraftSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def draft(self, request: Request, number: str) -> Response:
        """Keep answers of a draft; what is not named stays. `seen_version` is the `draft_version` you read."""
        words = read(DraftSerializer, request)
        change = self._change(number)
        saved = changes.save_draft(
            actor=acting(request),
            change_id=change.pk,
            content=_merged(change.draft, words["content"]),
            seen_version=words["seen_version"],
            at=clock.now(),
        )
        return self._done(saved)

    @command(request=None, responses=SubmissionSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def submit(self, request: Request, number: str) -> Response:
        """Submit the draft for assessment; also what was rejected or expired. Warnings stop nothing yet."""
        read(NoWords, request)
        done = changes.submit_change(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        return Response({"change": self._detail(done.change), "warnings": list(done.warnings)})

    @extend_schema(methods=["GET"], responses={200: RevisionSerializer(many=True), **READ_REFUSALS})
    @command(methods=["POST"], request=ContentSerializer, responses={201: SubmissionSerializer})
    @action(detail=True, methods=["get", "post"], filterset_class=None)
    def revisions(self, request: Request, number: str) -> Response:
        """List the revisions, oldest first; or write the next one, which is resolved and judged from the start."""
        if request.method == "POST":
            return self._revise(request, number)
        change = change_by_number(scope_for(request), number)
        return self.rows(change.revisions.select_related("author"), RevisionSerializer)

    @idempotent
    def _revise(self, request: Request, number: str) -> Response:
        words = read(ContentSerializer, request)
        change = self._change(number)
        if change.revision is None:
            raise Invalid("This change was never submitted; save and submit its draft.")
        content = _merged(Content.from_json(change.revision.content).to_json(), words)
        done = changes.revise_change(actor=acting(request), change_id=change.pk, content=content, at=clock.now())
        return Response({"change": self._detail(done.change), "warnings": list(done.warnings)}, status=201)

    @command(request=ReasonSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def hold(self, request: Request, number: str) -> Response:
        """Put the change on hold, with a reason."""
        reason = read(ReasonSerializer, request)["reason"]
        return self._done(
            changes.hold_change(actor=acting(request), change_id=self._change(number).pk, reason=reason, at=clock.now())
        )

    @command(request=None, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def release(self, request: Request, number: str) -> Response:
        """End a hold: the change is resolved and judged again."""
        read(NoWords, request)
        return self._done(
            changes.release_change(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        )

    @command(request=ReasonSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, number: str) -> Response:
        """Give the change up before its execution."""
        reason = read(ReasonSerializer, request)["reason"]
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
        start = read(ScheduleSerializer, request)["planned_start_at"]
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
        words = read(CloseSerializer, request)
        return self._done(
            changes.close_change(
                actor=acting(request),
                change_id=self._change(number).pk,
                close_code=words["close_code"],
                note=words["note"],
                at=clock.now(),
            )
        )

    @command(request=HandOverSerializer, responses=ChangeDetailSerializer)
    @action(detail=True, methods=["post"], url_path="hand-over")
    @idempotent
    def hand_over(self, request: Request, number: str) -> Response:
        """Give the change to another owner, who can then never approve it."""
        username = read(HandOverSerializer, request)["assignee"]
        person = User.objects.filter(username=username).values_list("pk", flat=True).first()
        return self._done(
            changes.hand_over_change(
                actor=acting(request), change_id=self._change(number).pk, assignee_id=person or 0, at=clock.now()
            )
        )

    @command(request=NewVoteSerializer, responses={201: VoteSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def vote(self, request: Request, number: str) -> Response:
        """Cast a vote on the plan you read. A repeated vote is one vote; a superseded plan is refused with 409."""
        words = read(NewVoteSerializer, request)
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
        words = read(WithdrawSerializer, request)
        vote = approvals.withdraw_vote(
            actor=acting(request),
            requirement_id=self._requirement(number, words["requirement"]),
            comment=words["comment"],
            at=clock.now(),
        )
        return Response(VoteSerializer(vote).data, status=201)

    @reading(PlanSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def plan(self, request: Request, number: str) -> Response:
        """The current plan, as the document its digest is taken of (RFC 8785)."""
        change = change_by_number(scope_for(request), number)
        if change.plan is None:
            raise NotFound("This change has no plan yet.")
        return Response(PlanSerializer(change.plan).data)

    @reading(GateResultSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def gates(self, request: Request, number: str) -> Response:
        """Every verdict ever given, oldest first; the newest of each gate counts."""
        return self.rows(change_by_number(scope_for(request), number).gate_results.all(), GateResultSerializer)

    @reading(ApprovalsSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def approvals(self, request: Request, number: str) -> Response:
        """Every round with its policy as copied, its requirements, and the votes cast."""
        change = change_by_number(scope_for(request), number)
        requirements = Requirement.objects.filter(round__change=change).select_related("round")
        votes = Vote.objects.filter(requirement__round__change=change).select_related("voter", "acting_for")
        return Response(
            {
                "rounds": evidence.round_facts(change),
                "requirements": RequirementSerializer(
                    requirements.order_by("round__number", "stage", "position"), many=True
                ).data,
                "votes": VoteSerializer(votes.order_by("pk"), many=True).data,
            }
        )

    @reading(RunDetailSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def run(self, request: Request, number: str) -> Response:
        """The newest rollout of the change, with its targets."""
        run = latest_run(self._change(number))
        if run is None:
            raise NotFound("This change has no run yet.")
        return Response(RunDetailSerializer(run).data)

    @reading(EventSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def timeline(self, request: Request, number: str) -> Response:
        """The audit events of the change, oldest first, with their chain."""
        return self.rows(timeline_of(change_by_number(scope_for(request), number)), EventSerializer)

    @reading(ArtefactSerializer(many=True))
    @action(detail=True, filterset_class=None)
    def evidence(self, request: Request, number: str) -> Response:
        """What is kept as evidence, by SHA-256, oldest first."""
        kept = access.visible(scope_for(request), self._change(number).artefacts.all())
        return self.rows(kept, ArtefactSerializer)

    @extend_schema(
        responses={
            (200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY, "The pack, a zip file."),
            **READ_REFUSALS,
        }
    )
    @action(detail=True, url_path="evidence-pack", pagination_class=None, filterset_class=None)
    def evidence_pack(self, request: Request, number: str) -> HttpResponse:
        """The evidence pack: signed, and verified offline by the `verify.py` in it."""
        pack = exports.export_evidence_pack(actor=acting(request), change_id=self._change(number).pk, at=clock.now())
        return HttpResponse(
            pack.data,
            content_type="application/zip",
            headers={"Content-Disposition": f'attachment; filename="{pack.name}"'},
        )

    def get_queryset(self) -> QuerySet[ChangeRequest]:
        """Nothing of its own: every read goes by a named query."""
        return ChangeRequest.objects.none()

    def _change(self, number: str) -> ChangeRequest:
        """Return a change in the person's sight; whether the token allows what is asked is checked elsewhere."""
        return change_by_number(sight_for(self.request), number)

    def _requirement(self, number: str, requirement_id: int) -> int:
        """Return the requirement's id where it is one of this change."""
        rows = Requirement.objects.filter(round__change=self._change(number))
        return one_of(sight_for(self.request), rows, pk=requirement_id).pk

    def _detail(self, change: ChangeRequest) -> Any:
        return ChangeDetailSerializer(change).data

    def _done(self, change: ChangeRequest, *, status: int = 200) -> Response:
        return Response(self._detail(change), status=status)


@audited
@transaction.atomic
def _file(
    *,
    actor: Actor,
    tenant_id: int,
    title: str,
    kind: str,
    type: str,  # noqa: A002
    content: Mapping[str, Any] | None,
    at: datetime,
) -> ChangeRequest:
    """File a draft with its first answers: both or neither, and one refusal in the trail."""
    change = changes.create_change(actor=actor, tenant_id=tenant_id, title=title, kind=kind, type=type, at=at)
    if content is None:
        return change
    answers = _merged(change.draft, content)
    return changes.save_draft(
        actor=actor, change_id=change.pk, content=answers, seen_version=change.draft_version, at=at
    )


def _merged(answers: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers with what was said over them. Another branch or tag lets go of the commit pinned before."""
    found = {**answers, **words}
    if "revision_name" in words and "commit" not in words:
        found["commit"] = words["revision_name"] if _COMMIT.fullmatch(words["revision_name"]) else ""
    return found
