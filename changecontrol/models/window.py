"""When changes may run: windows that open and close by rule, and freezes."""

from __future__ import annotations

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models.estate import Cluster, Cohort, Environment, Stage, Tenant


class Effect(Word):
    ALLOW = "allow"
    DENY = "deny"


class Scoped(models.Model):
    """Where a window or freeze holds. What is left empty does not narrow it; a tenant-less one is the platform's."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, null=True, blank=True)
    stage = models.CharField(max_length=16, choices=Stage.choices(), blank=True)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, null=True, blank=True)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, null=True, blank=True)
    cohort = models.ForeignKey(Cohort, on_delete=models.PROTECT, null=True, blank=True)

    class Meta:
        abstract = True


class Window(Scoped):
    """An RFC 5545 recurrence. `starts_local` is wall-clock time in `zone`; that empty, in each store's own zone."""

    name = models.CharField(max_length=120)
    effect = models.CharField(max_length=8, choices=Effect.choices(), default=Effect.ALLOW)
    rrule = models.CharField(max_length=500, blank=True, help_text="Such as FREQ=WEEKLY;BYDAY=TU,TH. Empty: once.")
    starts_local = models.DateTimeField(help_text="Wall-clock start, kept as if it were UTC.")
    zone = models.CharField(max_length=64, blank=True, help_text="Empty: the store's own zone.")
    duration_seconds = models.PositiveIntegerField()
    excluded_local = models.JSONField(default=list, blank=True)
    added_local = models.JSONField(default=list, blank=True)
    is_active = models.BooleanField(default=True)
    version = models.PositiveIntegerField(default=1)
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(duration_seconds__gt=0, duration_seconds__lte=14 * 86_400),
                name="a_window_lasts_up_to_two_weeks",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Freeze(Scoped):
    """Nothing in scope starts or goes on while it holds, from `starts_at` up to, not including, `ends_at`."""

    name = models.CharField(max_length=120)
    reason = models.CharField(max_length=500)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    opened_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="opened_freezes")
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(
        "changecontrol.User", on_delete=models.PROTECT, null=True, blank=True, related_name="lifted_freezes"
    )

    class Meta:
        ordering = ["starts_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="a_freeze_ends_after_it_starts"
            )
        ]

    def __str__(self) -> str:
        return self.name
