"""The audit trail as a page."""

from __future__ import annotations

import pytest
from django.db import transaction

from changecontrol import access, audit
from changecontrol.actions.evidence import store_artefact
from changecontrol.events import Tag
from changecontrol.lifecycles.change import ChangeState
from changecontrol.models import AuditEvent
from changecontrol.views.audit import PAGE_SIZE
from changecontrol.views.timeline import entry_of
from tests.factories import NOW, actor, advance_to, scheduled_change, submitted_change
from tests.factories.recovery import (
    HOUR,
    asked_restore,
    backup_policy,
    finished_drill,
    recorded_point,
    recovery_owner,
)
from tests.factories.rollout import live_run
from tests.functional.counting import statements

pytestmark = pytest.mark.django_db


def test_every_read_is_recorded_with_what_was_asked(estate, signed_in) -> None:  # AUD-8
    scheduled_change(estate)
    client = signed_in(estate.dee)

    client.get("/audit/", {"tag": "change:approval", "actor": "ben"})
    client.get("/audit/", {"since": "yesterday"})

    event = AuditEvent.objects.get(tag="evidence:read")
    assert event.actor == estate.dee
    assert '"asked":{"actor":"ben","tag":"change:approval"}' in event.body


@pytest.mark.parametrize("asked", [{"until": "9999-12-31"}, {"since": "0001-01-01"}])
def test_a_day_at_either_end_of_time_is_refused(estate, signed_in, asked) -> None:
    assert signed_in(estate.dee).get("/audit/", asked).status_code == 422


@pytest.mark.parametrize(
    ("asked", "tags"),
    [
        ({"tag": "change:approval", "actor": "ben"}, {"change:approval:cast", "change:approval:round_ended"}),
        ({"tag": "run"}, set()),
        ({"actor": "nobody"}, set()),
        ({"since": "2026-11-24"}, set()),
        ({"until": "2026-11-22"}, set()),
        ({"tag": "policy", "since": "2026-11-23", "until": "2026-11-23"}, set()),
        (
            {
                "tag": "change:approval",
                "actor": "cy",
                "since": "2026-11-23",
                "until": "2026-11-23",
                "tenant": "northwind",
            },
            {"change:approval:cast"},
        ),
        ({"subject": "changerequest:0"}, set()),
    ],
)
def test_trail_is_narrowed(estate, signed_in, asked: dict[str, str], tags: set[str]) -> None:
    scheduled_change(estate)

    rows = signed_in(estate.dee).get("/audit/", asked).context["rows"]

    assert {row["tag"] for row in rows} == tags


def test_one_change_is_found_by_number_and_its_chain_verified(estate, signed_in) -> None:  # AUD-4
    change, other = advance_to(estate, ChangeState.CLOSED), scheduled_change(estate)

    answer = signed_in(estate.dee).get("/audit/", {"subject": change.number.lower()})

    assert "Verified just now." in answer.text
    assert {row["subject"] for row in answer.context["rows"]} == {change.number}
    assert other.number not in answer.text
    assert f"/changes/{change.number}/evidence-pack/" in answer.text


def test_pages_follow_by_key(estate, signed_in) -> None:
    for _ in range(7):
        scheduled_change(estate)
    client = signed_in(estate.dee)

    first = client.get("/audit/", {"tenant": "northwind"})
    second = client.get(f"/audit/{first.context['older_url']}")
    back = client.get(f"/audit/{second.context['newer_url']}")

    assert [len(one.context["rows"]) for one in (first, second)] == [PAGE_SIZE, PAGE_SIZE]
    assert [row["sequence"] for row in back.context["rows"]] == [row["sequence"] for row in first.context["rows"]]
    assert first.context["rows"][-1]["sequence"] > second.context["rows"][0]["sequence"]


def test_strangers_read_their_own_trail_only(estate, eve, signed_in) -> None:
    change = scheduled_change(estate)

    answer = signed_in(eve).get("/audit/", {"subject": change.number})

    assert answer.context["rows"] == []
    assert "Verified" not in answer.text
    assert "orthwind" not in answer.text


def test_engineers_are_told_who_reads_it(estate, signed_in) -> None:
    answer = signed_in(estate.ada).get("/audit/")

    assert answer.status_code == 403
    assert "auditor" in answer.text
    assert not AuditEvent.objects.filter(tag="evidence:read").exists()


def test_trail_costs_the_same_with_one_change_and_three(estate, signed_in) -> None:
    client = signed_in(estate.dee)
    scheduled_change(estate)
    one = statements(client, "/audit/?tenant=northwind")

    scheduled_change(estate)
    scheduled_change(estate)

    assert statements(client, "/audit/?tenant=northwind") == one <= 14


@pytest.mark.parametrize(
    ("path", "is_noted"),
    [
        ("/changes/{number}/", True),
        ("/changes/{number}/difference/", True),
        ("/environments/northwind/production/", True),
        ("/changes/{number}/?part=live", True),
        ("/changes/{number}/run/", True),
        ("/changes/CHG-999999/", False),
        ("/changes/", False),
    ],
)
def test_what_an_auditor_opens_is_recorded(estate, signed_in, path: str, is_noted: bool) -> None:  # AUD-8
    url = path.format(number=submitted_change(estate).number)
    headers = {"HX-Request": "true"} if "part" in path or "run" in path else {}

    signed_in(estate.dee).get(url, headers=headers)
    signed_in(estate.ada).get(url, headers=headers)

    read = [(one.actor, one.body) for one in AuditEvent.objects.filter(tag="evidence:read")]
    assert [actor for actor, _ in read] == ([estate.dee] if is_noted else [])
    assert all(f'"path":"{url.partition("?")[0]}"' in body for _, body in read)


@pytest.mark.parametrize("part", ["", "?part=live", "?part=controls"])
def test_what_an_auditor_asks_as_a_fragment_is_recorded(estate, signed_in, part: str) -> None:  # AUD-8
    url = f"/runs/{live_run(estate, at=NOW).run.pk}/"

    answer = signed_in(estate.dee).get(url + part, headers={"HX-Request": "true"})

    event = AuditEvent.objects.get(tag="evidence:read")
    assert answer.status_code == 200
    assert event.actor == estate.dee
    assert f'"path":"{url}"' in event.body


def test_a_page_that_asks_for_its_part_again_is_recorded_once(estate, signed_in) -> None:  # AUD-8
    client = signed_in(estate.dee)
    url = f"/changes/{submitted_change(estate).number}/"

    client.get(url)
    for _ in range(3):
        client.get(f"{url}?part=live", headers={"HX-Request": "true"})
    client.get(url)

    assert AuditEvent.objects.filter(tag="evidence:read").count() == 2


def test_whoever_reads_a_piece_of_evidence_is_recorded_once(estate, signed_in) -> None:  # AUD-8
    change = submitted_change(estate)
    system = access.system_actor("test")
    kept = store_artefact(
        change_id=change.pk, name="a.txt", media_type="text/plain", data=b"a", source="gate", actor=system, at=NOW
    )
    url = f"/changes/{change.number}/artefacts/{kept.sha256}/"

    answers = [signed_in(person).get(url) for person in (estate.dee, estate.ada)]

    assert [answer.content for answer in answers] == [b"a", b"a"]
    read = AuditEvent.objects.filter(tag="evidence:read").order_by("pk")
    assert [entry_of(one)["text"] for one in read] == [
        f"Dee read “a.txt” of {change.number}",
        f"Ada read “a.txt” of {change.number}",
    ]


def test_the_trail_says_what_was_read_and_taken(estate) -> None:
    dee = actor(estate.dee)
    with transaction.atomic():
        events = [
            audit.record(tag, subject=estate.dee, actor=dee, at=NOW, data=data)
            for tag, data in (
                (Tag.EVIDENCE_READ, {"asked": {"path": "/changes/CHG-000001/"}}),
                (Tag.EVIDENCE_READ, {"asked": {"tag": "run", "actor": "cy"}}),
                (Tag.EVIDENCE_READ, {"asked": {}}),
                (Tag.EVIDENCE_EXPORTED, {"change": "CHG-000001", "manifest_sha256": "0" * 64, "size": 1}),
            )
        ]

    assert [entry_of(one)["text"] for one in events] == [
        "Dee read /changes/CHG-000001/",
        "Dee read the audit trail: actor cy, tag run",
        "Dee read the audit trail",
        "Dee took the evidence pack of CHG-000001",
    ]


def test_what_happened_in_recovery_is_told_in_words_and_leads_to_its_page(estate, signed_in) -> None:
    backup_policy(estate.production, at=NOW)
    rio = recovery_owner(estate)
    point = recorded_point(estate.production, "p1", NOW - HOUR, by=rio)
    restore = asked_restore(estate.production, by=rio, target_at=NOW - HOUR)
    drill = finished_drill(estate.production, by=rio, target_at=NOW - HOUR, sabotage="flip", is_passed=False)

    text = signed_in(estate.dee).get("/audit/", {"tag": "recovery"}).text

    for words in (
        "Rio asked for a copy of production as it was at 2026-11-23 09:12 UTC",
        "Rio began a drill of production up to L2, with a copy broken on purpose (flip)",
        "Check “sentinel”, L2: failed",
        "Drill: tearing down → passed",
        "Point p1 is copied",
        f'href="/recovery/restores/{restore.pk}/"',
        f'href="/recovery/drills/{drill.pk}/"',
        f'href="/recovery/points/{point.pk}/"',
    ):
        assert words in text, words


def test_every_event_of_recovery_has_words(estate) -> None:
    tags = [tag for tag in Tag if tag.startswith(("recovery:", "rehearsal:"))]

    told = [entry_of(AuditEvent(tag=tag, at=NOW, body='{"data": {}}'))["text"] for tag in tags]

    assert [text for text in told if text.startswith("Somebody not signed in:")] == []
