"""Why a drill that failed opened no change, and when somebody was asked to close what a change has mended."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0008_cluster_coverage")]

    operations = [
        migrations.AddField(
            model_name="correctiveaction",
            name="problem",
            field=models.CharField(
                blank=True, db_default="", help_text="Why no change was opened for it, in words.", max_length=500
            ),
        ),
        migrations.AddField(
            model_name="correctiveaction",
            name="asked_at",
            field=models.DateTimeField(
                help_text="When somebody was asked to close it, for its change was closed as successful.", null=True
            ),
        ),
    ]
