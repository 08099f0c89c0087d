"""A restore under way: always into a new database and a new filestore."""

from __future__ import annotations

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models.leased import Leased
from recovery.lifecycles.restore import ACTIVE, RestoreState
from recovery.models.point import RecoveryPoint
from recovery.models.policy import OfEnvironment


class RestorePurpose(Word):
    COPY = "copy"
    INCIDENT = "incident"
    PRODUCTION = "production"
    """Into the place of what runs, as a change."""


class Restore(Leased, OfEnvironment):
    """One bringing-back of a point, and the WAL after it up to `target_at`. The clock runs from `declared_at` (BCK-6).

    The environment is the one whose data it is. Expectations and sizes are as told when it was asked for.
    """

    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, related_name="restores")
    purpose = models.CharField(max_length=16, choices=RestorePurpose.choices())
    target_at = models.DateTimeField()
    target_database = models.CharField(max_length=63)
    target_filestore = models.CharField(max_length=500, blank=True)
    is_neutralised = models.BooleanField(default=True, help_text="No mail, payment, cron or webhook before it boots.")
    state = models.CharField(max_length=16, choices=RestoreState.choices(), default=RestoreState.QUEUED)
    step = models.CharField(max_length=64, blank=True)
    reason = models.CharField(max_length=500)
    asked_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="+")
    sentence = models.TextField(blank=True, help_text="What a person should know about where it stands.")
    data = models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")
    size = models.BigIntegerField()
    expected_seconds = models.PositiveIntegerField(null=True)
    expected_error_seconds = models.PositiveIntegerField(null=True)
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
                fields=["environment", "target_database"],
                condition=models.Q(state__in=sorted(ACTIVE)),
                name="one_active_restore_per_target",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=list(RestoreState)), name="restore_state_is_in_the_table"
            ),
            models.CheckConstraint(
                condition=models.Q(declared_at__lte=models.F("decided_at")),
                name="a_recovery_is_declared_before_it_is_decided",
            ),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="restores_due", condition=models.Q(next_due_at__isnull=False)),
            # Earlier restores of an environment, which tell how long the next takes.
            models.Index(fields=["environment", "-id"], name="restores_of_environment"),
        ]

    def __str__(self) -> str:
        return f"Restore {self.pk} of {self.point_id}"
