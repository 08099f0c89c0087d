"""Backup policies, recovery points, restores and drills, and what each proved."""

from __future__ import annotations

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import changecontrol.models.estate


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("changecontrol", "0006_trouble"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BackupPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("version", models.PositiveIntegerField()),
                ("is_active", models.BooleanField(default=True)),
                (
                    "engine",
                    models.CharField(
                        choices=[
                            ("postgres", "Postgres"),
                            ("cloudnativepg", "Cloudnativepg"),
                            ("external", "External"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "source",
                    models.CharField(blank=True, help_text="Reference to how its database is reached.", max_length=300),
                ),
                ("filestore", models.CharField(blank=True, help_text="Address of its attachments.", max_length=500)),
                ("filestore_credential", models.CharField(blank=True, help_text="Reference.", max_length=300)),
                ("rrule", models.CharField(max_length=500)),
                ("starts_local", models.DateTimeField(help_text="Wall-clock start, kept as if it were UTC.")),
                ("zone", models.CharField(max_length=64, validators=[changecontrol.models.estate.validate_zone])),
                ("grace_seconds", models.PositiveIntegerField(help_text="How late a success may be before it alarms.")),
                (
                    "incrementals",
                    models.PositiveSmallIntegerField(default=0, help_text="How many follow each full base backup."),
                ),
                (
                    "wal_seconds",
                    models.PositiveIntegerField(help_text="How often WAL is shipped, the partial one too.", null=True),
                ),
                (
                    "filestore_seconds",
                    models.PositiveIntegerField(help_text="How often new attachments are copied.", null=True),
                ),
                ("store", models.CharField(help_text="Address of the primary destination.", max_length=500)),
                ("store_credential", models.CharField(blank=True, help_text="Reference.", max_length=300)),
                (
                    "copy_store",
                    models.CharField(blank=True, help_text="Address of the copy, elsewhere.", max_length=500),
                ),
                ("copy_credential", models.CharField(blank=True, help_text="Reference.", max_length=300)),
                (
                    "recipients",
                    models.JSONField(default=list, help_text="age recipients: who may read what is written."),
                ),
                (
                    "lock_days",
                    models.PositiveSmallIntegerField(default=0, help_text="How long the store refuses to delete it."),
                ),
                ("keep_last", models.PositiveSmallIntegerField()),
                ("keep_daily", models.PositiveSmallIntegerField(default=0)),
                ("keep_weekly", models.PositiveSmallIntegerField(default=0)),
                ("keep_monthly", models.PositiveSmallIntegerField(default=0)),
                ("is_pci", models.BooleanField(default=False, help_text="Keep one point of each of twelve months.")),
                (
                    "verify_days",
                    models.PositiveSmallIntegerField(
                        help_text="How often a point is restored, started and questioned."
                    ),
                ),
                ("drill_days", models.PositiveSmallIntegerField(help_text="How often a drill must pass.")),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField()),
                (
                    "created_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
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
                "verbose_name_plural": "backup policies",
                "ordering": ["environment", "-version"],
            },
        ),
        migrations.CreateModel(
            name="BackupRun",
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
                    "kind",
                    models.CharField(
                        choices=[("base", "Base"), ("incremental", "Incremental"), ("dump", "Dump")], max_length=16
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("step", models.CharField(blank=True, max_length=64)),
                ("due_at", models.DateTimeField(null=True)),
                ("reason", models.CharField(blank=True, max_length=500)),
                (
                    "sentence",
                    models.TextField(blank=True, help_text="What a person should know about where it stands."),
                ),
                ("data", models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")),
                ("created_at", models.DateTimeField()),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "asked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "policy",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="runs", to="recovery.backuppolicy"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Drill",
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
                ("key", models.UUIDField(unique=True)),
                ("level", models.PositiveSmallIntegerField()),
                (
                    "sabotage",
                    models.CharField(
                        blank=True,
                        choices=[("truncate", "Truncate"), ("flip", "Flip"), ("remove", "Remove"), ("swap", "Swap")],
                        max_length=16,
                    ),
                ),
                ("target_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("provisioning", "Provisioning"),
                            ("restoring", "Restoring"),
                            ("checking", "Checking"),
                            ("tearing_down", "Tearing down"),
                            ("passed", "Passed"),
                            ("failed", "Failed"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("step", models.CharField(blank=True, max_length=64)),
                ("scope", models.CharField(blank=True, help_text="What it covers and how, in words.", max_length=500)),
                (
                    "sentence",
                    models.TextField(blank=True, help_text="What a person should know about where it stands."),
                ),
                ("trouble_found", models.TextField(blank=True, help_text="Why it could not go on.")),
                ("leftovers", models.TextField(blank=True, help_text="What it could not tear down.")),
                ("data", models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")),
                ("rto_target_seconds", models.PositiveIntegerField()),
                ("rpo_target_seconds", models.PositiveIntegerField()),
                ("newest_sentinel_at", models.DateTimeField(null=True)),
                ("declared_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField()),
                ("provisioned_at", models.DateTimeField(null=True)),
                ("restored_at", models.DateTimeField(null=True)),
                ("validated_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "asked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
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
            },
        ),
        migrations.CreateModel(
            name="CorrectiveAction",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=200)),
                ("opened_at", models.DateTimeField()),
                (
                    "change",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="changecontrol.changerequest",
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "drill",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="corrective_actions",
                        to="recovery.drill",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="DrillCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("level", models.PositiveSmallIntegerField()),
                ("is_passed", models.BooleanField()),
                ("sentence", models.TextField()),
                ("at", models.DateTimeField()),
                (
                    "drill",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="checks", to="recovery.drill"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="RecoveryPoint",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "key",
                    models.CharField(help_text="Its name in the store, unique within the environment.", max_length=120),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("base", "Base"), ("incremental", "Incremental"), ("dump", "Dump")], max_length=16
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("copied", "Copied"),
                            ("verified", "Verified"),
                            ("broken", "Broken"),
                            ("removed", "Removed"),
                        ],
                        default="copied",
                        max_length=16,
                    ),
                ),
                ("level", models.PositiveSmallIntegerField(default=0)),
                (
                    "checked_at",
                    models.DateTimeField(help_text="When its standing was last proved or disproved.", null=True),
                ),
                ("started_at", models.DateTimeField()),
                ("consistent_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                ("system_identifier", models.CharField(blank=True, max_length=20)),
                ("server_version", models.CharField(blank=True, max_length=40)),
                ("timeline", models.PositiveIntegerField(default=0)),
                ("start_lsn", models.BigIntegerField(default=0)),
                ("stop_lsn", models.BigIntegerField(default=0)),
                ("filestore_at", models.DateTimeField(help_text="When its attachments were copied.", null=True)),
                ("git_commit", models.CharField(blank=True, max_length=64)),
                ("image", models.CharField(blank=True, max_length=300)),
                ("modules", models.JSONField(default=dict, help_text="Version by name.")),
                ("size", models.BigIntegerField()),
                ("locked_until", models.DateTimeField(null=True)),
                ("removal_asked_at", models.DateTimeField(null=True)),
                ("removed_at", models.DateTimeField(null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="increments",
                        to="recovery.recoverypoint",
                    ),
                ),
                (
                    "policy",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="points", to="recovery.backuppolicy"
                    ),
                ),
                (
                    "removal_asked_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "run",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="point",
                        to="recovery.backuprun",
                    ),
                ),
            ],
            options={
                "ordering": ["-consistent_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="PointPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("database", "Database"),
                            ("database_manifest", "Database manifest"),
                            ("filestore_manifest", "Filestore manifest"),
                            ("configuration", "Configuration"),
                            ("evidence", "Evidence"),
                        ],
                        max_length=24,
                    ),
                ),
                ("key", models.CharField(max_length=500)),
                ("size", models.BigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                ("started_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                (
                    "point",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="parts", to="recovery.recoverypoint"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="PointCopy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("store", models.CharField(max_length=500)),
                ("stored_at", models.DateTimeField()),
                (
                    "point",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="copies", to="recovery.recoverypoint"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "point copies",
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="LegalHold",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("reason", models.CharField(max_length=500)),
                ("placed_at", models.DateTimeField()),
                ("lifted_at", models.DateTimeField(null=True)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "lifted_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "placed_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "point",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="recovery.recoverypoint",
                    ),
                ),
            ],
            options={
                "ordering": ["placed_at", "id"],
            },
        ),
        migrations.AddField(
            model_name="drill",
            name="point",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="drills", to="recovery.recoverypoint"
            ),
        ),
        migrations.CreateModel(
            name="Restore",
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
                ("purpose", models.CharField(choices=[("copy", "Copy"), ("incident", "Incident")], max_length=16)),
                ("target_at", models.DateTimeField()),
                ("target_database", models.CharField(max_length=63)),
                ("target_filestore", models.CharField(blank=True, max_length=500)),
                (
                    "is_neutralised",
                    models.BooleanField(default=True, help_text="No mail, payment, cron or webhook before it boots."),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("provisioning", "Provisioning"),
                            ("restoring", "Restoring"),
                            ("validating", "Validating"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("canceled", "Canceled"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("step", models.CharField(blank=True, max_length=64)),
                ("reason", models.CharField(max_length=500)),
                (
                    "sentence",
                    models.TextField(blank=True, help_text="What a person should know about where it stands."),
                ),
                ("data", models.JSONField(default=dict, help_text="What the workflow remembers between ticks.")),
                ("size", models.BigIntegerField()),
                ("expected_seconds", models.PositiveIntegerField(null=True)),
                ("expected_error_seconds", models.PositiveIntegerField(null=True)),
                ("declared_at", models.DateTimeField()),
                ("decided_at", models.DateTimeField()),
                ("provisioned_at", models.DateTimeField(null=True)),
                ("restored_at", models.DateTimeField(null=True)),
                ("validated_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "asked_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
                (
                    "point",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="restores",
                        to="recovery.recoverypoint",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="SignOff",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField()),
                ("note", models.CharField(blank=True, max_length=500)),
                (
                    "by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "drill",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="sign_off", to="recovery.drill"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Verification",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "level",
                    models.PositiveSmallIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(5),
                        ]
                    ),
                ),
                ("is_passed", models.BooleanField()),
                ("sentence", models.TextField()),
                ("at", models.DateTimeField()),
                (
                    "drill",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="verifications",
                        to="recovery.drill",
                    ),
                ),
                (
                    "point",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="verifications",
                        to="recovery.recoverypoint",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="WalSegment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("system_identifier", models.CharField(max_length=20)),
                ("timeline", models.PositiveIntegerField()),
                ("start_lsn", models.BigIntegerField()),
                ("end_lsn", models.BigIntegerField()),
                ("ends_at", models.DateTimeField()),
                ("key", models.CharField(max_length=500)),
                ("size", models.BigIntegerField()),
                ("sha256", models.CharField(max_length=64)),
                (
                    "environment",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="changecontrol.environment"
                    ),
                ),
            ],
            options={
                "ordering": ["environment", "timeline", "start_lsn"],
            },
        ),
        migrations.AddConstraint(
            model_name="backuppolicy",
            constraint=models.UniqueConstraint(fields=("environment", "version"), name="one_backup_policy_per_version"),
        ),
        migrations.AddConstraint(
            model_name="backuppolicy",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_active", True)), fields=("environment",), name="one_active_backup_policy"
            ),
        ),
        migrations.AddConstraint(
            model_name="backuppolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("keep_last__gte", 1)), name="a_backup_policy_keeps_the_last_point"
            ),
        ),
        migrations.AddConstraint(
            model_name="backuppolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("copy_store", models.F("store")), _negated=True), name="a_copy_is_kept_elsewhere"
            ),
        ),
        migrations.AddIndex(
            model_name="backuprun",
            index=models.Index(
                condition=models.Q(("next_due_at__isnull", False)), fields=["next_due_at"], name="backups_due"
            ),
        ),
        migrations.AddIndex(
            model_name="backuprun",
            index=models.Index(fields=["environment", "-id"], name="backups_of_environment"),
        ),
        migrations.AddConstraint(
            model_name="backuprun",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "queued",
                            "running",
                        ],
                    )
                ),
                fields=("environment",),
                name="one_active_backup_per_environment",
            ),
        ),
        migrations.AddConstraint(
            model_name="backuprun",
            constraint=models.UniqueConstraint(fields=("policy", "due_at"), name="one_backup_per_scheduled_start"),
        ),
        migrations.AddConstraint(
            model_name="backuprun",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "queued",
                            "running",
                            "succeeded",
                            "failed",
                            "canceled",
                        ],
                    )
                ),
                name="backup_state_is_in_the_table",
            ),
        ),
        migrations.AddConstraint(
            model_name="drillcheck",
            constraint=models.UniqueConstraint(fields=("drill", "name"), name="one_answer_per_check"),
        ),
        migrations.AddConstraint(
            model_name="drillcheck",
            constraint=models.CheckConstraint(
                condition=models.Q(("level__gte", 1), ("level__lte", 5)), name="check_level_is_one_to_five"
            ),
        ),
        migrations.AddIndex(
            model_name="recoverypoint",
            index=models.Index(fields=["environment", "-consistent_at"], name="points_of_environment"),
        ),
        migrations.AddConstraint(
            model_name="recoverypoint",
            constraint=models.UniqueConstraint(fields=("environment", "key"), name="one_recovery_point_per_key"),
        ),
        migrations.AddConstraint(
            model_name="recoverypoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "copied",
                            "verified",
                            "broken",
                            "removed",
                        ],
                    )
                ),
                name="recovery_point_state_is_in_the_table",
            ),
        ),
        migrations.AddConstraint(
            model_name="recoverypoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "verified"), _negated=True),
                    models.Q(("checked_at__isnull", False), ("level__gte", 2)),
                    _connector="OR",
                ),
                name="verified_means_restored_and_questioned",
            ),
        ),
        migrations.AddConstraint(
            model_name="recoverypoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("consistent_at__lte", models.F("finished_at")), ("started_at__lte", models.F("consistent_at"))
                ),
                name="a_recovery_point_is_consistent_while_it_is_taken",
            ),
        ),
        migrations.AddConstraint(
            model_name="recoverypoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("filestore_at__isnull", True), ("filestore_at__gte", models.F("consistent_at")), _connector="OR"
                ),
                name="a_filestore_is_copied_after_its_database",
            ),
        ),
        migrations.AddConstraint(
            model_name="recoverypoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "incremental"), ("parent__isnull", False)),
                    models.Q(
                        models.Q(("kind", "incremental"), _negated=True),
                        ("parent__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="an_incremental_point_has_a_parent",
            ),
        ),
        migrations.AddConstraint(
            model_name="pointpart",
            constraint=models.UniqueConstraint(fields=("point", "key"), name="one_part_per_key"),
        ),
        migrations.AddConstraint(
            model_name="pointcopy",
            constraint=models.UniqueConstraint(fields=("point", "store"), name="one_copy_per_store"),
        ),
        migrations.AddIndex(
            model_name="legalhold",
            index=models.Index(
                condition=models.Q(("lifted_at__isnull", True)), fields=["environment"], name="holds_in_force"
            ),
        ),
        migrations.AddIndex(
            model_name="drill",
            index=models.Index(
                condition=models.Q(("next_due_at__isnull", False)), fields=["next_due_at"], name="drills_due"
            ),
        ),
        migrations.AddIndex(
            model_name="drill",
            index=models.Index(fields=["environment", "state", "-finished_at"], name="drills_of_environment"),
        ),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "checking",
                            "provisioning",
                            "queued",
                            "restoring",
                            "tearing_down",
                        ],
                    )
                ),
                fields=("environment",),
                name="one_active_drill_per_environment",
            ),
        ),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "queued",
                            "provisioning",
                            "restoring",
                            "checking",
                            "tearing_down",
                            "passed",
                            "failed",
                        ],
                    )
                ),
                name="drill_state_is_in_the_table",
            ),
        ),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.CheckConstraint(
                condition=models.Q(("level__gte", 1), ("level__lte", 5)), name="drill_level_is_one_to_five"
            ),
        ),
        migrations.AddConstraint(
            model_name="drill",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "passed"), _negated=True),
                    ("leftovers", ""),
                    _connector="OR",
                ),
                name="a_drill_that_left_something_behind_has_not_passed",
            ),
        ),
        migrations.AddIndex(
            model_name="restore",
            index=models.Index(
                condition=models.Q(("next_due_at__isnull", False)), fields=["next_due_at"], name="restores_due"
            ),
        ),
        migrations.AddIndex(
            model_name="restore",
            index=models.Index(fields=["environment", "-id"], name="restores_of_environment"),
        ),
        migrations.AddConstraint(
            model_name="restore",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "provisioning",
                            "queued",
                            "restoring",
                            "validating",
                        ],
                    )
                ),
                fields=("environment", "target_database"),
                name="one_active_restore_per_target",
            ),
        ),
        migrations.AddConstraint(
            model_name="restore",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "queued",
                            "provisioning",
                            "restoring",
                            "validating",
                            "succeeded",
                            "failed",
                            "canceled",
                        ],
                    )
                ),
                name="restore_state_is_in_the_table",
            ),
        ),
        migrations.AddConstraint(
            model_name="restore",
            constraint=models.CheckConstraint(
                condition=models.Q(("declared_at__lte", models.F("decided_at"))),
                name="a_recovery_is_declared_before_it_is_decided",
            ),
        ),
        migrations.AddConstraint(
            model_name="verification",
            constraint=models.CheckConstraint(
                condition=models.Q(("level__gte", 1), ("level__lte", 5)), name="verification_level_is_one_to_five"
            ),
        ),
        migrations.AddConstraint(
            model_name="walsegment",
            constraint=models.UniqueConstraint(
                fields=("environment", "system_identifier", "timeline", "start_lsn"), name="one_segment_per_position"
            ),
        ),
        migrations.AddConstraint(
            model_name="walsegment",
            constraint=models.CheckConstraint(
                condition=models.Q(("end_lsn__gt", models.F("start_lsn"))), name="a_segment_ends_after_it_starts"
            ),
        ),
    ]
