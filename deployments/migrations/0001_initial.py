"""What was measured while waves baked."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("changecontrol", "0002_law"),
    ]

    operations = [
        migrations.CreateModel(
            name="Measurement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("wave", models.PositiveSmallIntegerField()),
                ("indicator", models.CharField(max_length=64)),
                ("title", models.CharField(max_length=120)),
                ("query", models.TextField()),
                ("comparison", models.CharField(max_length=16)),
                ("threshold", models.FloatField()),
                ("minimum_samples", models.PositiveIntegerField()),
                ("breach_count", models.PositiveIntegerField()),
                ("cohorts", models.JSONField(default=list)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("pass", "pass"),
                            ("fail", "fail"),
                            ("inconclusive", "inconclusive"),
                            ("no_data", "no_data"),
                            ("error", "error"),
                        ],
                        max_length=16,
                    ),
                ),
                ("sentence", models.TextField(blank=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="measurements", to="changecontrol.run"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="MeasurementSample",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("value", models.FloatField(null=True)),
                ("error", models.CharField(blank=True, max_length=300)),
                (
                    "measurement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="samples",
                        to="deployments.measurement",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.AddConstraint(
            model_name="measurement",
            constraint=models.UniqueConstraint(
                fields=("run", "wave", "environment", "indicator", "started_at"),
                name="one_measurement_per_wave_environment_and_indicator",
            ),
        ),
        migrations.AddConstraint(
            model_name="measurementsample",
            constraint=models.UniqueConstraint(fields=("measurement", "at"), name="one_sample_per_moment"),
        ),
    ]
