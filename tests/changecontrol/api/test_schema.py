"""The schema and its documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft4Validator, FormatChecker  # type: ignore[import-untyped]

from changecontrol.models import BusinessProcess, Cluster, GitSource
from changecontrol.rules.roles import Role
from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import SmallEstate, add_person, advance_to, draft_change, grant


def test_the_schema_is_valid_and_without_warnings(tmp_path: Path) -> None:
    target = tmp_path / "schema.yml"

    call_command("spectacular", validate=True, fail_on_warn=True, file=str(target))

    assert "openapi: 3" in target.read_text()


def test_every_write_names_its_key_and_every_operation_its_refusals(estate: SmallEstate) -> None:
    answer = client_for(estate.ada).get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})

    paths = answer.json()["paths"]
    described = [(method, path, one) for path, methods in paths.items() for method, one in methods.items()]
    assert [path for _, path, one in described if not {"401", "403", "404"} <= one["responses"].keys()] == []
    posts = [(path, one) for method, path, one in described if method == "post"]
    assert [path for path, one in posts if "Idempotency-Key" not in {p["name"] for p in one["parameters"]}] == []


def test_the_schema_is_for_people_who_are_signed_in(db: None) -> None:
    assert sentence(client_for(None).get("/api/schema/"))


def reads(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the address and the answer's shape of every read that needs no key but a change's number, or `1`."""
    for path, methods in schema["paths"].items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if "application/json" in content:
            yield path, content["application/json"]["schema"]


def as_json_schema(shape: Any) -> Any:
    """Return a shape of OpenAPI 3.0 as JSON Schema, which says `null` among the types."""
    if isinstance(shape, list):
        return [as_json_schema(one) for one in shape]
    if not isinstance(shape, dict):
        return shape
    found = {key: as_json_schema(value) for key, value in shape.items() if key != "nullable"}
    return {"anyOf": [found, {"type": "null"}]} if shape.get("nullable") is True else found


@pytest.mark.parametrize("who", ["ada", "dee", "tina", "admin"])
def test_every_answer_has_the_shape_that_the_schema_says(estate: SmallEstate, who: str) -> None:
    tina = add_person("tina")
    grant(tina, Role.TENANT_ADMINISTRATOR, estate.tenant)
    people = {"ada": estate.ada, "dee": estate.dee, "tina": tina, "admin": add_person("admin", is_superuser=True)}
    draft = draft_change(estate)
    done = advance_to(estate, "closed")
    client_for(tina).post(
        "/api/v1/windows/",
        {"tenant": "northwind", "name": "Nights", "starts_local": "2026-11-24T02:00:00", "duration_seconds": 3600},
    )
    GitSource.objects.update(credential="env:TOKEN")
    BusinessProcess.objects.update(owner=estate.ben)
    assert Cluster.objects.exists()
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)
    components = {"components": as_json_schema(schema["components"])}
    client, wrong, seen = client_for(people[who]), [], 0

    for path, shape in reads(schema):
        judge = Draft4Validator({**components, **as_json_schema(shape)}, format_checker=FormatChecker())
        for number in (draft.number, done.number):
            answer = client.get(path.format(number=number, id="1", artefact="1"))
            if answer.status_code == 200:
                seen += 1
                wrong += [(path, list(one.absolute_path), one.message) for one in judge.iter_errors(answer.json())]

    assert wrong == []
    assert seen > 20
