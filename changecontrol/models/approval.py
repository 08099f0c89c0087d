"""Who must agree, and who did. Policies are copied into a round at submission; votes are only ever added."""

from __future__ import annotations

from django.db import models

from changecontrol.lifecycles.approval import RoundState
from changecontrol.lifecycles.machine import Word
from changecontrol.models.change import ChangeRequest, Revision
from changecontrol.models.estate import Tenant
from changecontrol.rules.roles import Role


class VoteVerdict(Word):
    APPROVE = "approve"
    REJECT = "reject"
    ABSTAIN = "abstain"
    WITHDRAW = "withdraw"


class ApprovalPolicy(models.Model):
    """A version of a policy. `content` is what `rules.approvals` reads; editing writes the next version."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True)
    slug = models.CharField(max_length=63)
    name = models.CharField(max_length=120)
    version = models.PositiveIntegerField()
    content = models.JSONField()
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True)

    class Meta:
        ordering = ["slug", "-version"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "slug", "version"], name="one_policy_per_version", nulls_distinct=False
            ),
            models.UniqueConstraint(
                fields=["tenant", "slug"],
                condition=models.Q(is_active=True),
                name="one_active_version_per_policy",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}, version {self.version}"


class ApprovalRound(models.Model):
    """One asking. Its policy is a copy, so later edits touch only later submissions (APR-4)."""

    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="rounds")
    number = models.PositiveIntegerField()
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT)
    policy = models.ForeignKey(ApprovalPolicy, on_delete=models.PROTECT)
    policy_content = models.JSONField()
    state = models.CharField(max_length=16, choices=RoundState.choices(), default=RoundState.OPEN)
    opened_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["change", "number"], name="one_round_per_number"),
            models.UniqueConstraint(
                fields=["change"],
                condition=models.Q(state__in=[RoundState.OPEN, RoundState.GRANTED]),
                name="one_live_round_per_change",
            ),
        ]

    def __str__(self) -> str:
        return f"round {self.number}"


class Requirement(models.Model):
    """A place, or several, that holders of one role must fill."""

    round = models.ForeignKey(ApprovalRound, on_delete=models.PROTECT, related_name="requirements")
    stage = models.PositiveSmallIntegerField()
    stage_name = models.CharField(max_length=120)
    position = models.PositiveSmallIntegerField()
    role = models.CharField(max_length=32, choices=Role.choices())
    name = models.CharField(max_length=120)
    quorum = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["stage", "position"]
        constraints = [
            models.UniqueConstraint(fields=["round", "stage", "position"], name="one_requirement_per_place"),
            models.CheckConstraint(condition=models.Q(quorum__gte=1), name="a_quorum_is_at_least_one"),
        ]

    def __str__(self) -> str:
        return self.name


class Vote(models.Model):
    """What one person said, about which plan, and how we know it was them (APR-7). Rows never change (APR-6)."""

    requirement = models.ForeignKey(Requirement, on_delete=models.PROTECT, related_name="votes")
    voter = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="votes")
    acting_for = models.ForeignKey(
        "changecontrol.User", on_delete=models.PROTECT, null=True, related_name="votes_by_delegates"
    )
    turn = models.PositiveSmallIntegerField(help_text="1 for the first word of this person here, then 2, …")
    verdict = models.CharField(max_length=16, choices=VoteVerdict.choices())
    plan_digest = models.CharField(max_length=64)
    comment = models.TextField(blank=True)
    at = models.DateTimeField()
    zone = models.CharField(max_length=64)
    authentication = models.CharField(max_length=64)
    authenticated_at = models.DateTimeField(null=True)
    source_address = models.GenericIPAddressField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            # Two simultaneous first votes of one person take the same turn, and the second is refused (APR-14).
            models.UniqueConstraint(
                fields=["requirement", "voter", "turn"], name="one_vote_per_person_requirement_and_turn"
            )
        ]

    def __str__(self) -> str:
        return f"{self.voter}: {self.verdict}"
