"""Rehearsals: an environment brought up in another cluster for a while, in a namespace that is made for it alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models

from changecontrol.lifecycles.rehearsal import ACTIVE, RehearsalState
from changecontrol.models.estate import Cluster, Environment
from changecontrol.models.leased import Leased


class Rehearsal(Leased):
    """One rehearsal of one environment. `key` is the run id that everything it makes carries as a label.

    The database refuses one in the cluster of the environment itself. The namespace is no column: it follows from the
    key, so that no row can name one that is in use. `ends_at` is when it is taken down though nobody asks.
    """

    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="+")
    key = models.UUIDField()
    commit = models.CharField(max_length=64)
    path = models.CharField(max_length=300)
    state = models.CharField(max_length=16, choices=RehearsalState.choices(), default=RehearsalState.ASKED)
    sentence = models.TextField(blank=True, help_text="What a person should know about where it stands.")
    problem = models.TextField(blank=True, help_text="Why it did not come up, in words.")
    leftovers = models.TextField(blank=True, help_text="What could not be taken down.")
    facts = models.JSONField(default=dict, help_text="What was applied, and how the workloads were.")
    asked_at = models.DateTimeField()
    began_at = models.DateTimeField(null=True)
    up_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField()
    teardown_asked_at = models.DateTimeField(null=True)
    teardown_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["key"], name="one_rehearsal_per_run"),
            models.UniqueConstraint(
                fields=["environment"],
                condition=models.Q(state__in=sorted(ACTIVE)),
                name="one_active_rehearsal_per_environment",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=list(RehearsalState)), name="rehearsal_state_is_in_the_table"
            ),
            models.CheckConstraint(
                condition=~models.Q(state=RehearsalState.GONE) | models.Q(leftovers=""),
                name="a_rehearsal_that_left_something_behind_is_not_gone",
            ),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="rehearsals_due", condition=models.Q(next_due_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"rehearsal of {self.environment.slug} in {self.cluster.slug}"

    @property
    def namespace(self) -> str:
        """The namespace made for it: a DNS label of 46 characters."""
        return f"rehearsal-{self.key}"

    @property
    def applied(self) -> dict[str, dict[str, Any]]:
        """What was applied, by reference: `uid`, `generation`, `sha256`, `at`."""
        return dict(self.facts.get("applied", {}))

    @property
    def applied_at(self) -> datetime | None:
        """When the last of its objects was applied."""
        times = [datetime.fromisoformat(one["at"]) for one in self.applied.values()]
        return max(times, default=None)

    @property
    def workloads(self) -> list[dict[str, Any]]:
        """How each workload was when last looked at: `name`, `is_healthy`, `sentence`, `digests`."""
        return list(self.facts.get("workloads", []))
