"""What is watched of an environment's backups, and what its owners were told is wrong."""

from __future__ import annotations

from typing import Self

from django.db import models

from changecontrol.models.leased import Leased
from recovery.models.policy import OfEnvironment
from recovery.rules.alarms import AlarmKind


class AlarmWatch(Leased, OfEnvironment):
    """Looks again and again at one environment with a backup policy. A store is named by its address."""

    stores_asked_at = models.DateTimeField(null=True, help_text="When its stores were last asked whether they answer.")
    silent_stores = models.JSONField(default=dict, help_text="Since when each store that does not answer is silent.")
    database_failing_since = models.DateTimeField(null=True, help_text="Since when its database cannot be used.")
    database_trouble = models.TextField(blank=True, db_default="", help_text="What whoever archives was told of it.")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "alarm watches"
        constraints = [models.UniqueConstraint(fields=["environment"], name="one_alarm_watch_per_environment")]
        indexes = [
            # The engine's claim.
            models.Index(
                fields=["next_due_at"], name="alarm_watches_due", condition=models.Q(next_due_at__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return f"Alarm watch of {self.environment}"


class WalSlot(OfEnvironment):
    """The replication slot of an environment on one server, as it was last seen there.

    `source` is the reference that leads to the server, `version` the newest version of the policy that names it. The
    times say since when: the server keeps too much for it, nothing receives by it, no policy in force wants it.
    """

    source = models.CharField(max_length=300)
    version = models.PositiveIntegerField()
    name = models.CharField(max_length=63)
    retained_bytes = models.BigIntegerField()
    limit_bytes = models.BigIntegerField(null=True)
    wal_status = models.CharField(max_length=16)
    retained_since = models.DateTimeField(null=True)
    inactive_since = models.DateTimeField(null=True)
    left_since = models.DateTimeField(null=True)
    lost_at = models.DateTimeField(null=True, help_text="When WAL that it was to keep was last found to be gone.")
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["environment", "source"], name="one_slot_per_server")]

    def __str__(self) -> str:
        return self.name


class RaisedAlarmQuerySet(models.QuerySet["RaisedAlarm"]):
    def open(self) -> Self:
        """Narrow to what is not over yet, though it may have been quiet for a moment."""
        return self.filter(ended_at__isnull=True)

    def sounding(self) -> Self:
        """Narrow to what was wrong when somebody last looked."""
        return self.open().filter(quiet_since__isnull=True)


class RaisedAlarm(OfEnvironment):
    """One alarm from when its owners were told until they were told that it is over.

    `since` is when it became wrong, `subject` tells alarms of one kind apart, such as the address of a store.
    """

    kind = models.CharField(max_length=24, choices=AlarmKind.choices())
    subject = models.CharField(max_length=500, blank=True)
    sentence = models.TextField()
    since = models.DateTimeField()
    raised_at = models.DateTimeField()
    told_at = models.DateTimeField(help_text="When its owners were last told.")
    quiet_since = models.DateTimeField(null=True, help_text="Since when nothing is wrong any more.")
    ended_at = models.DateTimeField(null=True)

    objects = RaisedAlarmQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "kind", "subject"],
                condition=models.Q(ended_at__isnull=True),
                name="one_open_alarm_of_a_kind",
            ),
            models.CheckConstraint(condition=models.Q(kind__in=list(AlarmKind)), name="alarm_kind_is_known"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"
