"""Let a check of a drill say whether its no blames the copy. Earlier ones did."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("recovery", "0015_rehearsals"),
    ]

    operations = [
        migrations.AddField(
            model_name="drillcheck",
            name="is_about_copy",
            field=models.BooleanField(
                db_default=True, help_text="Whether a no blames the copy, and not the shop or what runs on it."
            ),
        ),
    ]
