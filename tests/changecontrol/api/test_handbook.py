"""What the handbook says of the API exists: addresses, commands and links."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import resolve

from changecontrol.api.nowhere import Nowhere
from changecontrol.rules.roles import Role
from tests.architecture.test_compose import settings_variables
from tests.changecontrol.api.conftest import client_for
from tests.factories import SmallEstate

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = ["api.md", "engineer.md", "change-manager.md", "operator.md", "auditor.md", "administrator.md"]
IN_PLACE = {"number": "CHG-000001", "NUMBER": "CHG-000001"}
"""What stands in the address of a change; everything else goes by `1`."""


def addresses(text: str) -> set[str]:
    """Return the addresses a page names, in full or in its table, with their placeholders filled in."""
    found = {match[1] for match in re.finditer(r"(/api/(?:v1|schema|docs)/[\w$/{},-]*)", text)}
    for row in re.findall(r"^\| (`.*`.*) \|.*\|$", text, flags=re.MULTILINE):
        found |= {f"/api/v1/{one}" for cell in re.findall(r"`([a-z][^`]*/)`", row) for one in re.split(r",? ", cell)}
    found |= {f"/api/v1/recovery/{path}" for path in re.findall(r"\$AT/([\w$/{},-]*)", text)}
    filled = {re.sub(r"\{(number|id)\}|\$([A-Z]+)", lambda m: IN_PLACE.get(m[1] or m[2], "1"), one) for one in found}
    return {one for text in filled for one in spread(text)}


def spread(text: str) -> list[str]:
    """Return what `a/{b,c}/` stands for."""
    found = re.search(r"\{([\w,-]+)\}", text)
    return [text.replace(found[0], one) for one in found[1].split(",")] if found else [text]


@pytest.mark.parametrize("page", PAGES)
def test_every_address_exists(page: str) -> None:
    named = addresses((DOCS / page).read_text())

    missing = [one for one in named if getattr(resolve(one).func, "view_class", None) is Nowhere]

    assert sorted(set(missing) - {"/api/v1/", "/api/v1/recovery"}) == []


def test_the_addresses_are_found_at_all() -> None:
    found = addresses((DOCS / "api.md").read_text())

    assert {"/api/v1/changes/CHG-000001/vote/", "/api/v1/runs/1/roll-back/", "/api/v1/processes/"} <= found
    assert {"/api/v1/recovery/points/1/", "/api/v1/recovery/environments/1/coverage/"} <= found


def test_the_quick_start_files_a_change_that_can_be_submitted(estate: SmallEstate) -> None:
    words = re.search(r"-d '(\{.*?\})'", (DOCS / "api.md").read_text(), flags=re.DOTALL)
    assert words is not None
    client = client_for(estate.ada)

    filed = client.post("/api/v1/changes/", json.loads(words[1]))
    submitted = client.post(f"/api/v1/changes/{filed.json()['number']}/submit/")

    assert (filed.status_code, submitted.status_code) == (201, 200)
    assert submitted.json()["change"]["state"] == "submitted"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_link_exists(page: str) -> None:
    text = (DOCS / page).read_text()

    assert set(re.findall(r"manage\.py (\w+)", text)) - get_commands().keys() == set()
    assert [link for link in re.findall(r"\]\((\w[^)#:]*)\)", text) if not (DOCS / link).exists()] == []


def test_the_administrators_page_names_every_role_that_can_be_granted() -> None:
    text = (DOCS / "administrator.md").read_text()

    named = {name.strip() for name in re.findall(r"^\| ([a-z ]+) \| ✓ \|", text, flags=re.MULTILINE)}

    assert named == {role.label.lower() for role in Role if role not in {Role.PLATFORM_ADMINISTRATOR, Role.EXECUTOR}}


def test_the_administrators_page_names_every_setting_and_no_other() -> None:
    text = (DOCS / "administrator.md").read_text()
    table = text.split("## Settings")[1].split("## ")[0]

    named = {
        name for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }

    assert named == settings_variables()
