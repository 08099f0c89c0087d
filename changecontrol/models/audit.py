"""What happened, in an order nobody can rewrite. Only `changecontrol.audit` writes here; triggers do the chaining."""

from __future__ import annotations

from django.db import models


class AuditHead(models.Model):
    """The end of each subject's chain. Written by the chaining trigger alone; the application has no right to it."""

    subject = models.CharField(max_length=80, primary_key=True)
    sequence = models.BigIntegerField()
    hash = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.subject} at {self.sequence}"


class AuditEvent(models.Model):
    """One event. `body` is canonical JSON (RFC 8785); sequence, previous hash and hash are set by the database."""

    id = models.BigAutoField(primary_key=True)
    subject = models.CharField(max_length=80)
    sequence = models.BigIntegerField(default=0)
    previous_hash = models.BinaryField(default=bytes)
    hash = models.BinaryField(default=bytes)
    tag = models.CharField(max_length=80)
    actor = models.ForeignKey("changecontrol.User", on_delete=models.PROTECT, null=True)
    tenant = models.ForeignKey("changecontrol.Tenant", on_delete=models.PROTECT, null=True)
    change = models.ForeignKey("changecontrol.ChangeRequest", on_delete=models.PROTECT, null=True)
    at = models.DateTimeField()
    body = models.TextField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["subject", "sequence"], name="one_event_per_subject_and_sequence")
        ]
        indexes = [
            # A change's timeline and its evidence pack.
            models.Index(fields=["change", "id"], name="events_of_change"),
            # The audit page, scoped and newest first.
            models.Index(fields=["tenant", "-id"], name="events_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.sequence} {self.tag}"
