"""Say which jobs a cluster has something of, and why that cannot be cleared away."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0008_rehearsals"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="placed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="leftovers",
            field=models.TextField(blank=True, db_default="", help_text="Why what did it cannot be cleared away."),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("placed_at__isnull", False)), fields=["placed_at"], name="jobs_placed"
            ),
        ),
    ]
