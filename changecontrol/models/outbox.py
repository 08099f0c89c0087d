"""Words to people, kept until delivered, and answers kept so that a repeated request is one request."""

from __future__ import annotations

from django.db import models

from changecontrol.models.leased import Leased


class Message(Leased):
    """Shown in the recipient's inbox at once, and sent by e-mail by the delivery workflow when `next_due_at` is set."""

    recipient = models.ForeignKey("changecontrol.User", on_delete=models.CASCADE, related_name="messages")
    change = models.ForeignKey("changecontrol.ChangeRequest", on_delete=models.CASCADE, null=True)
    tag = models.CharField(max_length=80)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    path = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        indexes = [
            # The inbox, and the count of unread messages in the page's head.
            models.Index(fields=["recipient", "-id"], name="messages_of_recipient"),
            models.Index(fields=["next_due_at"], name="messages_due", condition=models.Q(next_due_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.recipient}: {self.subject}"


class IdempotencyKey(models.Model):
    """The answer to a POST, kept for a day: the same key with the same body gets it again; with another body, 409."""

    user = models.ForeignKey("changecontrol.User", on_delete=models.CASCADE)
    key = models.CharField(max_length=200)
    method_and_path = models.CharField(max_length=400)
    request_sha256 = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_idempotency_key")]
        indexes = [
            # Each sweep lets the oldest answers go (workflow.delivery).
            models.Index(fields=["created_at"], name="answers_by_age"),
        ]

    def __str__(self) -> str:
        return self.key
