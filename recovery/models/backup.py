"""A backup under way."""

from __future__ import annotations

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models.leased import Leased
from recovery.lifecycles.point import ACTIVE_BACKUPS, BackupState
from recovery.models.policy import BackupPolicy, Engine, OfEnvironment


class BackupKind(Word):
    BASE = "base"
    INCREMENTAL = "incremental"
    DUMP = "dump"


def full_kind(policy: BackupPolicy) -> BackupKind:
    """Return what a full backup under a policy is."""
    return BackupKind.DUMP if policy.engine == Engine.PG_DUMP else BackupKind.BASE


class BackupRun(Leased, OfEnvironment):
    """One taking of a recovery point under one version of a policy. `due_at` null: a person asked for it."""

    policy = models.ForeignKey(BackupPolicy, on_delete=models.PROTECT, related_name="runs")
    kind = models.CharField(max_length=16, choices=BackupKind.choices())
    state = models.CharField(max_length=16, choices=BackupState.choices(), default=BackupState.QUEUED)
    step = models.CharField(max_length=64, blank=True)
    due_at = models.DateTimeField(null=True)
    asked_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    reason = models.CharField(max_length=500, blank=True)
    sentence = models.TextField(blank=True, help_text="What a person should know about where it stands.")
    data = models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment"],
                condition=models.Q(state__in=sorted(ACTIVE_BACKUPS)),
                name="one_active_backup_per_environment",
            ),
            models.UniqueConstraint(fields=["policy", "due_at"], name="one_backup_per_scheduled_start"),
            models.CheckConstraint(
                condition=models.Q(state__in=list(BackupState)), name="backup_state_is_in_the_table"
            ),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="backups_due", condition=models.Q(next_due_at__isnull=False)),
            # The newest backup of an environment, for its page and its alarms.
            models.Index(fields=["environment", "-id"], name="backups_of_environment"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} backup {self.pk}"

    @property
    def origin(self) -> str:
        """Say why it was taken. What nobody asked for and no schedule wanted is a change's safety backup."""
        if self.asked_by is not None:
            return f"asked by {self.asked_by}"
        return "on schedule" if self.due_at else "before a restore"

    @property
    def label(self) -> str:
        """The name of its point in the store: by its time, so that names sort as points do."""
        return f"{self.created_at:%Y%m%dT%H%M%SZ}-{self.pk}"
