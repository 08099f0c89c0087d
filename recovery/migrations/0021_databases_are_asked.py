"""What is known of the database of an environment, and the alarm of one that fails."""

from __future__ import annotations

from django.db import migrations, models

KINDS = [
    ("database_failing", "Database failing"),
    ("no_success", "No success"),
    ("wal_failing", "Wal failing"),
    ("wal_retained", "Wal retained"),
    ("slot_left", "Slot left"),
    ("attachments_failing", "Attachments failing"),
    ("size_anomaly", "Size anomaly"),
    ("store_unreachable", "Store unreachable"),
    ("objects_lost", "Objects lost"),
    ("not_locked", "Not locked"),
    ("drill_overdue", "Drill overdue"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("recovery", "0020_locks"),
    ]

    operations = [
        migrations.AddField(
            model_name="alarmwatch",
            name="database_failing_since",
            field=models.DateTimeField(help_text="Since when its database cannot be used.", null=True),
        ),
        migrations.AddField(
            model_name="alarmwatch",
            name="database_trouble",
            field=models.TextField(blank=True, db_default="", help_text="What whoever archives was told of it."),
        ),
        migrations.RemoveConstraint(model_name="raisedalarm", name="alarm_kind_is_known"),
        migrations.AlterField(
            model_name="raisedalarm", name="kind", field=models.CharField(choices=KINDS, max_length=24)
        ),
        migrations.AddConstraint(
            model_name="raisedalarm",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", [kind for kind, _ in KINDS])), name="alarm_kind_is_known"
            ),
        ),
    ]
