"""The approval policies an installation starts with. Whoever edits one publishes its next version beside it."""

from __future__ import annotations

from datetime import UTC, datetime

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SHIPPED_AT = datetime(2026, 1, 1, tzinfo=UTC)
REVIEW = {
    "name": "Technical review",
    "requirements": [
        {"key": "technical_review", "name": "Technical review", "quorum": 1, "role": "technical_reviewer"}
    ],
}


def authority(name: str, quorum: int) -> dict[str, object]:
    one = {"key": "change_authority", "name": name, "quorum": quorum, "role": "change_manager"}
    return {"name": "Change authority", "requirements": [one]}


# Frozen here, so that this migration means tomorrow what it means today; a test holds it to `SHIPPED_POLICIES`.
SHIPPED = [
    ("development", "Development", "development", [], []),
    ("staging", "Staging", "staging", [], [REVIEW]),
    ("production", "Production", "production", [], [REVIEW, authority("Change manager", 1)]),
    (
        "production-tier-0-1",
        "Production, tier 0 and 1",
        "production",
        [0, 1],
        [REVIEW, authority("Two change managers", 2)],
    ),
]


def ship(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    policies = apps.get_model("changecontrol", "ApprovalPolicy")
    for slug, name, stage, tiers, stages in SHIPPED:
        match = {"environment_stages": [stage], "risks": [], "tiers": tiers, "types": []}
        content = {"match": match, "one_person_one_place": True, "stages": stages}
        policies.objects.create(slug=slug, name=name, version=1, content=content, created_at=SHIPPED_AT)


class Migration(migrations.Migration):
    dependencies = [("changecontrol", "0002_law")]
    operations = [migrations.RunPython(ship, migrations.RunPython.noop)]
