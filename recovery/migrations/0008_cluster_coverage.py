"""The times that an operator says it can restore, and where it keeps the base backup of a point."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0007_jobs"),
        ("recovery", "0007_comparison"),
    ]

    operations = [
        migrations.AlterField(
            model_name="upkeep",
            name="kind",
            field=models.CharField(
                choices=[
                    ("attachments", "Attachments"),
                    ("retention", "Retention"),
                    ("comparison", "Comparison"),
                    ("coverage", "Coverage"),
                    ("clusters", "Clusters"),
                ],
                max_length=16,
            ),
        ),
        migrations.AddField(
            model_name="recoverypoint",
            name="cluster_facts",
            field=models.JSONField(
                help_text="What an operator in Kubernetes said of the base backup that it keeps.", null=True
            ),
        ),
        migrations.CreateModel(
            name="ClusterCoverage",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("system_identifier", models.CharField(blank=True, max_length=20)),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "cluster coverage",
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(fields=("environment",), name="one_cluster_coverage_per_environment"),
                    models.CheckConstraint(
                        condition=models.Q(("starts_at__lte", models.F("ends_at"))),
                        name="cluster_coverage_ends_after_it_starts",
                    ),
                ],
            },
        ),
    ]
