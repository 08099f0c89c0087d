"""A restore into production: prepared for the run of a change, which alone puts it in the place of what runs."""

from __future__ import annotations

from typing import Self

from django.db import models

from changecontrol.models import ChangeRequest, Run
from changecontrol.models.leased import Leased
from recovery.lifecycles.cut_over import ACTIVE, CutOverState
from recovery.models.backup import BackupRun
from recovery.models.policy import OfEnvironment
from recovery.models.restore import Restore


class CutOverQuerySet(models.QuerySet["CutOver"]):
    def active(self) -> Self:
        return self.filter(state__in=sorted(ACTIVE))


class CutOver(Leased, OfEnvironment):
    """One attempt of one run. What is restored is copied from the approved plan.

    `old_database` is what ran before; after the cut-over it is kept until `kept_until`. `in_place_at` is when its
    rollout began, and null again once that was taken back.
    """

    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="+")
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    backup = models.ForeignKey(BackupRun, on_delete=models.PROTECT, null=True, related_name="+")
    restore = models.OneToOneField(Restore, on_delete=models.PROTECT, null=True, related_name="cut_over")
    state = models.CharField(max_length=16, choices=CutOverState.choices(), default=CutOverState.BACKING_UP)
    sentence = models.TextField(blank=True, help_text="What a person should know about where it stands.")
    target_at = models.DateTimeField()
    target_database = models.CharField(max_length=63)
    old_database = models.CharField(max_length=63)
    keep_hours = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    in_place_at = models.DateTimeField(null=True, help_text="Since when the new database is the environment's.")
    kept_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = CutOverQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["run"], condition=models.Q(state__in=sorted(ACTIVE)), name="one_active_cut_over_per_run"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=list(CutOverState)), name="cut_over_state_is_in_the_table"
            ),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="cut_overs_due", condition=models.Q(next_due_at__isnull=False)),
            # The attempts of a run, the newest of which its next wave waits for.
            models.Index(fields=["run", "-id"], name="cut_overs_of_run"),
        ]

    def __str__(self) -> str:
        return f"Cut-over {self.pk} of {self.change}"
