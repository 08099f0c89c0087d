"""What the schema says of recovery's answers is what they are."""

from __future__ import annotations

from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft4Validator, FormatChecker  # type: ignore[import-untyped]

from changecontrol.models import Environment, User
from changecontrol.rules.roles import Role
from recovery.models import BackupPolicy, BackupRun, CorrectiveAction, Drill, LegalHold, RecoveryPoint, Restore
from tests.changecontrol.api.conftest import client_for
from tests.changecontrol.api.test_grid import somebody
from tests.changecontrol.api.test_schema import as_json_schema, reads
from tests.recovery.api.conftest import AT, Scene
from tests.recovery.api.test_lists import fill

MODELS: dict[str, Any] = {
    "policies": BackupPolicy,
    "points": RecoveryPoint,
    "backups": BackupRun,
    "restores": Restore,
    "drills": Drill,
    "corrective-actions": CorrectiveAction,
    "holds": LegalHold,
    "alarms": Environment,
    "environments": Environment,
}


@pytest.mark.parametrize("who", ["rio", "admin"])
def test_every_answer_has_the_shape_that_the_schema_says(scene: Scene, who: str) -> None:
    place = scene.estate.staging
    fill(scene, place)
    person: User = scene.rio if who == "rio" else somebody(Role.PLATFORM_ADMINISTRATOR, scene.estate)
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    components = {"components": as_json_schema(schema["components"])}
    client, wrong, seen = client_for(person), [], set()

    for path, shape in reads(schema):
        if not path.startswith(AT):
            continue
        kind = path.removeprefix(f"{AT}/").split("/")[0]
        keys = [place.pk] if MODELS[kind] is Environment else MODELS[kind].objects.values_list("pk", flat=True)
        judge = Draft4Validator({**components, **as_json_schema(shape)}, format_checker=FormatChecker())
        for key in keys:
            answer = client.get(path.format(id=key))
            assert answer.status_code == 200, path
            seen.add(path)
            wrong += [(path, list(one.absolute_path), one.message) for one in judge.iter_errors(answer.json())]

    assert wrong == []
    assert len(seen) == 23
