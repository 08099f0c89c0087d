"""A change, its immutable revisions, and everybody who ever had a hand in it."""

from __future__ import annotations

from typing import Any, Self

from django.db import models
from django.urls import reverse

from changecontrol.lifecycles.change import ENDED, ChangeKind, ChangeState, ChangeType, CloseCode
from changecontrol.lifecycles.machine import Word
from changecontrol.models.estate import Environment, Stage, Tenant


class Contribution(Word):
    """How somebody had a hand in a change. Each bars its person from approving it."""

    REQUESTED = "requested"
    EDITED = "edited"
    OWNED = "owned"
    AUTHORED = "authored"
    COMMITTED = "committed"
    EXECUTES = "executes"


class ChangeQuerySet(models.QuerySet["ChangeRequest"]):
    def newest_first(self) -> Self:
        return self.order_by("-id")

    def open(self) -> Self:
        return self.exclude(state__in=[*ENDED, ChangeState.REJECTED, ChangeState.EXPIRED])


class ChangeRequest(models.Model):
    """The root of everything about one change: lock it before anything below it."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="changes")
    title = models.CharField(max_length=200)
    type = models.CharField(max_length=16, choices=ChangeType.choices(), default=ChangeType.NORMAL)
    kind = models.CharField(max_length=24, choices=ChangeKind.choices(), default=ChangeKind.DEPLOY)
    is_retrospective = models.BooleanField(default=False)
    state = models.CharField(max_length=16, choices=ChangeState.choices(), default=ChangeState.DRAFT)
    hold_reason = models.CharField(max_length=500, blank=True)
    close_code = models.CharField(max_length=24, choices=CloseCode.choices(), blank=True)
    close_note = models.TextField(blank=True)
    problem = models.TextField(blank=True, help_text="Why the last assessment did not reach authorisation.")

    requester = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, related_name="requested_changes")
    assignee = models.ForeignKey(
        "changecontrol.User", on_delete=models.PROTECT, related_name="assigned_changes", null=True, blank=True
    )
    draft = models.JSONField(default=dict, help_text="The answers being written; a revision is made of them.")
    draft_version = models.PositiveIntegerField(default=0)
    revision: Any = models.ForeignKey(
        "changecontrol.Revision", on_delete=models.PROTECT, null=True, related_name="current_of"
    )
    plan: Any = models.ForeignKey("changecontrol.Plan", on_delete=models.PROTECT, null=True, related_name="current_of")
    environments = models.ManyToManyField(Environment, related_name="changes")

    stage = models.CharField(max_length=16, choices=Stage.choices(), blank=True)
    tier = models.PositiveSmallIntegerField(default=3)
    risk_score = models.PositiveSmallIntegerField(default=0)
    risk_level = models.CharField(max_length=16, blank=True)
    store_count = models.PositiveIntegerField(default=0)
    sales_share = models.DecimalField(max_digits=7, decimal_places=4, default=0)

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    submitted_at = models.DateTimeField(null=True)
    authorized_at = models.DateTimeField(null=True)
    approval_expires_at = models.DateTimeField(null=True)
    planned_start_at = models.DateTimeField(null=True)
    planned_end_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    objects = ChangeQuerySet.as_manager()

    class Meta:
        indexes = [
            # The list of changes, scoped and newest first (queries.changes.changes_page).
            models.Index(fields=["tenant", "-id"], name="changes_of_tenant"),
            # What waits in a state: the approval queue, assessment and rollout finders.
            models.Index(fields=["state", "-id"], name="changes_in_state"),
            # The calendar's and the home page's next starts.
            models.Index(
                fields=["planned_start_at"],
                name="changes_by_planned_start",
                condition=models.Q(planned_start_at__isnull=False),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=list(ChangeState)), name="change_state_is_in_the_table"
            ),
            models.CheckConstraint(
                condition=~models.Q(state=ChangeState.CLOSED) | ~models.Q(close_code=""),
                name="a_closed_change_has_a_close_code",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.title}"

    @property
    def number(self) -> str:
        """Given at creation by the database's identity, never reused."""
        return f"CHG-{self.pk:06d}"

    def get_absolute_url(self) -> str:
        return reverse("change", args=[self.number])


class Revision(models.Model):
    """One immutable version of what is asked. `content` holds the answers as `rules.content` describes them."""

    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    author = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT)
    created_at = models.DateTimeField()
    content = models.JSONField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["change", "number"], name="one_revision_per_number")]

    def __str__(self) -> str:
        return f"revision {self.number}"


class Contributor(models.Model):
    """Somebody who had a hand in a change; rows are only added (APR-2). `email` names authors we do not know."""

    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="contributors")
    user = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True)
    email = models.EmailField(blank=True)
    contribution = models.CharField(max_length=16, choices=Contribution.choices())
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["change", "user", "email", "contribution"],
                name="one_row_per_contribution",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.user or self.email} {self.contribution}"
