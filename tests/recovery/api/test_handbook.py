"""The walk through recovery in the handbook is one that can be gone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol.models import ChangeRequest
from tests.changecontrol.api.conftest import client_for
from tests.factories.recovery import backup_policy
from tests.recovery.api.conftest import AT, Scene

SECTION = (
    (Path(__file__).resolve().parents[3] / "docs/api.md").read_text().split("\n## Recovery\n")[1].split("\n## ")[0]
)


def words_of(path: str) -> dict[str, Any]:
    """Return the words that the handbook sends there."""
    found = re.search(rf"\$AT/{path}/ [^\n]*-d '(\{{.*?\}})'", SECTION, flags=re.DOTALL)
    assert found is not None
    words: dict[str, Any] = json.loads(found[1])
    return words


@pytest.mark.parametrize("path", ["backups", "restores", "drills"])
def test_what_the_handbook_sends_is_taken(scene: Scene, rio: APIClient, path: str) -> None:
    words = words_of(path)
    if "target_at" in words:
        words["target_at"] = scene.newer.consistent_at.isoformat()

    assert rio.post(f"{AT}/{path}/", words).status_code == 201


def test_the_point_of_another_tool_is_registered_as_the_handbook_says(scene: Scene, rio: APIClient) -> None:
    backup_policy(scene.estate.staging, engine="external", source="", recipients=())

    answer = rio.post(f"{AT}/points/", words_of("points"))

    assert (answer.status_code, answer.json()["state"]) == (201, "copied")


def test_every_word_that_the_handbook_picks_is_told(scene: Scene, rio: APIClient) -> None:
    def picked(pattern: str) -> set[str]:
        [filters] = re.findall(rf"{pattern}[^\n]*\| jq '?([^'\n#]+)", SECTION)[:1]
        return set(re.findall(r"(?:^|[ ,])\.(\w+)", filters))

    drill = rio.post(f"{AT}/drills/", {**words_of("drills"), "target_at": scene.newer.consistent_at.isoformat()})
    restore = rio.post(f"{AT}/restores/", {**words_of("restores"), "target_at": scene.newer.consistent_at.isoformat()})

    told = {
        r"\$AT/backups/\$BACKUP/": rio.get(f"{AT}/backups/{scene.newer.run_id}/"),
        r"\$AT/points/\$POINT/": rio.get(f"{AT}/points/{scene.newer.pk}/"),
        r"\$PLACE/coverage/": rio.get(scene.environment("coverage")),
        r"\$AT/restores/\$RESTORE/": restore,
        r"\$AT/drills/\$DRILL/": drill,
        r"\$PLACE/freshness/": rio.get(scene.environment("freshness")),
        r"\$PLACE/retention/": rio.get(scene.environment("retention")),
    }
    assert {one: picked(one) - answer.json().keys() for one, answer in told.items()} == {one: set() for one in told}
    assert all(picked(one) for one in told)


def test_the_change_that_puts_a_restore_in_place_is_filed_as_the_handbook_says(scene: Scene) -> None:  # BCK-4
    found = re.search(r"/api/v1/changes/ [^\n]*-d '(\{.*?\})'", SECTION, flags=re.DOTALL)
    assert found is not None
    words = json.loads(found[1].replace("\n  }", "}"))

    answer = client_for(scene.estate.ada).post("/api/v1/changes/", words)

    assert answer.status_code == 201, answer.json()
    draft = ChangeRequest.objects.get(kind="restore").draft
    assert {name: draft[name] for name in words["content"]} == words["content"]
