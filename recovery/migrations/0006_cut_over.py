"""A restore into production: prepared for the run of a change, and the old database kept for a while."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0007_jobs"),
        ("recovery", "0005_alarms"),
    ]

    operations = [
        migrations.AlterField(
            model_name="restore",
            name="purpose",
            field=models.CharField(
                choices=[("copy", "Copy"), ("incident", "Incident"), ("production", "Production")], max_length=16
            ),
        ),
        migrations.CreateModel(
            name="CutOver",
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
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("backing_up", "Backing up"),
                            ("restoring", "Restoring"),
                            ("ready", "Ready"),
                            ("kept", "Kept"),
                            ("over", "Over"),
                            ("failed", "Failed"),
                            ("abandoned", "Abandoned"),
                        ],
                        default="backing_up",
                        max_length=16,
                    ),
                ),
                (
                    "sentence",
                    models.TextField(blank=True, help_text="What a person should know about where it stands."),
                ),
                ("target_at", models.DateTimeField()),
                ("target_database", models.CharField(max_length=63)),
                ("old_database", models.CharField(max_length=63)),
                ("keep_hours", models.PositiveIntegerField()),
                ("created_at", models.DateTimeField()),
                (
                    "in_place_at",
                    models.DateTimeField(help_text="Since when the new database is the environment's.", null=True),
                ),
                ("kept_until", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "backup",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="recovery.backuprun",
                    ),
                ),
                (
                    "change",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.changerequest"
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "restore",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="cut_over",
                        to="recovery.restore",
                    ),
                ),
                (
                    "run",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.run"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_due_at__isnull", False)), fields=["next_due_at"], name="cut_overs_due"
                    ),
                    models.Index(fields=["run", "-id"], name="cut_overs_of_run"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                [
                                    "backing_up",
                                    "kept",
                                    "ready",
                                    "restoring",
                                ],
                            )
                        ),
                        fields=("run",),
                        name="one_active_cut_over_per_run",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                [
                                    "backing_up",
                                    "restoring",
                                    "ready",
                                    "kept",
                                    "over",
                                    "failed",
                                    "abandoned",
                                ],
                            )
                        ),
                        name="cut_over_state_is_in_the_table",
                    ),
                ],
            },
        ),
    ]
