"""Let a backup policy say for how long its bucket keeps old versions of what was removed."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0017_adoptions")]

    operations = [
        migrations.AddField(
            model_name="backuppolicy",
            name="version_days",
            field=models.PositiveSmallIntegerField(
                db_default=0,
                default=0,
                help_text="How long what was removed stays as an old version, by the bucket's lifecycle.",
            ),
        ),
    ]
