"""Let a backup policy say in which other cluster drills of level 5 bring the environment up. Empty: in none."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("recovery", "0014_dump"),
    ]

    operations = [
        migrations.AddField(
            model_name="backuppolicy",
            name="rehearsal_cluster",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="Name of the cluster where a drill of level 5 brings it up.",
                max_length=63,
            ),
        ),
        migrations.AddField(
            model_name="backuppolicy",
            name="rehearsal_database",
            field=models.CharField(
                blank=True, db_default="", help_text="Its name there; empty: the environment's own.", max_length=63
            ),
        ),
        migrations.AddField(
            model_name="backuppolicy",
            name="rehearsal_path",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="Git path of what runs there; empty: the environment's.",
                max_length=300,
            ),
        ),
        migrations.AddField(
            model_name="backuppolicy",
            name="rehearsal_target",
            field=models.CharField(
                blank=True, db_default="", help_text="Reference to the server that workloads there use.", max_length=300
            ),
        ),
        migrations.AddField(
            model_name="backuppolicy",
            name="rehearsal_filestore",
            field=models.CharField(
                blank=True,
                db_default="",
                help_text="Folder below which workloads there find attachments.",
                max_length=500,
            ),
        ),
    ]
