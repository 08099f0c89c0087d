"""Work that outlasts a tick: ordered by a workflow, done by a process of its own, watched by further ticks."""

from __future__ import annotations

from datetime import timedelta

from django.db import models

from changecontrol.lifecycles.job import JobState
from changecontrol.models.leased import Leased


class Job(Leased):
    """One piece of long work. Its lease is renewed while its process lives, and ends with it.

    `order` says what to do, in JSON without any secret; `key` says for which step of which run, so that ordering it
    again is ordering it once. `result` is what the work returned. `placed_at` says since when a cluster has something
    that does it, and is null once that is cleared away.
    """

    key = models.CharField(max_length=200)
    kind = models.CharField(max_length=64)
    order = models.JSONField()
    state = models.CharField(max_length=16, choices=JobState.choices(), default=JobState.OPEN)
    progress = models.JSONField(default=dict, help_text="How far the work is, in its own words.")
    result = models.JSONField(default=dict)
    reason = models.TextField(blank=True, help_text="Why it failed, in words.")
    stop_asked_at = models.DateTimeField(null=True, blank=True)
    placed_at = models.DateTimeField(null=True, blank=True)
    leftovers = models.TextField(blank=True, db_default="", help_text="Why what did it cannot be cleared away.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["key"], name="one_job_per_key"),
            models.CheckConstraint(condition=models.Q(state__in=list(JobState)), name="job_state_is_in_the_table"),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="jobs_due", condition=models.Q(next_due_at__isnull=False)),
            # What is looked after in a cluster.
            models.Index(fields=["placed_at"], name="jobs_placed", condition=models.Q(placed_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def run(self) -> str:
        """Name it so that no other installation has one of the same name, in signs that a label may have."""
        return f"{self.pk}-{int(self.created_at.timestamp())}"

    @property
    def attempt(self) -> str:
        """Name the attempt that is due: a job that is given back, or counted, is due at another time. For due jobs."""
        assert self.next_due_at is not None
        return str((self.next_due_at - self.created_at) // timedelta(milliseconds=1))
