"""What the catalogue and a store disagree on, as it was when they were last compared."""

from __future__ import annotations

from typing import Self

from django.db import models

from recovery.models.point import RecoveryPoint
from recovery.models.policy import OfEnvironment
from recovery.rules.comparison import LOSSES, DifferenceKind


class DisagreementQuerySet(models.QuerySet["Disagreement"]):
    def losses(self) -> Self:
        """Narrow to what the catalogue promises and a store does not hold."""
        return self.filter(kind__in=sorted(LOSSES))


class Disagreement(OfEnvironment):
    """One thing that only one of them knows. It is gone with the comparison that finds them of one mind.

    What is orphaned is collected from `goes_at` on; without it, the thing stays until somebody asks that it goes, or
    that a whole point is taken into the catalogue.
    """

    store = models.CharField(max_length=500, help_text="Address of the store.")
    kind = models.CharField(max_length=16, choices=DifferenceKind.choices())
    name = models.CharField(max_length=500)
    sentence = models.TextField()
    point = models.ForeignKey(RecoveryPoint, on_delete=models.PROTECT, null=True, related_name="+")
    object_count = models.PositiveBigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    stored_at = models.DateTimeField(null=True, help_text="When the newest of its objects was stored.")
    found_at = models.DateTimeField()
    goes_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True, help_text="When somebody asked that it goes.")
    asked_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")

    adoption_asked_at = models.DateTimeField(null=True, help_text="When somebody asked that it is taken in.")
    adoption_asked_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    refusal = models.TextField(blank=True, db_default="", help_text="Why it was not taken in.")

    objects = DisagreementQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            # Also serves the page of an environment, and its alarms.
            models.UniqueConstraint(fields=["environment", "store", "kind", "name"], name="one_disagreement_of_a_kind"),
            models.CheckConstraint(
                condition=models.Q(kind__in=list(DifferenceKind)), name="kind_of_disagreement_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"
