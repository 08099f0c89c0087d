"""What a restore's forms ask for, and what they refuse with its field."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from changecontrol.errors import Invalid
from recovery.forms.restores import IncidentForm, RestoreForm, RestoreTimeForm
from recovery.models.restore import RestorePurpose

ZONES = ("Europe/Lisbon", "UTC")
ANSWERS = {"purpose": "copy", "when": "time", "date": "2026-11-23", "time": "09:00", "zone": "Europe/Lisbon"}
LAST = {"target_at": "2026-11-23T09:00:00+00:00", "target_database": "a_look", "reason": "Why not."}
DECLARED = {"declared_date": "2026-11-23", "declared_time": "10:00", "declared_zone": "UTC"}


def time_form(**words: Any) -> RestoreTimeForm:
    form = RestoreTimeForm({**ANSWERS, **words}, purposes=tuple(RestorePurpose), zones=ZONES)
    form.is_valid()
    return form


def test_the_moment_is_the_one_that_the_zone_s_clocks_showed() -> None:
    assert time_form().target_at == datetime(2026, 11, 23, 9, tzinfo=UTC)


def test_midnight_is_an_answer() -> None:
    assert time_form(time="00:00").target_at == datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"date": ""}, "date"),
        ({"date": "yesterday"}, "date"),
        ({"date": "0001-01-01"}, "date"),
        ({"date": "1969-12-31"}, "date"),
        ({"date": "2201-01-01"}, "date"),
        ({"date": "9999-12-31", "time": "23:59"}, "date"),
        ({"date": "1970-01-01"}, ""),
        ({"time": ""}, "time"),
        ({"time": "half past nine"}, "time"),
        ({"zone": ""}, "zone"),
        ({"zone": "Europe/Atlantis"}, "zone"),
        ({"when": ""}, "when"),
        ({"when": "newest"}, "when"),
        ({"purpose": "cutover"}, "purpose"),
        ({"date": "2026-03-29", "time": "01:30"}, "time"),
    ],
    ids=lambda one: "-".join(f"{key}={value}" for key, value in one.items()) if isinstance(one, dict) else None,
)
def test_what_is_missing_or_wrong_is_said_beside_its_field(words: dict[str, str], field: str) -> None:
    assert list(time_form(**words).errors) == ([field] if field else [])


def test_nothing_is_chosen_beforehand_but_that_a_time_is_given() -> None:
    form = RestoreTimeForm(purposes=tuple(RestorePurpose), zones=ZONES)

    assert form["when"].initial == "time"
    assert [form[name].initial for name in ("date", "time", "zone")] == [None, None, None]


def test_the_latest_is_to_be_had_by_its_name_and_then_nothing_else_is_asked() -> None:
    form = time_form(when="latest", date="", time="", zone="")

    assert (form.errors, form.target_at) == ({}, None)


@pytest.mark.parametrize("text", ["", "now", "2026-11-23T09:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_that_was_tampered_with_is_refused(text: str) -> None:
    assert "target_at" in RestoreForm({**LAST, "target_at": text}).errors


def test_an_incident_says_when_it_was_declared() -> None:
    form = IncidentForm({**LAST, **DECLARED}, zones=ZONES)
    assert form.is_valid()
    assert form.declared_at == datetime(2026, 11, 23, 10, tzinfo=UTC)

    assert list(IncidentForm({**LAST, **DECLARED, "declared_zone": ""}, zones=ZONES).errors) == ["declared_zone"]
    assert list(IncidentForm({**LAST, **DECLARED, "declared_date": "0001-01-01"}, zones=ZONES).errors) == [
        "declared_date"
    ]


def test_what_the_action_refuses_stands_beside_the_field_it_is_about() -> None:
    form = IncidentForm({**LAST, **DECLARED}, zones=ZONES)
    form.is_valid()

    form.refuse(Invalid("No.", fields={"target_database": ["In use."], "declared_at": ["Before now."], "x": ["Else."]}))

    assert form.errors == {"target_database": ["In use."], "declared_time": ["Before now."], "__all__": ["Else."]}
