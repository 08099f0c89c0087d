"""In which store WAL lies, and where its timeline left another: a point is carried on by WAL of its own store alone."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0009_corrective_changes")]

    operations = [
        migrations.AddField(
            model_name="walsegment",
            name="store",
            field=models.CharField(
                blank=True, db_default="", help_text="Address; empty: not recorded yet.", max_length=500
            ),
        ),
        migrations.AddField(
            model_name="walsegment", name="parent", field=models.PositiveIntegerField(db_default=0, default=0)
        ),
        migrations.AddField(
            model_name="walsegment", name="forked_lsn", field=models.BigIntegerField(db_default=0, default=0)
        ),
        migrations.RemoveConstraint(model_name="walsegment", name="one_segment_per_position"),
        migrations.AddConstraint(
            model_name="walsegment",
            constraint=models.UniqueConstraint(
                fields=("environment", "store", "system_identifier", "timeline", "start_lsn"),
                name="one_segment_per_position",
            ),
        ),
    ]
