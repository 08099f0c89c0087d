"""What was measured while a wave baked, kept as long as the change (ANA-3)."""

from __future__ import annotations

from django.db import models

from changecontrol.models import Environment, Run
from deployments.rules.analysis import AnalysisVerdict


class Measurement(models.Model):
    """One indicator rule in one environment during one wave: the resolved query, its threshold and what it came to."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="measurements")
    wave = models.PositiveSmallIntegerField()
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    indicator = models.CharField(max_length=64)
    title = models.CharField(max_length=120)
    query = models.TextField()
    comparison = models.CharField(max_length=16)
    threshold = models.FloatField()
    minimum_samples = models.PositiveIntegerField()
    breach_count = models.PositiveIntegerField()
    cohorts = models.JSONField(default=list)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    verdict = models.CharField(max_length=16, choices=[(one.value, one.value) for one in AnalysisVerdict])
    sentence = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "wave", "environment", "indicator", "started_at"],
                name="one_measurement_per_wave_environment_and_indicator",
            )
        ]

    def __str__(self) -> str:
        return f"{self.title}: {self.verdict}"


class MeasurementSample(models.Model):
    """One answer of the metrics server, never altered. No value and no error means that there was no series."""

    measurement = models.ForeignKey(Measurement, on_delete=models.PROTECT, related_name="samples")
    at = models.DateTimeField()
    value = models.FloatField(null=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["measurement", "at"], name="one_sample_per_moment")]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.error or self.value}"
