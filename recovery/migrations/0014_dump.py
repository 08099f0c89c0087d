from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("recovery", "0013_slots"),
    ]

    operations = [
        migrations.AlterField(
            model_name="backuppolicy",
            name="engine",
            field=models.CharField(
                choices=[
                    ("postgres", "Postgres"),
                    ("pg_dump", "Pg dump"),
                    ("cloudnativepg", "Cloudnativepg"),
                    ("external", "External"),
                ],
                max_length=16,
            ),
        ),
    ]
