"""How changes, plans, gates and votes are written in JSON. Reading is the models' shape; words are `Words`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from changecontrol.api.base import Words
from changecontrol.lifecycles.approval import RoundState
from changecontrol.lifecycles.change import CloseCode
from changecontrol.models import Artefact, ChangeRequest, GateResult, Plan, Requirement, Revision, Vote
from changecontrol.models.approval import VoteVerdict
from changecontrol.models.estate import Stage
from changecontrol.queries.changes import environment_slugs
from changecontrol.rules.content import OFFERED_KINDS, OFFERED_TYPES, OnFailure, OnWindowClose, Promotion, Strategy
from changecontrol.rules.content_problems import (
    BAKE_SECONDS,
    KEEP_HOURS,
    MAX_ENVIRONMENTS,
    MAX_LINKS,
    MAX_WAVES,
    READY_SECONDS,
)

COUNT_LIMIT = 10_000
TEXT_LIMIT = 20_000
MAX_INDICATORS = 50
KEY_LIMIT = 2**63 - 1


def text(*, limit: int = TEXT_LIMIT, **options: Any) -> Any:
    """Return the field of an answer that a draft may lack."""
    return serializers.CharField(required=False, allow_blank=True, max_length=limit, **options)


def several(shape: Any, *, limit: int) -> Any:
    return shape(many=True, required=False, max_length=limit)


def names(*, limit: int = MAX_ENVIRONMENTS) -> Any:
    return serializers.ListField(child=serializers.CharField(max_length=63), max_length=limit, required=False)


class WaveSerializer(Words):
    name = serializers.CharField(max_length=120)
    environments = serializers.ListField(child=serializers.CharField(max_length=63), max_length=MAX_ENVIRONMENTS)
    cohorts = names()
    bake_seconds = serializers.IntegerField(min_value=BAKE_SECONDS[0], max_value=BAKE_SECONDS[1], required=False)
    promotion = serializers.ChoiceField(Promotion.choices(), required=False)


class IndicatorRuleSerializer(Words):
    indicator = serializers.CharField(max_length=120)
    threshold = serializers.FloatField(min_value=-1e12, max_value=1e12)
    minimum_samples = serializers.IntegerField(min_value=1, max_value=COUNT_LIMIT, required=False)
    consecutive_breaches = serializers.IntegerField(min_value=1, max_value=COUNT_LIMIT, required=False)


class LinkSerializer(Words):
    label = serializers.CharField(max_length=200)  # type: ignore[assignment]  # DRF's own attribute of that name
    url = serializers.URLField(max_length=500)


class ContentSerializer(Words):
    """The answers of a revision. A draft may lack any of them; what is missing is said when it is submitted."""

    title = serializers.CharField(max_length=200, required=False)
    reason = text()
    description = text()
    security_impact = text()
    environments = names()
    revision_name = text(limit=200, help_text="Branch, tag or commit; it is pinned to a commit at assessment.")
    commit = text(limit=64, help_text="The full hash, where you pin the commit yourself.")
    strategy = serializers.ChoiceField(Strategy.choices(), required=False)
    waves = several(WaveSerializer, limit=MAX_WAVES)
    max_unavailable = serializers.IntegerField(min_value=1, max_value=COUNT_LIMIT, required=False)
    failure_budget = serializers.IntegerField(min_value=0, max_value=COUNT_LIMIT, required=False)
    ready_within_seconds = serializers.IntegerField(
        min_value=READY_SECONDS[0], max_value=READY_SECONDS[1], required=False
    )
    on_failure = serializers.ChoiceField(OnFailure.choices(), required=False)
    on_window_close = serializers.ChoiceField(OnWindowClose.choices(), required=False)
    indicators = several(IndicatorRuleSerializer, limit=MAX_INDICATORS)
    rollback_plan = text()
    test_evidence = text()
    risk_answers = serializers.DictField(child=serializers.CharField(max_length=120), required=False)
    links = several(LinkSerializer, limit=MAX_LINKS)
    planned_start_at = text(limit=40, help_text="ISO 8601 with an offset; empty: as soon as the window allows.")
    restore_to = text(limit=40, help_text="Kind `restore`: the time to go back to, ISO 8601 with an offset.")
    restore_database = text(limit=63, help_text="Kind `restore`: the new database, which the commit names.")
    keep_hours = serializers.IntegerField(
        min_value=KEEP_HOURS[0],
        max_value=KEEP_HOURS[1],
        required=False,
        help_text="Kind `restore`: how long the database in use now is kept after the cut-over.",
    )


class NewChangeSerializer(Words):
    tenant = serializers.CharField(max_length=63, help_text="The tenant's slug.")
    title = serializers.CharField(max_length=200)
    kind = serializers.ChoiceField(sorted(OFFERED_KINDS), default="deploy")
    type = serializers.ChoiceField(sorted(OFFERED_TYPES), default="normal")
    content = ContentSerializer(required=False)


class DraftSerializer(Words):
    seen_version = serializers.IntegerField(min_value=0, max_value=KEY_LIMIT)
    content = ContentSerializer()


class NewVoteSerializer(Words):
    requirement = serializers.IntegerField(min_value=1, max_value=KEY_LIMIT)
    verdict = serializers.ChoiceField([v for v in VoteVerdict.choices() if v[0] != VoteVerdict.WITHDRAW])
    seen_digest = serializers.CharField(max_length=64, help_text="The plan digest you read.")
    comment = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)


class WithdrawSerializer(Words):
    requirement = serializers.IntegerField(min_value=1, max_value=KEY_LIMIT)
    comment = serializers.CharField(allow_blank=True, max_length=5000, help_text="Why; it cannot be blank.")


class ReasonSerializer(Words):
    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=500)


class ScheduleSerializer(Words):
    planned_start_at = serializers.DateTimeField(allow_null=True, help_text="Null: as soon as the window allows.")


class CloseSerializer(Words):
    close_code = serializers.ChoiceField(CloseCode.choices())
    note = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)


class HandOverSerializer(Words):
    assignee = serializers.CharField(max_length=150, help_text="The username of the new owner.")


class ChangeSerializer(serializers.ModelSerializer[ChangeRequest]):
    """A change in a list; `queries.changes` selects what it needs."""

    number = serializers.CharField(read_only=True)
    tenant = serializers.CharField(source="tenant.slug", read_only=True)
    requester = serializers.CharField(source="requester.username", read_only=True)
    assignee = serializers.CharField(source="assignee.username", read_only=True, allow_null=True, default=None)
    environments = serializers.SerializerMethodField()
    stage = serializers.ChoiceField(Stage.choices(), allow_blank=True, read_only=True)
    close_code = serializers.ChoiceField(CloseCode.choices(), allow_blank=True, read_only=True)

    class Meta:
        model = ChangeRequest
        fields = [
            "number",
            "title",
            "tenant",
            "type",
            "kind",
            "state",
            "close_code",
            "hold_reason",
            "problem",
            "requester",
            "assignee",
            "environments",
            "stage",
            "tier",
            "risk_level",
            "risk_score",
            "store_count",
            "sales_share",
            "created_at",
            "updated_at",
            "submitted_at",
            "authorized_at",
            "approval_expires_at",
            "planned_start_at",
            "planned_end_at",
            "started_at",
            "finished_at",
            "closed_at",
        ]
        read_only_fields = fields

    def get_environments(self, change: ChangeRequest) -> list[str]:
        return environment_slugs(change)


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        model = Revision
        fields = ["id", "number", "author", "created_at", "content"]
        read_only_fields = fields


class ChangeDetailSerializer(ChangeSerializer):
    """One change, with its current revision, the digest of its plan, and the draft that may become the next."""

    plan_digest = serializers.CharField(source="plan.digest", read_only=True, allow_null=True, default=None)
    revision = RevisionSerializer(read_only=True, allow_null=True)

    class Meta(ChangeSerializer.Meta):
        fields = [
            *ChangeSerializer.Meta.fields,
            "close_note",
            "plan_digest",
            "revision",
            "draft",
            "draft_version",
        ]
        read_only_fields = fields


class SubmissionSerializer(serializers.Serializer[Any]):
    change = ChangeDetailSerializer()
    warnings = serializers.ListField(child=serializers.CharField())


class PlanSerializer(serializers.ModelSerializer[Plan]):
    """A plan: `document` is what the digest is taken of, read from its canonical form."""

    document = serializers.JSONField(source="content", read_only=True)

    class Meta:
        model = Plan
        fields = ["digest", "created_at", "document"]
        read_only_fields = fields


class GateResultSerializer(serializers.ModelSerializer[GateResult]):
    class Meta:
        model = GateResult
        fields = [
            "id",
            "gate",
            "name",
            "verdict",
            "sentence",
            "judged",
            "judged_what",
            "tool",
            "tool_version",
            "database_at",
            "at",
            "expires_at",
            "artefact_sha256",
        ]
        read_only_fields = fields


class VoteSerializer(serializers.ModelSerializer[Vote]):
    voter = serializers.CharField(source="voter.username", read_only=True)
    acting_for = serializers.CharField(source="acting_for.username", read_only=True, allow_null=True, default=None)

    class Meta:
        model = Vote
        fields = [
            "id",
            "requirement",
            "voter",
            "acting_for",
            "verdict",
            "plan_digest",
            "comment",
            "at",
            "zone",
            "authentication",
            "authenticated_at",
        ]
        read_only_fields = fields


class RequirementSerializer(serializers.ModelSerializer[Requirement]):
    round = serializers.IntegerField(source="round.number", read_only=True)

    class Meta:
        model = Requirement
        fields = ["id", "round", "stage", "stage_name", "position", "name", "role", "quorum"]
        read_only_fields = fields


class CopiedPolicySerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    version = serializers.IntegerField()
    content = serializers.DictField()


class RoundSerializer(serializers.Serializer[Any]):
    round = serializers.IntegerField()
    revision = serializers.IntegerField()
    policy = CopiedPolicySerializer()
    state = serializers.ChoiceField(RoundState.choices())
    opened_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class ApprovalsSerializer(serializers.Serializer[Any]):
    """Every round with its policy as copied (APR-4), what it asks for, and every vote ever cast."""

    rounds = RoundSerializer(many=True)
    requirements = RequirementSerializer(many=True)
    votes = VoteSerializer(many=True)


class ArtefactSerializer(serializers.ModelSerializer[Artefact]):
    class Meta:
        model = Artefact
        fields = ["id", "name", "media_type", "sha256", "size", "source", "created_at"]
        read_only_fields = fields
