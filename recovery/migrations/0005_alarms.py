"""What is watched of backups, and what their owners were told is wrong."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0007_jobs"),
        ("recovery", "0004_corrective_actions_are_closed"),
    ]

    operations = [
        migrations.CreateModel(
            name="AlarmWatch",
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
                    "stores_asked_at",
                    models.DateTimeField(help_text="When its stores were last asked whether they answer.", null=True),
                ),
                (
                    "silent_stores",
                    models.JSONField(default=dict, help_text="Since when each store that does not answer is silent."),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "alarm watches",
                "ordering": ["id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_due_at__isnull", False)),
                        fields=["next_due_at"],
                        name="alarm_watches_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("environment",), name="one_alarm_watch_per_environment")
                ],
            },
        ),
        migrations.CreateModel(
            name="RaisedAlarm",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("no_success", "No success"),
                            ("wal_failing", "Wal failing"),
                            ("attachments_failing", "Attachments failing"),
                            ("size_anomaly", "Size anomaly"),
                            ("store_unreachable", "Store unreachable"),
                            ("drill_overdue", "Drill overdue"),
                        ],
                        max_length=24,
                    ),
                ),
                ("subject", models.CharField(blank=True, max_length=500)),
                ("sentence", models.TextField()),
                ("since", models.DateTimeField()),
                ("raised_at", models.DateTimeField()),
                ("told_at", models.DateTimeField(help_text="When its owners were last told.")),
                ("quiet_since", models.DateTimeField(help_text="Since when nothing is wrong any more.", null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at__isnull", True)),
                        fields=("environment", "kind", "subject"),
                        name="one_open_alarm_of_a_kind",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "kind__in",
                                [
                                    "no_success",
                                    "wal_failing",
                                    "attachments_failing",
                                    "size_anomaly",
                                    "store_unreachable",
                                    "drill_overdue",
                                ],
                            )
                        ),
                        name="alarm_kind_is_known",
                    ),
                ],
            },
        ),
    ]
