"""Work under way: a run, the targets it updates, what it says as it goes, and the locks it holds."""

from __future__ import annotations

from typing import Self

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.lifecycles.run import ACTIVE, PauseReason, RunState, TargetState
from changecontrol.models.change import ChangeRequest, Revision
from changecontrol.models.estate import Cohort, Environment
from changecontrol.models.leased import Leased
from changecontrol.models.plan import Plan


class RunKind(Word):
    ASSESSMENT = "assessment"
    ROLLOUT = "rollout"


class RunQuerySet(models.QuerySet["Run"]):
    def active(self) -> Self:
        return self.filter(state__in=list(ACTIVE))


class Run(Leased):
    """One carrying-out of a change by one workflow. `intent` is what a person asked for; the next tick obeys."""

    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="runs")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True)
    kind = models.CharField(max_length=24, choices=RunKind.choices())
    state = models.CharField(max_length=24, choices=RunState.choices(), default=RunState.QUEUED)
    step = models.CharField(max_length=64, blank=True)
    wave = models.PositiveSmallIntegerField(default=0)
    wave_opened_at = models.DateTimeField(null=True)
    bakes_until = models.DateTimeField(null=True)
    pause_reason = models.CharField(max_length=32, choices=PauseReason.choices(), blank=True)
    sentence = models.TextField(blank=True, help_text="What a person should know about where the run stands.")
    intent = models.CharField(max_length=16, blank=True)
    intent_by = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True, related_name="+")
    intent_at = models.DateTimeField(null=True)
    intent_reason = models.CharField(max_length=500, blank=True)
    data = models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    detected_at = models.DateTimeField(null=True, help_text="RBK-5: when the failure was seen.")
    rollback_decided_at = models.DateTimeField(null=True)
    rollback_started_at = models.DateTimeField(null=True)
    rollback_serving_at = models.DateTimeField(null=True)
    rollback_verified_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["change", "kind"],
                condition=models.Q(state__in=sorted(ACTIVE)),
                name="one_active_run_per_change_and_kind",
            ),
            models.CheckConstraint(condition=models.Q(state__in=list(RunState)), name="run_state_is_in_the_table"),
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["kind", "next_due_at"], name="runs_due", condition=models.Q(next_due_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"{self.kind} run {self.pk}"


class RunTarget(Leased):
    """What one wave updates: one workload of an environment, or (empty `workload`) what its workloads share."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="targets")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT)
    cohort = models.ForeignKey(Cohort, on_delete=models.PROTECT, null=True)
    wave = models.PositiveSmallIntegerField()
    workload = models.CharField(max_length=300, blank=True, help_text="Kind/name, such as Deployment/odoo-web.")
    state = models.CharField(max_length=16, choices=TargetState.choices(), default=TargetState.PENDING)
    sentence = models.TextField(blank=True)
    ready_count = models.PositiveIntegerField(default=0)
    desired_count = models.PositiveIntegerField(default=0)
    applied = models.JSONField(default=list, help_text="What the server answered: object, uid, generation.")
    is_reverting = models.BooleanField(default=False)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["wave", "id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "environment", "workload"], name="one_row_per_target_of_a_run")
        ]
        indexes = [
            # The engine's claim.
            models.Index(fields=["next_due_at"], name="targets_due", condition=models.Q(next_due_at__isnull=False))
        ]

    def __str__(self) -> str:
        return f"{self.environment.slug} {self.workload or 'shared objects'}"


class RunLog(models.Model):
    """One line of the live log. Written with the state it speaks of; nothing secret reaches it."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="log")
    target = models.ForeignKey(RunTarget, on_delete=models.PROTECT, null=True)
    at = models.DateTimeField()
    icon = models.CharField(max_length=32)
    sentence = models.TextField()
    detail = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["run", "-id"], name="log_of_run")]

    def __str__(self) -> str:
        return self.sentence


class EnvironmentLock(models.Model):
    """Two changes never execute in one environment together (WIN-13). Renewed by ticks, so a crash frees it in time."""

    environment = models.OneToOneField(Environment, on_delete=models.PROTECT, primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="locks")
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.environment} until {self.until:%H:%M}"
