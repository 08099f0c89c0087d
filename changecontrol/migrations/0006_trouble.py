"""Let a leased row say why its last step failed, and since when. Empty for rows that go on."""

from __future__ import annotations

from django.db import migrations, models

HELP = "Why the last step did not succeed, in words."


class Migration(migrations.Migration):
    dependencies = [("changecontrol", "0005_usernames_in_any_case")]

    operations = [
        operation
        for name in ("run", "runtarget", "message")
        for operation in (
            migrations.AddField(
                model_name=name,
                name="trouble",
                field=models.TextField(blank=True, db_default="", help_text=HELP),
            ),
            migrations.AddField(
                model_name=name, name="trouble_since", field=models.DateTimeField(blank=True, null=True)
            ),
        )
    ]
