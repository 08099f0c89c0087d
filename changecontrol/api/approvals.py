"""The approval of a change over REST: what its approvers are asked, what they said, and saying it."""

from __future__ import annotations

from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from changecontrol import clock
from changecontrol.actions import approvals
from changecontrol.api.base import acting, command, one_of, read, reading, scope_for, sight_for
from changecontrol.api.change import OfChange
from changecontrol.api.idempotency import idempotent
from changecontrol.api.serializers import (
    ApprovalsSerializer,
    NewVoteSerializer,
    RequirementSerializer,
    VoteSerializer,
    WithdrawSerializer,
)
from changecontrol.models import Requirement, Vote
from changecontrol.queries import evidence
from changecontrol.queries.changes import change_by_number


class ApprovalParts(OfChange):
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

    def _requirement(self, number: str, requirement_id: int) -> int:
        """Return the requirement's id where it is one of this change."""
        rows = Requirement.objects.filter(round__change=self._change(number))
        return one_of(sight_for(self.request), rows, pk=requirement_id).pk
