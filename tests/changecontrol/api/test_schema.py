"""The schema and its documentation."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command

from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import SmallEstate


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
