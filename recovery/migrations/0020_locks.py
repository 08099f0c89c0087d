"""Keep what stores say of their locks, and the alarm of a lock that is not as promised."""

from __future__ import annotations

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
    ("not_locked", "Not locked"),
    ("drill_overdue", "Drill overdue"),
)


class Migration(migrations.Migration):
    dependencies = [("recovery", "0019_drills_are_canceled")]

    operations = [
        migrations.AddField(
            model_name="pointcopy",
            name="locked_until",
            field=models.DateTimeField(
                help_text="When the store's lock on it ends; null: it showed none, or did not say.", null=True
            ),
        ),
        migrations.AddField(
            model_name="pointcopy",
            name="lock_told_at",
            field=models.DateTimeField(help_text="When the store told of its lock; null: it did not say.", null=True),
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
