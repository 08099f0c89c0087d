"""How an environment is backed up. A version never changes: an edit is the next one."""

from __future__ import annotations

from typing import Self

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models import Environment
from changecontrol.models.estate import validate_zone


class Engine(Word):
    POSTGRES = "postgres"
    PG_DUMP = "pg_dump"
    CLOUDNATIVEPG = "cloudnativepg"
    EXTERNAL = "external"


class OfEnvironment(models.Model):
    """Something of one environment, and so of its tenant."""

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")

    class Meta:
        abstract = True

    @property
    def tenant_id(self) -> int:
        return self.environment.tenant_id


class BackupPolicyQuerySet(models.QuerySet["BackupPolicy"]):
    def active(self) -> Self:
        return self.filter(is_active=True)


class BackupPolicy(OfEnvironment):
    """One version of the policy of an environment. Empty or null is what it does not do; intervals are in seconds."""

    version = models.PositiveIntegerField()
    is_active = models.BooleanField(default=True)
    engine = models.CharField(max_length=16, choices=Engine.choices())
    source = models.CharField(max_length=300, blank=True, help_text="Reference to how its database is reached.")
    filestore = models.CharField(max_length=500, blank=True, help_text="Address of its attachments.")
    filestore_credential = models.CharField(max_length=300, blank=True, help_text="Reference.")
    rrule = models.CharField(max_length=500)
    starts_local = models.DateTimeField(help_text="Wall-clock start, kept as if it were UTC.")
    zone = models.CharField(max_length=64, validators=[validate_zone])
    grace_seconds = models.PositiveIntegerField(help_text="How late a success may be before it alarms.")
    incrementals = models.PositiveSmallIntegerField(default=0, help_text="How many follow each full base backup.")
    wal_seconds = models.PositiveIntegerField(null=True, help_text="How often WAL is shipped, the partial one too.")
    filestore_seconds = models.PositiveIntegerField(null=True, help_text="How often new attachments are copied.")
    store = models.CharField(max_length=500, help_text="Address of the primary destination.")
    store_credential = models.CharField(max_length=300, blank=True, help_text="Reference.")
    copy_store = models.CharField(max_length=500, blank=True, help_text="Address of the copy, elsewhere.")
    copy_credential = models.CharField(max_length=300, blank=True, help_text="Reference.")
    restore_credential = models.CharField(
        max_length=300, blank=True, help_text="Reference to a credential of the store that can read and not write."
    )
    identity = models.CharField(
        max_length=300, blank=True, help_text="Reference to the age identity that restores and drills open it with."
    )
    index_identity = models.CharField(
        max_length=300, blank=True, help_text="Reference to the age identity that opens lists of attachments alone."
    )
    restore_target = models.CharField(
        max_length=300, blank=True, help_text="Reference to the server where restored databases are made."
    )
    restore_filestore = models.CharField(
        max_length=500, blank=True, help_text="Address below which restored attachments go."
    )
    rehearsal_cluster = models.CharField(
        max_length=63, blank=True, db_default="", help_text="Name of the cluster where a drill of level 5 brings it up."
    )
    rehearsal_path = models.CharField(
        max_length=300, blank=True, db_default="", help_text="Git path of what runs there; empty: the environment's."
    )
    rehearsal_target = models.CharField(
        max_length=300, blank=True, db_default="", help_text="Reference to the server that workloads there use."
    )
    rehearsal_database = models.CharField(
        max_length=63, blank=True, db_default="", help_text="Its name there; empty: the environment's own."
    )
    rehearsal_filestore = models.CharField(
        max_length=500, blank=True, db_default="", help_text="Folder below which workloads there find attachments."
    )
    has_sentinel = models.BooleanField(default=False, help_text="A row each minute in the source tells what was lost.")
    recipients = models.JSONField(default=list, help_text="age recipients: who may read what is written.")
    lock_days = models.PositiveSmallIntegerField(default=0, help_text="How long the store refuses to delete it.")
    version_days = models.PositiveSmallIntegerField(
        default=0,
        db_default=0,
        help_text="How long what was removed stays as an old version, by the bucket's lifecycle.",
    )
    keep_last = models.PositiveSmallIntegerField()
    keep_daily = models.PositiveSmallIntegerField(default=0)
    keep_weekly = models.PositiveSmallIntegerField(default=0)
    keep_monthly = models.PositiveSmallIntegerField(default=0)
    is_pci = models.BooleanField(default=False, help_text="Keep one point of each of twelve months.")
    verify_days = models.PositiveSmallIntegerField(help_text="How often a point is restored, started and questioned.")
    drill_days = models.PositiveSmallIntegerField(help_text="How often a drill must pass.")
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="+")

    objects = BackupPolicyQuerySet.as_manager()

    class Meta:
        ordering = ["environment", "-version"]
        verbose_name_plural = "backup policies"
        constraints = [
            models.UniqueConstraint(fields=["environment", "version"], name="one_backup_policy_per_version"),
            models.UniqueConstraint(
                fields=["environment"], condition=models.Q(is_active=True), name="one_active_backup_policy"
            ),
            models.CheckConstraint(condition=models.Q(keep_last__gte=1), name="a_backup_policy_keeps_the_last_point"),
            models.CheckConstraint(condition=~models.Q(copy_store=models.F("store")), name="a_copy_is_kept_elsewhere"),
        ]

    def __str__(self) -> str:
        return f"Backup policy {self.version} of {self.environment}"
