"""The columns by which the engine hands a row to one worker at a time."""

from __future__ import annotations

from django.db import models


class Leased(models.Model):
    """A row with work due. Only `workflow.engine` writes the lease; a null `next_due_at` means nothing is due."""

    next_due_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    deadline_at = models.DateTimeField(null=True, blank=True)
    trouble = models.TextField(blank=True, db_default="", help_text="Why the last step did not succeed, in words.")
    trouble_since = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
