"""Recovery points: what was copied, where to, what was proved of it, and what must not go."""

from __future__ import annotations

from typing import Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models.leased import Leased
from recovery.lifecycles.point import KEPT, RESTORABLE, PointState
from recovery.models.backup import BackupKind, BackupRun
from recovery.models.policy import BackupPolicy, OfEnvironment


class PartKind(Word):
    DATABASE = "database"
    DATABASE_MANIFEST = "database_manifest"
    FILESTORE_MANIFEST = "filestore_manifest"
    CONFIGURATION = "configuration"
    EVIDENCE = "evidence"


class RecoveryPointQuerySet(models.QuerySet["RecoveryPoint"]):
    def kept(self) -> Self:
        return self.filter(state__in=sorted(KEPT))

    def restorable(self) -> Self:
        """Narrow to what a restore may begin on: neither broken nor about to go."""
        return self.filter(state__in=sorted(RESTORABLE), removal_asked_at__isnull=True, removing_at__isnull=True)


class RecoveryPoint(OfEnvironment):
    """One set (BCK-2): a database at a WAL position, its filestore, and the code and modules that ran on it.

    Everything but its standing is written once. `level` is the highest that its checks prove, `consistent_at` the
    moment that restoring it alone leads to; sizes are in bytes, positions are WAL byte positions.
    """

    key = models.CharField(max_length=120, help_text="Its name in the store, unique within the environment.")
    policy = models.ForeignKey(BackupPolicy, on_delete=models.PROTECT, related_name="points")
    run = models.OneToOneField(BackupRun, on_delete=models.PROTECT, null=True, related_name="point")
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="increments")
    kind = models.CharField(max_length=16, choices=BackupKind.choices())
    state = models.CharField(max_length=16, choices=PointState.choices(), default=PointState.COPIED)
    level = models.PositiveSmallIntegerField(default=0)
    checked_at = models.DateTimeField(null=True, help_text="When its standing was last proved or disproved.")
    started_at = models.DateTimeField()
    consistent_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    system_identifier = models.CharField(max_length=20, blank=True)
    server_version = models.CharField(max_length=40, blank=True)
    timeline = models.PositiveIntegerField(default=0)
    start_lsn = models.BigIntegerField(default=0)
    stop_lsn = models.BigIntegerField(default=0)
    filestore_at = models.DateTimeField(null=True, help_text="When its attachments were copied.")
    git_commit = models.CharField(max_length=64, blank=True)
    image = models.CharField(max_length=300, blank=True)
    modules = models.JSONField(default=dict, help_text="Version by name.")
    cluster_facts = models.JSONField(
        null=True, help_text="What an operator in Kubernetes said of the base backup that it keeps."
    )
    size = models.BigIntegerField()
    locked_until = models.DateTimeField(null=True)
    removal_asked_at = models.DateTimeField(null=True)
    removal_asked_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    removing_at = models.DateTimeField(null=True, help_text="Since when its bytes go: it can be kept no more.")
    removed_at = models.DateTimeField(null=True)

    objects = RecoveryPointQuerySet.as_manager()

    class Meta:
        ordering = ["-consistent_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["environment", "key"], name="one_recovery_point_per_key"),
            models.CheckConstraint(
                condition=models.Q(state__in=list(PointState)), name="recovery_point_state_is_in_the_table"
            ),
            models.CheckConstraint(
                condition=~models.Q(state=PointState.VERIFIED) | models.Q(level__gte=2, checked_at__isnull=False),
                name="verified_means_restored_and_questioned",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    started_at__lte=models.F("consistent_at"), consistent_at__lte=models.F("finished_at")
                ),
                name="a_recovery_point_is_consistent_while_it_is_taken",
            ),
            models.CheckConstraint(
                condition=models.Q(filestore_at__isnull=True) | models.Q(filestore_at__gte=models.F("consistent_at")),
                name="a_filestore_is_copied_after_its_database",
            ),
            models.CheckConstraint(
                condition=models.Q(kind=BackupKind.INCREMENTAL, parent__isnull=False)
                | (~models.Q(kind=BackupKind.INCREMENTAL) & models.Q(parent__isnull=True)),
                name="an_incremental_point_has_a_parent",
            ),
        ]
        indexes = [
            # The points of an environment, newest first: its page, its coverage, and how fresh it is.
            models.Index(fields=["environment", "-consistent_at"], name="points_of_environment"),
        ]

    def __str__(self) -> str:
        return self.key


class PointPart(models.Model):
    """One object of a point in the store, as it was written. Never altered."""

    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, related_name="parts")
    kind = models.CharField(max_length=24, choices=PartKind.choices())
    key = models.CharField(max_length=500)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["point", "key"], name="one_part_per_key")]

    def __str__(self) -> str:
        return self.key


class PointCopy(models.Model):
    """A destination that holds every part of a point, and what it said of its lock on what the point's backup wrote."""

    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, related_name="copies")
    store = models.CharField(max_length=500)
    stored_at = models.DateTimeField()
    locked_until = models.DateTimeField(
        null=True, help_text="When the store's lock on it ends; null: it showed none, or did not say."
    )
    lock_told_at = models.DateTimeField(null=True, help_text="When the store told of its lock; null: it did not say.")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "point copies"
        constraints = [models.UniqueConstraint(fields=["point", "store"], name="one_copy_per_store")]

    def __str__(self) -> str:
        return self.store


class FilestoreCopy(OfEnvironment):
    """The attachments as they were at `taken_at`, in the store. `point` is set where the copy is part of one."""

    policy = models.ForeignKey(BackupPolicy, on_delete=models.PROTECT, related_name="+")
    point = models.OneToOneField(RecoveryPoint, on_delete=models.PROTECT, null=True, related_name="filestore_copy")
    name = models.CharField(max_length=100)
    key = models.CharField(max_length=500)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    taken_at = models.DateTimeField()
    file_count = models.PositiveIntegerField()
    byte_count = models.BigIntegerField()
    stored_bytes = models.BigIntegerField(help_text="What it added to the store.")
    removed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-taken_at", "-id"]
        verbose_name_plural = "filestore copies"
        constraints = [models.UniqueConstraint(fields=["environment", "name"], name="one_filestore_copy_per_name")]
        indexes = [
            # The copy that goes with a time, and the newest.
            models.Index(
                fields=["environment", "-taken_at"],
                name="filestore_copies_kept",
                condition=models.Q(removed_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return self.name


class UpkeepKind(Word):
    ATTACHMENTS = "attachments"
    RETENTION = "retention"
    COMPARISON = "comparison"
    COPIES = "copies"
    COVERAGE = "coverage"
    CLUSTERS = "clusters"
    ADOPTION = "adoption"


class Upkeep(Leased, OfEnvironment):
    """What is done for an environment again and again: attachments copied, what may go removed, stores compared.

    Where an operator keeps its database, that is asked too which times it can restore, and to remove what it recovered.
    Points are taken in that somebody asked for, one after the other.
    """

    kind = models.CharField(max_length=16, choices=UpkeepKind.choices())
    count = models.PositiveIntegerField(default=0, help_text="How many of its jobs were over.")
    done_at = models.DateTimeField(null=True, help_text="When the last of them succeeded.")
    reached_at = models.DateTimeField(null=True, help_text="Of copies: up to when the other destination covers.")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "upkeep"
        constraints = [models.UniqueConstraint(fields=["environment", "kind"], name="one_upkeep_of_a_kind")]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="upkeep_due", condition=models.Q(next_due_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.environment}"

    @property
    def job_key(self) -> str:
        """The key of the job that does its next round."""
        return f"{self.key_of_jobs}{self.count}"

    @property
    def key_of_jobs(self) -> str:
        """What the keys of the jobs of all its rounds begin with."""
        return f"upkeep/{self.pk}/"


class WalSegment(OfEnvironment):
    """WAL in the store without a hole, complete up to `ends_at`; positions as a point has them.

    It grows while archiving goes on: what follows a hole is another one. `key` is the newest object's. A timeline that
    somebody was promoted to left its `parent` at `forked_lsn`; without a parent it began by itself.
    """

    store = models.CharField(max_length=500, blank=True, db_default="", help_text="Address; empty: not recorded yet.")
    parent = models.PositiveIntegerField(default=0, db_default=0)
    forked_lsn = models.BigIntegerField(default=0, db_default=0)
    system_identifier = models.CharField(max_length=20)
    timeline = models.PositiveIntegerField()
    start_lsn = models.BigIntegerField()
    end_lsn = models.BigIntegerField()
    ends_at = models.DateTimeField()
    key = models.CharField(max_length=500)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["environment", "timeline", "start_lsn"]
        constraints = [
            # Also serves the coverage of an environment, which reads its WAL in this order.
            models.UniqueConstraint(
                fields=["environment", "store", "system_identifier", "timeline", "start_lsn"],
                name="one_segment_per_position",
            ),
            models.CheckConstraint(
                condition=models.Q(end_lsn__gt=models.F("start_lsn")), name="a_segment_ends_after_it_starts"
            ),
        ]

    def __str__(self) -> str:
        return self.key


class ClusterCoverage(OfEnvironment):
    """The times that an operator said it can restore of one server, when it was asked last.

    Where it holds nothing, they begin and end when it said so.
    """

    system_identifier = models.CharField(max_length=20, blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "cluster coverage"
        constraints = [
            models.UniqueConstraint(fields=["environment"], name="one_cluster_coverage_per_environment"),
            models.CheckConstraint(
                condition=models.Q(starts_at__lte=models.F("ends_at")), name="cluster_coverage_ends_after_it_starts"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} to {self.ends_at:%Y-%m-%d %H:%M} UTC"


class Verification(models.Model):
    """What one check of a point came to. Never altered: a later one supersedes it."""

    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, related_name="verifications")
    drill = models.ForeignKey("recovery.Drill", on_delete=models.PROTECT, null=True, related_name="verifications")
    level = models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(5)])
    is_passed = models.BooleanField()
    sentence = models.TextField()
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(level__gte=1, level__lte=5), name="verification_level_is_one_to_five"
            )
        ]

    def __str__(self) -> str:
        return f"L{self.level}: {self.sentence}"


class LegalHold(OfEnvironment):
    """Keeps a point, or with none named everything of an environment, until it is lifted."""

    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, null=True, related_name="holds")
    name = models.CharField(max_length=120)
    reason = models.CharField(max_length=500)
    placed_at = models.DateTimeField()
    placed_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="+")
    lifted_at = models.DateTimeField(null=True)
    lifted_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["placed_at", "id"]
        indexes = [
            # What may not go.
            models.Index(fields=["environment"], name="holds_in_force", condition=models.Q(lifted_at__isnull=True))
        ]

    def __str__(self) -> str:
        return self.name
