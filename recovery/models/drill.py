"""Drills: a restore for practice, what was asked of it, what was found, and who says so (BCK-7)."""

from __future__ import annotations

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models import ChangeRequest
from changecontrol.models.leased import Leased
from recovery.lifecycles.drill import ACTIVE, DrillState
from recovery.models.point import RecoveryPoint
from recovery.models.policy import OfEnvironment


class Sabotage(Word):
    """What is broken on purpose in a copy of a part (BCK-9)."""

    TRUNCATE = "truncate"
    FLIP = "flip"
    REMOVE = "remove"
    SWAP = "swap"


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
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="drills_due", condition=models.Q(next_due_at__isnull=False)),
            # The last drill that passed, which tells when the next is due.
            models.Index(fields=["environment", "state", "-finished_at"], name="drills_of_environment"),
        ]

    def __str__(self) -> str:
        return f"L{self.level} drill {self.pk}"


class DrillCheck(models.Model):
    """One question a drill asked, and the answer. Never altered."""

    drill = models.ForeignKey(Drill, on_delete=models.PROTECT, related_name="checks")
    name = models.CharField(max_length=120)
    level = models.PositiveSmallIntegerField()
    is_passed = models.BooleanField()
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
    opened_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.title


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
