"""What is new is copied to the other destination by upkeep, which tells how far behind that is."""

from __future__ import annotations

from django.db import migrations, models

KINDS = [
    ("attachments", "Attachments"),
    ("retention", "Retention"),
    ("comparison", "Comparison"),
    ("copies", "Copies"),
    ("coverage", "Coverage"),
    ("clusters", "Clusters"),
]


class Migration(migrations.Migration):
    dependencies = [("recovery", "0010_wal_places")]

    operations = [
        migrations.AlterField(model_name="upkeep", name="kind", field=models.CharField(choices=KINDS, max_length=16)),
        migrations.AddField(
            model_name="upkeep",
            name="reached_at",
            field=models.DateTimeField(help_text="Of copies: up to when the other destination covers.", null=True),
        ),
    ]
