"""What the catalogue and the stores disagree on, the upkeep that finds it, and the alarm about what is lost."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

ALARMS = [
    ("no_success", "No success"),
    ("wal_failing", "Wal failing"),
    ("attachments_failing", "Attachments failing"),
    ("size_anomaly", "Size anomaly"),
    ("store_unreachable", "Store unreachable"),
    ("objects_lost", "Objects lost"),
    ("drill_overdue", "Drill overdue"),
]
DIFFERENCES = [("missing", "Missing"), ("empty", "Empty"), ("unknown_set", "Unknown set"), ("orphan", "Orphan")]
UPKEEP = [("attachments", "Attachments"), ("retention", "Retention"), ("comparison", "Comparison")]


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0007_jobs"),
        ("recovery", "0006_cut_over"),
    ]

    operations = [
        migrations.CreateModel(
            name="Disagreement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("store", models.CharField(help_text="Address of the store.", max_length=500)),
                ("kind", models.CharField(choices=DIFFERENCES, max_length=16)),
                ("name", models.CharField(max_length=500)),
                ("sentence", models.TextField()),
                ("object_count", models.PositiveBigIntegerField(default=0)),
                ("size", models.BigIntegerField(default=0)),
                (
                    "stored_at",
                    models.DateTimeField(help_text="When the newest of its objects was stored.", null=True),
                ),
                ("found_at", models.DateTimeField()),
                ("goes_at", models.DateTimeField(null=True)),
                ("asked_at", models.DateTimeField(help_text="When somebody asked that it goes.", null=True)),
                (
                    "asked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "point",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="recovery.recoverypoint",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("environment", "store", "kind", "name"), name="one_disagreement_of_a_kind"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", [kind for kind, _ in DIFFERENCES])),
                        name="kind_of_disagreement_is_known",
                    ),
                ],
            },
        ),
        migrations.AlterField(model_name="upkeep", name="kind", field=models.CharField(choices=UPKEEP, max_length=16)),
        migrations.RemoveConstraint(model_name="raisedalarm", name="alarm_kind_is_known"),
        migrations.AlterField(
            model_name="raisedalarm", name="kind", field=models.CharField(choices=ALARMS, max_length=24)
        ),
        migrations.AddConstraint(
            model_name="raisedalarm",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", [kind for kind, _ in ALARMS])), name="alarm_kind_is_known"
            ),
        ),
    ]
