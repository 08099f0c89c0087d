"""Evidence over REST: the very bytes, as a download, for those who may read them, and on the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import time_machine

from changecontrol import clock
from changecontrol.actions.evidence import store_artefact
from changecontrol.models import Artefact, AuditEvent, ChangeRequest
from changecontrol.queries.audit import SAME_READING
from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import NOW, SmallEstate, actor, draft_change, stranger_estate

PAGE = b"<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def store(settings: Any, tmp_path: Path) -> Path:
    settings.OBJECT_STORE_URL = f"file://{tmp_path}/objects"
    return tmp_path / "objects"


def kept(estate: SmallEstate, change: ChangeRequest, *, name: str = "dry-run.html") -> Artefact:
    return store_artefact(
        change_id=change.pk,
        name=name,
        media_type="text/html",
        data=PAGE,
        source="gate",
        actor=actor(estate.ada),
        at=NOW,
    )


def url_of(artefact: Artefact) -> str:
    return f"/api/v1/changes/{artefact.change.number}/evidence/{artefact.pk}/"


def test_the_bytes_come_as_a_download_and_the_reading_is_recorded(estate: SmallEstate) -> None:  # AUD-8
    artefact = kept(estate, draft_change(estate))

    answer = client_for(estate.dee).get(url_of(artefact))

    assert (answer.status_code, answer.content) == (200, PAGE)
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="dry-run.html"'
    assert (answer["X-Content-Type-Options"], answer["Cache-Control"]) == ("nosniff", "no-store")
    event = AuditEvent.objects.get(tag="evidence:read")
    assert (event.actor, event.tenant, event.change) == (estate.dee, estate.tenant, None)
    assert json.loads(event.body)["data"] == {
        "change": artefact.change.number,
        "name": "dry-run.html",
        "sha256": artefact.sha256,
    }


@pytest.mark.parametrize(
    "name, told",
    [
        ('a"; filename="x.exe', "a___filename__x.exe"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\r\nX-Evil: 1", "a__X-Evil__1"),
        ("данные.json", "______.json"),
    ],
)
def test_no_name_says_anything_else_in_the_header(estate: SmallEstate, name: str, told: str) -> None:
    answer = client_for(estate.dee).get(url_of(kept(estate, draft_change(estate), name=name)))

    assert answer["Content-Disposition"] == f'attachment; filename="{told}"'


def test_a_stranger_finds_it_exactly_as_missing_as_none(estate: SmallEstate) -> None:  # BIZ-1
    artefact = kept(estate, draft_change(estate))
    kite, eve = stranger_estate()
    theirs = kept(kite, draft_change(kite))
    client = client_for(eve)

    hidden = client.get(url_of(artefact))
    missing = client.get("/api/v1/changes/CHG-999999/evidence/1/")
    of_another = client.get(f"/api/v1/changes/{theirs.change.number}/evidence/{artefact.pk}/")
    of_none = client.get(f"/api/v1/changes/{theirs.change.number}/evidence/999999/")

    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content) == (404, missing.content)
    assert (of_another.status_code, of_another.content) == (of_none.status_code, of_none.content)
    assert not AuditEvent.objects.filter(tag__in=("evidence:read", "refused")).exists()


def test_a_token_reads_it_only_where_it_is_scoped_to(estate: SmallEstate) -> None:
    artefact = kept(estate, draft_change(estate))

    assert "evidence.view" in sentence(client_for(estate.dee, scopes=["change.view"]).get(url_of(artefact)))
    assert client_for(estate.dee, scopes=["evidence.view"]).get(url_of(artefact)).status_code == 200


def test_changed_bytes_and_a_silent_store_are_told(estate: SmallEstate, store: Path) -> None:
    artefact = kept(estate, draft_change(estate))
    [file] = [path for path in store.rglob("*") if path.is_file()]
    file.write_bytes(b"something else")
    changed = client_for(estate.dee).get(url_of(artefact))
    store.rename(store.with_name("elsewhere"))
    store.write_text("no folder")
    silent = client_for(estate.dee).get(url_of(artefact))

    assert (changed.status_code, silent.status_code) == (409, 409)
    assert sentence(changed) == "The stored artefact “dry-run.html” is missing or was changed."
    assert "does not answer" in sentence(silent)
    assert not AuditEvent.objects.filter(tag="evidence:read").exists()


def test_what_an_auditor_reads_is_recorded_once_and_not_for_every_poll(estate: SmallEstate) -> None:  # AUD-8
    change = draft_change(estate)
    path = f"/api/v1/changes/{change.number}/"
    dee, ada = client_for(estate.dee), client_for(estate.ada)

    answers = [client.get(path).status_code for client in (dee, dee, ada)]
    dee.get(f"{path}timeline/")
    dee.get("/api/v1/changes/")
    dee.get("/api/v1/changes/CHG-999999/")

    assert answers == [200, 200, 200]
    events = AuditEvent.objects.filter(tag="evidence:read").order_by("pk")
    assert [(one.actor, json.loads(one.body)["data"]["asked"]) for one in events] == [
        (estate.dee, {"path": path}),
        (estate.dee, {"path": f"{path}timeline/"}),
    ]


def test_a_thing_read_again_after_a_while_is_another_reading(estate: SmallEstate) -> None:  # AUD-8
    path = f"/api/v1/changes/{draft_change(estate).number}/"
    client_for(estate.dee).get(path)

    with time_machine.travel(clock.now() + SAME_READING * 2, tick=False):
        client_for(estate.dee).get(path)

    assert AuditEvent.objects.filter(tag="evidence:read").count() == 2
