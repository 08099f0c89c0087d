"""Index the kept answers by age: every sweep looks for those older than a day (`workflow.delivery`)."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("changecontrol", "0003_shipped_policies")]

    operations = [
        migrations.AddIndex(
            model_name="idempotencykey", index=models.Index(fields=["created_at"], name="answers_by_age")
        ),
    ]
