"""Changes over REST: the same actions as the pages, in other words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import django_filters
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.access import Actor
from changecontrol.actions import changes
from changecontrol.actions.refusals import audited
from changecontrol.api.approvals import ApprovalParts
from changecontrol.api.base import (
    READ_REFUSALS,
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
from changecontrol.api.change import OfChange
from changecontrol.api.evidence import EvidenceParts
from changecontrol.api.idempotency import idempotent
from changecontrol.api.paging import Cursor, page, size_of
from changecontrol.api.runs import RunDetailSerializer
from changecontrol.api.serializers import (
    ChangeDetailSerializer,
    ChangeSerializer,
    CloseSerializer,
    ContentSerializer,
    DraftSerializer,
    HandOverSerializer,
    NewChangeSerializer,
    ReasonSerializer,
    RevisionSerializer,
    ScheduleSerializer,
    SubmissionSerializer,
)
from changecontrol.errors import Invalid, NotFound
from changecontrol.lifecycles.change import ChangeKind, ChangeState, ChangeType
from changecontrol.models import ChangeRequest, Tenant, User
from changecontrol.models.estate import Stage
from changecontrol.queries.changes import ChangeFilter, change_by_number, changes_page
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


class ChangeViewSet(ApprovalParts, EvidenceParts, OfChange):
    """Changes you may see."""

    serializer_class = ChangeSerializer
    filterset_class = ChangeFilters
    is_oldest_first = True
    seen_with = Ability.CHANGE_VIEW
    parts_seen_with = {
        "run": Ability.RUN_VIEW,
        "evidence": Ability.EVIDENCE_VIEW,
        "artefact": Ability.EVIDENCE_VIEW,
    }

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

    @reading(RunDetailSerializer)
    @action(detail=True, pagination_class=None, filterset_class=None)
    def run(self, request: Request, number: str) -> Response:
        """The newest rollout of the change, with its targets."""
        run = latest_run(self._change(number))
        if run is None:
            raise NotFound("This change has no run yet.")
        return Response(RunDetailSerializer(run).data)


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
