"""What is known of replication slots, and the alarms of them."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

KINDS = (
    ("no_success", "No success"),
    ("wal_failing", "Wal failing"),
    ("wal_retained", "Wal retained"),
    ("slot_left", "Slot left"),
    ("attachments_failing", "Attachments failing"),
    ("size_anomaly", "Size anomaly"),
    ("store_unreachable", "Store unreachable"),
    ("objects_lost", "Objects lost"),
    ("drill_overdue", "Drill overdue"),
)


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0007_jobs"),
        ("recovery", "0012_wal_missing"),
    ]

    operations = [
        migrations.CreateModel(
            name="WalSlot",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=300)),
                ("version", models.PositiveIntegerField()),
                ("name", models.CharField(max_length=63)),
                ("retained_bytes", models.BigIntegerField()),
                ("limit_bytes", models.BigIntegerField(null=True)),
                ("wal_status", models.CharField(max_length=16)),
                ("retained_since", models.DateTimeField(null=True)),
                ("inactive_since", models.DateTimeField(null=True)),
                ("left_since", models.DateTimeField(null=True)),
                (
                    "lost_at",
                    models.DateTimeField(
                        help_text="When WAL that it was to keep was last found to be gone.", null=True
                    ),
                ),
                ("seen_at", models.DateTimeField()),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [models.UniqueConstraint(fields=("environment", "source"), name="one_slot_per_server")],
            },
        ),
        migrations.RemoveConstraint(model_name="raisedalarm", name="alarm_kind_is_known"),
        migrations.AlterField(
            model_name="raisedalarm", name="kind", field=models.CharField(choices=list(KINDS), max_length=24)
        ),
        migrations.AddConstraint(
            model_name="raisedalarm",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", [kind for kind, _ in KINDS])), name="alarm_kind_is_known"
            ),
        ),
    ]
