"""Let a drill be canceled: it clears away, and is then neither passed nor failed, but names who canceled it and why."""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

STATES = [
    ("queued", "Queued"),
    ("provisioning", "Provisioning"),
    ("restoring", "Restoring"),
    ("checking", "Checking"),
    ("tearing_down", "Tearing down"),
    ("passed", "Passed"),
    ("failed", "Failed"),
    ("canceled", "Canceled"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("recovery", "0018_old_versions"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(model_name="drill", name="canceled_at", field=models.DateTimeField(null=True)),
        migrations.AddField(
            model_name="drill",
            name="canceled_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="drill",
            name="cancel_reason",
            field=models.CharField(blank=True, db_default="", help_text="Why it was canceled.", max_length=500),
        ),
        migrations.AlterField(
            model_name="drill",
            name="state",
            field=models.CharField(choices=STATES, default="queued", max_length=16),
        ),
        migrations.RemoveConstraint(model_name="drill", name="drill_state_is_in_the_table"),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", [state for state, _ in STATES])), name="drill_state_is_in_the_table"
            ),
        ),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("cancel_reason", ""), ("canceled_at__isnull", True), ("canceled_by__isnull", True)),
                    models.Q(
                        ("canceled_at__isnull", False),
                        ("canceled_by__isnull", False),
                        models.Q(("cancel_reason", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="a_drill_is_canceled_by_somebody_with_a_reason",
            ),
        ),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("canceled_at__isnull", True), models.Q(("state", "canceled"), _negated=True)),
                    models.Q(
                        ("canceled_at__isnull", False), models.Q(("state__in", ["failed", "passed"]), _negated=True)
                    ),
                    _connector="OR",
                ),
                name="a_canceled_drill_has_no_verdict",
            ),
        ),
    ]
