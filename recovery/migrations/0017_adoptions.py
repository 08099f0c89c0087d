"""Let a whole point that the catalogue does not name be taken in: who asked for it, and why it was not."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

KINDS = [
    ("attachments", "Attachments"),
    ("retention", "Retention"),
    ("comparison", "Comparison"),
    ("copies", "Copies"),
    ("coverage", "Coverage"),
    ("clusters", "Clusters"),
    ("adoption", "Adoption"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("recovery", "0016_checks_about_the_copy"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="disagreement",
            name="adoption_asked_at",
            field=models.DateTimeField(help_text="When somebody asked that it is taken in.", null=True),
        ),
        migrations.AddField(
            model_name="disagreement",
            name="adoption_asked_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="disagreement",
            name="refusal",
            field=models.TextField(blank=True, db_default="", help_text="Why it was not taken in."),
        ),
        migrations.AlterField(model_name="upkeep", name="kind", field=models.CharField(choices=KINDS, max_length=16)),
    ]
