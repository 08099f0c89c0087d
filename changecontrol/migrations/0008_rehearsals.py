"""Add rehearsals: an environment brought up in another cluster, which the database holds to be another one."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

LAW = """
CREATE FUNCTION refuse_own_cluster() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM changecontrol_environment WHERE id = NEW.environment_id AND cluster_id = NEW.cluster_id
    ) THEN
        RAISE EXCEPTION 'a rehearsal is never in the cluster of its environment' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER refuse_own_cluster BEFORE INSERT OR UPDATE OF environment_id, cluster_id
ON changecontrol_rehearsal FOR EACH ROW EXECUTE FUNCTION refuse_own_cluster();
"""
REPEAL = "DROP TRIGGER refuse_own_cluster ON changecontrol_rehearsal; DROP FUNCTION refuse_own_cluster();"


class Migration(migrations.Migration):
    dependencies = [
        ("changecontrol", "0007_jobs"),
    ]

    operations = [
        migrations.CreateModel(
            name="Rehearsal",
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
                ("key", models.UUIDField()),
                ("commit", models.CharField(max_length=64)),
                ("path", models.CharField(max_length=300)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("asked", "Asked"),
                            ("bringing_up", "Bringing up"),
                            ("up", "Up"),
                            ("failed", "Failed"),
                            ("tearing_down", "Tearing down"),
                            ("gone", "Gone"),
                            ("left", "Left"),
                        ],
                        default="asked",
                        max_length=16,
                    ),
                ),
                (
                    "sentence",
                    models.TextField(blank=True, help_text="What a person should know about where it stands."),
                ),
                ("problem", models.TextField(blank=True, help_text="Why it did not come up, in words.")),
                ("leftovers", models.TextField(blank=True, help_text="What could not be taken down.")),
                ("facts", models.JSONField(default=dict, help_text="What was applied, and how the workloads were.")),
                ("asked_at", models.DateTimeField()),
                ("began_at", models.DateTimeField(null=True)),
                ("up_at", models.DateTimeField(null=True)),
                ("ends_at", models.DateTimeField()),
                ("teardown_asked_at", models.DateTimeField(null=True)),
                ("teardown_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "cluster",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.cluster"
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_due_at__isnull", False)),
                        fields=["next_due_at"],
                        name="rehearsals_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("key",), name="one_rehearsal_per_run"),
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["asked", "bringing_up", "failed", "tearing_down", "up"])),
                        fields=("environment",),
                        name="one_active_rehearsal_per_environment",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["asked", "bringing_up", "up", "failed", "tearing_down", "gone", "left"])
                        ),
                        name="rehearsal_state_is_in_the_table",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "gone"), _negated=True), ("leftovers", ""), _connector="OR"
                        ),
                        name="a_rehearsal_that_left_something_behind_is_not_gone",
                    ),
                ],
            },
        ),
        migrations.RunSQL(LAW, REPEAL),
    ]
