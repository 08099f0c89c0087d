"""What a gate found, about what, with which tool, and until when it counts."""

from __future__ import annotations

from django.db import models

from changecontrol.lifecycles.machine import Word
from changecontrol.models.change import ChangeRequest, Revision


class Verdict(Word):
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"
    WAIVED = "waived"
    STALE = "stale"


class GateResult(models.Model):
    """One verdict (GATE-1). `judged` is the digest of what the gate looked at; the newest row per gate counts."""

    change = models.ForeignKey(ChangeRequest, on_delete=models.PROTECT, related_name="gate_results")
    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="gate_results")
    gate = models.CharField(max_length=64)
    name = models.CharField(max_length=120)
    verdict = models.CharField(max_length=16, choices=Verdict.choices())
    sentence = models.TextField()
    judged = models.CharField(max_length=64)
    judged_what = models.CharField(max_length=32)
    tool = models.CharField(max_length=64)
    tool_version = models.CharField(max_length=64)
    database_at = models.DateTimeField(null=True)
    at = models.DateTimeField()
    expires_at = models.DateTimeField()
    artefact_sha256 = models.CharField(max_length=64, blank=True)
    duration_seconds = models.FloatField(default=0)

    class Meta:
        ordering = ["id"]
        indexes = [
            # The newest result of each gate of a change (queries.gates.current_results).
            models.Index(fields=["change", "gate", "-id"], name="gate_results_of_change"),
        ]

    def __str__(self) -> str:
        return f"{self.gate}: {self.verdict}"
