"""The resolved, canonical description of what will be done."""

from __future__ import annotations

import json
from typing import Any

from django.db import models

from changecontrol.models.change import Revision


class Plan(models.Model):
    """`document` is RFC 8785 text and `digest` its SHA-256; neither ever changes."""

    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="plans")
    document = models.TextField()
    digest = models.CharField(max_length=64)
    manifests_sha256 = models.CharField(max_length=64, blank=True, help_text="The stored artefact with the manifests.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["revision", "digest"], name="one_plan_per_revision_and_digest")]

    def __str__(self) -> str:
        return f"plan {self.digest[:8]}"

    @property
    def content(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.document)
        return loaded
