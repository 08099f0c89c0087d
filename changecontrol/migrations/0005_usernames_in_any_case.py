"""Let no two usernames differ by case alone. Adds a law and changes no row; it refuses where two are there already."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.db import migrations, models
from django.db.models import Count
from django.db.models.functions import Lower


def refuse_doubles(apps: Any, schema_editor: Any) -> None:
    """Name the usernames to be told apart first: which of two keeps its name is for people to say."""
    people = apps.get_model("changecontrol", "User").objects.order_by()
    doubles = people.annotate(lower=Lower("username")).values("lower").annotate(count=Count("pk")).filter(count__gt=1)
    names = people.annotate(lower=Lower("username")).filter(lower__in=doubles.values("lower"))
    if told := ", ".join(sorted(names.values_list("username", flat=True))):
        raise CommandError(f"These usernames differ by case alone; rename all but one of each, then migrate: {told}.")


class Migration(migrations.Migration):
    dependencies = [("changecontrol", "0004_answers_by_age")]

    operations = [
        migrations.RunPython(refuse_doubles, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(Lower("username"), name="one_person_per_username_in_any_case"),
        ),
    ]
