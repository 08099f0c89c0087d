"""Add the jobs that workflows order, whose work outlasts a tick."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0006_trouble"),
    ]

    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("next_due_at", models.DateTimeField(blank=True, null=True)),
                ("lease_token", models.UUIDField(blank=True, null=True)),
                ("lease_until", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("deadline_at", models.DateTimeField(blank=True, null=True)),
                (
                    "trouble",
                    models.TextField(
                        blank=True, db_default="", help_text="Why the last step did not succeed, in words."
                    ),
                ),
                ("trouble_since", models.DateTimeField(blank=True, null=True)),
                ("key", models.CharField(max_length=200)),
                ("kind", models.CharField(max_length=64)),
                ("order", models.JSONField()),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "Open"), ("done", "Done"), ("failed", "Failed"), ("stopped", "Stopped")],
                        default="open",
                        max_length=16,
                    ),
                ),
                ("progress", models.JSONField(default=dict, help_text="How far the work is, in its own words.")),
                ("result", models.JSONField(default=dict)),
                ("reason", models.TextField(blank=True, help_text="Why it failed, in words.")),
                ("stop_asked_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ["id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_due_at__isnull", False)), fields=["next_due_at"], name="jobs_due"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("key",), name="one_job_per_key"),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["open", "done", "failed", "stopped"])),
                        name="job_state_is_in_the_table",
                    ),
                ],
            },
        ),
    ]
