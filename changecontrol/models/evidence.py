"""Bytes kept as evidence, addressed by their SHA-256 in the object store."""

from __future__ import annotations

from django.db import models


class Artefact(models.Model):
    """A named piece of evidence of one change. `size` is in bytes; the bytes are immutable."""

    change = models.ForeignKey("changecontrol.ChangeRequest", on_delete=models.PROTECT, related_name="artefacts")
    name = models.CharField(max_length=200)
    media_type = models.CharField(max_length=80)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    source = models.CharField(max_length=120)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["change", "name", "sha256"], name="one_artefact_per_name_and_content")
        ]

    def __str__(self) -> str:
        return self.name
