"""Drills: a restore for practice, what was asked of it, what was found, and who says so (BCK-7)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.db import models

from changecontrol.lifecycles.change import ChangeState, CloseCode
from changecontrol.lifecycles.machine import Word
from changecontrol.models import ChangeRequest
from changecontrol.models.leased import Leased
from recovery.lifecycles.drill import ACTIVE, JUDGED, DrillState
from recovery.models.point import RecoveryPoint
from recovery.models.policy import OfEnvironment
from recovery.rules.verification import VERIFIED_FROM

MENDED = (CloseCode.SUCCESSFUL, CloseCode.SUCCESSFUL_WITH_ISSUES)
"""How a change is closed that did what a corrective action asks for."""


class Sabotage(Word):
    """What is broken on purpose in a copy of a part (BCK-9)."""

    TRUNCATE = "truncate"
    FLIP = "flip"
    REMOVE = "remove"
    SWAP = "swap"


class DrillQuerySet(models.QuerySet["Drill"]):
    def proving(self) -> Self:
        """Narrow to what can prove a way back: what restores something, and no sabotaged copy."""
        return self.filter(level__gte=VERIFIED_FROM, sabotage="")

    def passed(self, *, until: datetime) -> Self:
        """Narrow to what had proved a way back by a time: the next drill is due so long after the last of these."""
        return self.proving().filter(state=DrillState.PASSED, finished_at__lte=until)


class Drill(Leased, OfEnvironment):
    """One drill of one level. Targets are copied from the objectives when it starts; `asked_by` null: by schedule.

    `key` is the run id which everything it makes elsewhere carries: nothing else is ever torn down (BCK-8).
    """

    key = models.UUIDField(unique=True)
    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, related_name="drills")
    level = models.PositiveSmallIntegerField()
    sabotage = models.CharField(max_length=16, choices=Sabotage.choices(), blank=True)
    target_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=DrillState.choices(), default=DrillState.QUEUED)
    step = models.CharField(max_length=64, blank=True)
    asked_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    scope = models.CharField(max_length=500, blank=True, help_text="What it covers and how, in words.")
    sentence = models.TextField(blank=True, help_text="What a person should know about where it stands.")
    trouble_found = models.TextField(blank=True, help_text="Why it could not go on.")
    leftovers = models.TextField(blank=True, help_text="What it could not tear down.")
    data = models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")
    rto_target_seconds = models.PositiveIntegerField()
    rpo_target_seconds = models.PositiveIntegerField()
    newest_sentinel_at = models.DateTimeField(null=True)
    declared_at = models.DateTimeField()
    decided_at = models.DateTimeField()
    provisioned_at = models.DateTimeField(null=True)
    restored_at = models.DateTimeField(null=True)
    validated_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    canceled_at = models.DateTimeField(null=True)
    canceled_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    cancel_reason = models.CharField(max_length=500, blank=True, db_default="", help_text="Why it was canceled.")

    objects = DrillQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment"],
                condition=models.Q(state__in=sorted(ACTIVE)),
                name="one_active_drill_per_environment",
            ),
            models.CheckConstraint(condition=models.Q(state__in=list(DrillState)), name="drill_state_is_in_the_table"),
            models.CheckConstraint(condition=models.Q(level__gte=1, level__lte=5), name="drill_level_is_one_to_five"),
            models.CheckConstraint(
                condition=~models.Q(state=DrillState.PASSED) | models.Q(leftovers=""),
                name="a_drill_that_left_something_behind_has_not_passed",
            ),
            models.CheckConstraint(
                condition=models.Q(canceled_at__isnull=True, canceled_by__isnull=True, cancel_reason="")
                | models.Q(canceled_at__isnull=False, canceled_by__isnull=False) & ~models.Q(cancel_reason=""),
                name="a_drill_is_canceled_by_somebody_with_a_reason",
            ),
            models.CheckConstraint(
                condition=models.Q(canceled_at__isnull=True) & ~models.Q(state=DrillState.CANCELED)
                | models.Q(canceled_at__isnull=False) & ~models.Q(state__in=sorted(JUDGED)),
                name="a_canceled_drill_has_no_verdict",
            ),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="drills_due", condition=models.Q(next_due_at__isnull=False)),
            # The last drill that passed, which tells when the next is due.
            models.Index(fields=["environment", "state", "-finished_at"], name="drills_of_environment"),
        ]

    def __str__(self) -> str:
        return f"L{self.level} drill {self.pk}"

    @property
    def rto_target(self) -> timedelta:
        return timedelta(seconds=self.rto_target_seconds)

    @property
    def rpo_target(self) -> timedelta:
        return timedelta(seconds=self.rpo_target_seconds)

    @property
    def cancellation(self) -> str:
        """Say who canceled it and why; empty where nobody did."""
        return "" if self.canceled_by is None else f"{self.canceled_by} canceled it: {self.cancel_reason}"


class DrillCheck(models.Model):
    """One question a drill asked, and the answer. Never altered."""

    drill = models.ForeignKey(Drill, on_delete=models.PROTECT, related_name="checks")
    name = models.CharField(max_length=120)
    level = models.PositiveSmallIntegerField()
    is_passed = models.BooleanField()
    is_about_copy = models.BooleanField(
        db_default=True, help_text="Whether a no blames the copy, and not the shop or what runs on it."
    )
    sentence = models.TextField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["drill", "name"], name="one_answer_per_check"),
            models.CheckConstraint(condition=models.Q(level__gte=1, level__lte=5), name="check_level_is_one_to_five"),
        ]

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}"


class CorrectiveAction(models.Model):
    """What must be done about what a drill found, by whom; the change that does it, once there is one."""

    drill = models.ForeignKey(Drill, on_delete=models.PROTECT, related_name="corrective_actions")
    title = models.CharField(max_length=200)
    owner = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, null=True, related_name="+")
    problem = models.CharField(
        max_length=500, blank=True, db_default="", help_text="Why no change was opened for it, in words."
    )
    asked_at = models.DateTimeField(
        null=True, help_text="When somebody was asked to close it, for its change was closed as successful."
    )
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    closed_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    closing_note = models.CharField(max_length=500, blank=True, db_default="", help_text="What was done about it.")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(closed_at__isnull=True, closed_by__isnull=True, closing_note="")
                | models.Q(closed_at__isnull=False, closed_by__isnull=False) & ~models.Q(closing_note=""),
                name="a_corrective_action_is_closed_by_somebody_with_a_note",
            )
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def tenant_id(self) -> int:
        return self.drill.tenant_id

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    @property
    def is_mended(self) -> bool:
        """Tell whether its change was closed as successful. What was canceled or failed mends nothing."""
        change = self.change
        return change is not None and change.state == ChangeState.CLOSED and change.close_code in MENDED


class SignOff(models.Model):
    """Somebody other than its runner read a drill's report. Never altered."""

    drill = models.OneToOneField(Drill, on_delete=models.PROTECT, related_name="sign_off")
    by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.by} · {self.at:%d %b %Y}"
