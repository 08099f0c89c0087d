"""WAL that is recorded and gone from the store is told apart from objects of points."""

from __future__ import annotations

from django.db import migrations, models

KINDS = [
    ("missing", "Missing"),
    ("wal_missing", "Wal missing"),
    ("empty", "Empty"),
    ("unknown_set", "Unknown set"),
    ("orphan", "Orphan"),
]


class Migration(migrations.Migration):
    dependencies = [("recovery", "0011_copies")]

    operations = [
        migrations.RemoveConstraint(model_name="disagreement", name="kind_of_disagreement_is_known"),
        migrations.AlterField(
            model_name="disagreement", name="kind", field=models.CharField(choices=KINDS, max_length=16)
        ),
        migrations.AddConstraint(
            model_name="disagreement",
            constraint=models.CheckConstraint(
                condition=models.Q(("kind__in", [kind for kind, _ in KINDS])), name="kind_of_disagreement_is_known"
            ),
        ),
    ]
