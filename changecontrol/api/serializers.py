"""How changes, plans, gates, votes and runs are written in JSON. Reading is the models' shape."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from changecontrol.lifecycles.change import CloseCode
from changecontrol.models import ChangeRequest, GateResult, Revision, Run, RunLog, RunTarget, Vote
from changecontrol.models.approval import VoteVerdict
from changecontrol.rules.content import OFFERED_KINDS, OFFERED_TYPES, OnFailure, OnWindowClose, Promotion, Strategy


class WaveSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120)
    environments = serializers.ListField(child=serializers.CharField())
    cohorts = serializers.ListField(child=serializers.CharField(), required=False)
    bake_seconds = serializers.IntegerField(min_value=0, required=False)
    promotion = serializers.ChoiceField(Promotion.choices(), required=False)


class IndicatorRuleSerializer(serializers.Serializer[Any]):
    indicator = serializers.CharField()
    threshold = serializers.FloatField()
    minimum_samples = serializers.IntegerField(min_value=1, required=False)
    consecutive_breaches = serializers.IntegerField(min_value=1, required=False)


class LinkSerializer(serializers.Serializer[Any]):
    label = serializers.CharField(max_length=200)  # type: ignore[assignment]  # DRF's own attribute of that name
    url = serializers.URLField(max_length=500)


class ContentSerializer(serializers.Serializer[Any]):
    """The answers of a revision. A draft may lack any of them; what is missing is said when it is submitted."""

    title = serializers.CharField(max_length=200, required=False)
    reason = serializers.CharField(required=False, allow_blank=True)
    description = serializers.CharField(required=False, allow_blank=True)
    security_impact = serializers.CharField(required=False, allow_blank=True)
    environments = serializers.ListField(child=serializers.CharField(), required=False)
    revision_name = serializers.CharField(required=False, allow_blank=True, help_text="Branch, tag or commit.")
    strategy = serializers.ChoiceField(Strategy.choices(), required=False)
    waves = WaveSerializer(many=True, required=False)
    max_unavailable = serializers.IntegerField(min_value=1, required=False)
    failure_budget = serializers.IntegerField(min_value=0, required=False)
    ready_within_seconds = serializers.IntegerField(required=False)
    on_failure = serializers.ChoiceField(OnFailure.choices(), required=False)
    on_window_close = serializers.ChoiceField(OnWindowClose.choices(), required=False)
    indicators = IndicatorRuleSerializer(many=True, required=False)
    rollback_plan = serializers.CharField(required=False, allow_blank=True)
    test_evidence = serializers.CharField(required=False, allow_blank=True)
    risk_answers = serializers.DictField(child=serializers.CharField(), required=False)
    links = LinkSerializer(many=True, required=False)
    planned_start_at = serializers.CharField(required=False, allow_blank=True, help_text="ISO 8601 with an offset.")


class NewChangeSerializer(serializers.Serializer[Any]):
    tenant = serializers.CharField(help_text="The tenant's slug.")
    title = serializers.CharField(max_length=200)
    kind = serializers.ChoiceField(sorted(OFFERED_KINDS), default="deploy")
    type = serializers.ChoiceField(sorted(OFFERED_TYPES), default="normal")
    content = ContentSerializer(required=False)


class ChangeSerializer(serializers.ModelSerializer[ChangeRequest]):
    """A change in a list. Select `tenant`, `requester`, `assignee` and `plan` with it."""

    number = serializers.CharField(read_only=True)
    tenant = serializers.CharField(source="tenant.slug", read_only=True)
    requester = serializers.CharField(source="requester.username", read_only=True)
    assignee = serializers.CharField(source="assignee.username", read_only=True, allow_null=True, default=None)
    plan_digest = serializers.CharField(source="plan.digest", read_only=True, allow_null=True, default=None)

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
            "stage",
            "tier",
            "risk_level",
            "risk_score",
            "store_count",
            "sales_share",
            "plan_digest",
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


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    author = serializers.CharField(source="author.username", read_only=True)

    class Meta:
        model = Revision
        fields = ["number", "author", "created_at", "content"]
        read_only_fields = fields


class ChangeDetailSerializer(ChangeSerializer):
    """One change, with its current revision and the draft that may become the next."""

    environments: Any = serializers.SlugRelatedField("slug", many=True, read_only=True)
    revision = RevisionSerializer(read_only=True, allow_null=True)

    class Meta(ChangeSerializer.Meta):
        fields = [*ChangeSerializer.Meta.fields, "environments", "revision", "draft", "draft_version"]
        read_only_fields = fields


class SubmissionSerializer(serializers.Serializer[Any]):
    change = ChangeDetailSerializer()
    warnings = serializers.ListField(child=serializers.CharField())


class GateResultSerializer(serializers.ModelSerializer[GateResult]):
    class Meta:
        model = GateResult
        fields = [
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


class NewVoteSerializer(serializers.Serializer[Any]):
    requirement = serializers.IntegerField()
    verdict = serializers.ChoiceField([v for v in VoteVerdict.choices() if v[0] != VoteVerdict.WITHDRAW])
    seen_digest = serializers.CharField(max_length=64, help_text="The plan digest you read.")
    comment = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)


class WithdrawSerializer(serializers.Serializer[Any]):
    requirement = serializers.IntegerField()
    comment = serializers.CharField(allow_blank=True, max_length=5000)


class ReasonSerializer(serializers.Serializer[Any]):
    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=500)


class ScheduleSerializer(serializers.Serializer[Any]):
    planned_start_at = serializers.DateTimeField(
        allow_null=True, required=False, default=None, help_text="Null: as soon as the window allows."
    )


class CloseSerializer(serializers.Serializer[Any]):
    close_code = serializers.ChoiceField(CloseCode.choices())
    note = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)


class DraftSerializer(serializers.Serializer[Any]):
    seen_version = serializers.IntegerField(min_value=0)
    content = ContentSerializer()


class RunSerializer(serializers.ModelSerializer[Run]):
    change = serializers.CharField(source="change.number", read_only=True)

    class Meta:
        model = Run
        fields = [
            "id",
            "change",
            "kind",
            "state",
            "wave",
            "pause_reason",
            "sentence",
            "intent",
            "bakes_until",
            "created_at",
            "started_at",
            "finished_at",
            "detected_at",
            "rollback_decided_at",
            "rollback_started_at",
            "rollback_serving_at",
            "rollback_verified_at",
        ]
        read_only_fields = fields


class RunTargetSerializer(serializers.ModelSerializer[RunTarget]):
    environment = serializers.CharField(source="environment.slug", read_only=True)
    cohort = serializers.CharField(source="cohort.slug", read_only=True, allow_null=True, default=None)

    class Meta:
        model = RunTarget
        fields = [
            "id",
            "environment",
            "cohort",
            "wave",
            "workload",
            "state",
            "sentence",
            "ready_count",
            "desired_count",
            "started_at",
            "finished_at",
        ]
        read_only_fields = fields


class RunLogSerializer(serializers.ModelSerializer[RunLog]):
    class Meta:
        model = RunLog
        fields = ["id", "at", "sentence", "detail", "target"]
        read_only_fields = fields


class RunDetailSerializer(RunSerializer):
    targets = RunTargetSerializer(many=True, read_only=True)

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "targets"]
        read_only_fields = fields


class EventSerializer(serializers.Serializer[Any]):
    """An audit event. `body` is the canonical JSON whose hash is chained; hashes are hexadecimal."""

    id = serializers.IntegerField()
    subject = serializers.CharField()
    sequence = serializers.IntegerField()
    previous_hash = serializers.SerializerMethodField()
    hash = serializers.SerializerMethodField()
    tag = serializers.CharField()
    at = serializers.DateTimeField()
    body = serializers.CharField()

    def get_previous_hash(self, event: Any) -> str:
        return bytes(event.previous_hash).hex()

    def get_hash(self, event: Any) -> str:
        return bytes(event.hash).hex()
