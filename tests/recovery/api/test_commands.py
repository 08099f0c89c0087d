"""What each command of recovery does, and how it says no."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from changecontrol import clock
from changecontrol.access import system_actor
from changecontrol.models import AuditEvent, Job
from changecontrol.rules.roles import Role
from recovery.actions.drills import finish_drill
from recovery.api.policies import COLUMNS, NewBackupPolicyVersion
from recovery.models import BackupPolicy, BackupRun, Drill, LegalHold, RecoveryPoint, Restore
from recovery.queries.progress import key_of
from recovery.rules.policies import REFERENCES
from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import add_person, draft_change, grant
from tests.factories.recovery import DUMPS, POLICY, backup_policy, begun_cut_over, finished_drill, recovery_owner
from tests.recovery.api.conftest import AT, DAY, PLACE, Scene


def post(client: APIClient, path: str, **words: Any) -> Any:
    return client.post(f"{AT}/{path}/", {**PLACE, **words})


def iso(at: Any) -> str:
    return str(at.isoformat())


def test_the_next_version_keeps_what_is_left_out(scene: Scene, rio: APIClient) -> None:
    answer = post(rio, "policies", seen_version=1, reason="We grew.", keep_daily=30)

    assert answer.status_code == 201
    told = answer.json()
    assert (told["version"], told["keep_daily"], told["keep_last"], told["created_by"]) == (2, 30, 1, "rio")
    policy = BackupPolicy.objects.get(version=2)
    assert (policy.source, policy.store_credential, policy.is_active) == (POLICY.source, "env:STORE", True)
    versions = rio.get(f"{AT}/policies/{policy.pk}/versions/").json()["results"]
    assert [(one["version"], one["is_active"]) for one in versions] == [(2, True), (1, False)]
    in_force = rio.get(f"{AT}/policies/").json()["results"]
    assert [one["version"] for one in in_force] == [2]


def test_a_first_version_says_what_it_must(scene: Scene, root: APIClient) -> None:
    words = {"tenant": "northwind", "environment": "staging", "seen_version": 0}

    missing = root.post(f"{AT}/policies/", words)
    done = root.post(
        f"{AT}/policies/",
        {
            **words,
            "engine": "external",
            "rrule": "FREQ=DAILY",
            "wal_seconds": 60,
            "starts_local": "2026-11-01T02:00:00",
            "zone": "UTC",
            "store": "s3://points/staging",
        },
    )

    assert missing.status_code == 422
    assert sorted(missing.json()["errors"]) == ["engine", "rrule", "starts_local", "store", "zone"]
    assert done.status_code == 201, done.text
    assert done.json()["starts_local"] == "2026-11-01T02:00:00"


def test_every_column_of_a_policy_can_be_said() -> None:
    assert set(NewBackupPolicyVersion().fields) == {*COLUMNS, *PLACE, "seen_version", "reason"}


def test_whoever_was_slower_reads_again(scene: Scene, rio: APIClient) -> None:
    for seen in (0, 7):
        answer = post(rio, "policies", seen_version=seen, reason="We grew.", keep_daily=30)

        assert answer.status_code == 409
        assert sentence(answer) == f"This policy is at version 1, and you were editing version {seen}."


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipients", ["ssh-ed25519"]),
        ("recipients", []),
        ("zone", "Atlantis"),
        ("rrule", "FREQ=NEVER"),
        ("keep_last", 0),
        ("drill_days", 9_999),
        ("wal_seconds", 0),
        ("store", "s3://user:word@points"),
        ("store_credential", "AKIA:secret"),
        ("copy_store", POLICY.store),
        ("starts_local", "2026-11-01T02:00:00+01:00"),
        ("engine", "barman"),
        ("is_pci", "perhaps"),
    ],
)
def test_a_policy_is_refused_by_the_field(scene: Scene, root: APIClient, field: str, value: Any) -> None:
    answer = post(root, "policies", seen_version=1, reason="We grew.", **{field: value})

    assert answer.status_code == 422
    assert [name.partition(".")[0] for name in answer.json()["errors"]] == ["rrule" if field == "zone" else field]
    assert "secret" not in answer.text.replace("where the secret is", "").replace("secrets", "")
    assert BackupPolicy.objects.count() == 1


def test_a_policy_that_cannot_meet_its_rpo_is_refused_with_the_reason(scene: Scene, rio: APIClient) -> None:
    answer = post(rio, "policies", seen_version=1, reason="Cheaper.", engine="cloudnativepg", wal_seconds=None)

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["rpo"]
    assert "Warehouse allows 1 hour" in sentence(answer)


def test_dumps_are_chosen_by_their_engine_and_refused_what_leads_on_from_none(scene: Scene, rio: APIClient) -> None:
    scene.estate.process.rpo_seconds = 2 * 3600
    scene.estate.process.save()
    said = {name: value for name, value in DUMPS.items() if name != "wal_seconds"}

    refused = post(rio, "policies", seen_version=1, reason="A managed server.", **said)
    written = post(rio, "policies", seen_version=1, reason="A managed server.", **said, wal_seconds=None)

    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["wal_seconds"])
    assert written.status_code == 201, written.text
    assert (written.json()["engine"], written.json()["wal_seconds"]) == ("pg_dump", None)
    listed = rio.get(f"{AT}/policies/", {"engine": "pg_dump"}).json()["results"]
    assert [one["version"] for one in listed] == [2]


def test_where_data_is_sent_to_is_the_platforms_to_say_and_where_secrets_are_to_read(
    scene: Scene, rio: APIClient, root: APIClient
) -> None:
    refused = post(rio, "policies", seen_version=1, reason="Elsewhere.", store="s3://mine")
    told = {
        name: one.get(f"{AT}/policies/{scene.policy.pk}/").json() for name, one in {"rio": rio, "root": root}.items()
    }

    assert refused.status_code == 403
    assert {name: told["rio"][name] for name in REFERENCES} == dict.fromkeys(REFERENCES)
    assert (told["root"]["store_credential"], told["root"]["source"]) == ("env:STORE", POLICY.source)
    assert told["rio"]["store"] == told["root"]["store"] == POLICY.store
    listed = (
        rio.get(f"{AT}/policies/").json()["results"]
        + rio.get(f"{AT}/policies/{scene.policy.pk}/versions/").json()["results"]
    )
    assert [one["store_credential"] for one in listed] == [None, None]


def test_a_backup_is_asked_for_once(scene: Scene, rio: APIClient) -> None:
    first = post(rio, "backups", reason="Before the sale.")
    second = post(rio, "backups", reason="Before the sale.")

    assert (first.status_code, second.status_code) == (201, 409)
    told = first.json()
    assert (told["state"], told["kind"], told["asked_by"], told["reason"]) == (
        "queued",
        "base",
        "rio",
        "Before the sale.",
    )
    assert (told["policy_version"], told["point"], told["due_at"]) == (1, None, None)
    assert rio.get(f"{AT}/backups/{told['id']}/").json() == told
    made = rio.get(f"{AT}/backups/?state=succeeded").json()["results"]
    assert [one["point"] for one in made] == ["newer", "older"]
    assert BackupRun.objects.filter(state="queued").count() == 1


def test_one_thing_tells_how_far_its_work_is(scene: Scene, rio: APIClient) -> None:
    run = BackupRun.objects.get(pk=post(rio, "backups", reason="-").json()["id"])
    at = clock.now() - timedelta(seconds=30)
    waiting = rio.get(f"{AT}/backups/{run.pk}/").json()["progress"]
    Job.objects.create(
        key=key_of(run),
        kind="backup",
        order={},
        created_at=at,
        started_at=at,
        progress={
            "phase": "Base backup",
            "done_bytes": 250,
            "total_bytes": 1_000,
            "sentence": "A quarter is copied.",
            "phases": {"Base backup": at.isoformat()},
        },
    )

    told = rio.get(f"{AT}/backups/{run.pk}/").json()["progress"]

    assert waiting is None
    assert 90 <= told.pop("left_seconds") <= 180
    assert told == {
        "phase": "Base backup",
        "sentence": "A quarter is copied.",
        "done_bytes": 250,
        "total_bytes": 1_000,
        "share": 0.25,
    }


def test_a_restore_is_a_neutralised_copy_at_a_time_that_is_said(scene: Scene, rio: APIClient) -> None:
    target_at = scene.older.consistent_at + timedelta(minutes=30)

    answer = post(rio, "restores", target_at=iso(target_at), target_database="look", reason="A lost order.")

    assert answer.status_code == 201
    told = answer.json()
    assert (told["purpose"], told["point"], told["is_neutralised"]) == ("copy", "older", True)
    assert (told["state"], told["asked_by"], told["size"]) == ("queued", "rio", 1_000)
    assert told["rto"] == {
        "decide_seconds": 0.0,
        "provision_seconds": None,
        "restore_seconds": None,
        "validate_seconds": None,
        "whole_seconds": None,
    }
    assert rio.get(f"{AT}/restores/{told['id']}/").json() == told


def test_a_restore_is_refused_with_the_last_safe_time(scene: Scene, rio: APIClient) -> None:
    in_gap = scene.older.consistent_at + timedelta(hours=2)

    answer = post(rio, "restores", target_at=iso(in_gap), target_database="look", reason="A lost order.")

    assert answer.status_code == 409
    last = scene.older.consistent_at + timedelta(hours=1)
    assert f"in a gap. The last safe time before it is {last:%d %b %Y %H:%M:%S} UTC" in sentence(answer)
    assert not Restore.objects.exists()


@pytest.mark.parametrize(
    "words", [{"target_at": "2026-11-24T02:00:00"}, {"target_at": "2026-11-24"}, {"target_at": "latest"}, {}]
)
def test_there_is_no_time_by_default_and_none_without_an_offset(
    scene: Scene, rio: APIClient, words: dict[str, Any]
) -> None:
    for path in ("restores", "restores/incident"):
        answer = post(rio, path, target_database="look", reason="-", **words, declared_at=iso(clock.now()))
        if path == "restores":
            answer = post(rio, path, target_database="look", reason="-", **words)

        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == ["target_at"]


@pytest.mark.parametrize("name", ["Northwind", "postgres", "nørth", "a b", "x" * 64, ""])
def test_a_restore_goes_to_a_new_name(scene: Scene, rio: APIClient, name: str) -> None:
    answer = post(rio, "restores", target_at=iso(scene.newer.consistent_at), target_database=name, reason="-")

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["target_database"]


def test_a_restore_aimed_at_a_name_in_use_is_refused(scene: Scene, rio: APIClient) -> None:
    scene.estate.production.database = "northwind"
    scene.estate.production.save()

    answer = post(rio, "restores", target_at=iso(scene.newer.consistent_at), target_database="northwind", reason="-")

    assert answer.status_code == 422
    assert "is a database in use" in sentence(answer)


def test_an_incident_restore_needs_its_role_and_tells_when_it_was_declared(scene: Scene, rio: APIClient) -> None:
    declared = clock.now() - timedelta(minutes=5)
    words = {"target_at": iso(scene.newer.consistent_at), "target_database": "back", "reason": "The database is gone."}

    refused = post(client_for(scene.estate.ada), "restores/incident", declared_at=iso(declared), **words)
    later = post(rio, "restores/incident", declared_at=iso(clock.now() + DAY), **words)
    long_ago = post(rio, "restores/incident", declared_at="0001-01-01T00:00:00Z", **words)
    done = post(rio, "restores/incident", declared_at=iso(declared), **words)

    assert (refused.status_code, later.status_code, done.status_code) == (403, 422, 201)
    assert [list(one.json()["errors"]) for one in (later, long_ago)] == [["declared_at"], ["declared_at"]]
    told = done.json()
    assert (told["purpose"], told["is_neutralised"]) == ("incident", False)
    assert told["rto"]["decide_seconds"] >= 300
    assert AuditEvent.objects.filter(tag="run:safety_action").count() == 1


def test_a_restore_into_production_tells_its_change_and_what_becomes_of_the_old_database(
    scene: Scene, rio: APIClient
) -> None:  # BCK-4
    at = clock.now()
    cut_over = begun_cut_over(scene.estate, target_at=scene.newer.consistent_at, at=at)

    told = rio.get(f"{AT}/restores/{cut_over.restore_id}/").json()

    assert (told["purpose"], told["is_neutralised"], told["asked_by"]) == ("production", False, "ada")
    assert told["cut_over"] == {
        "change": cut_over.change.number,
        "state": "restoring",
        "sentence": "“northwind_monday” is brought back beside “northwind”.",
        "old_database": "northwind",
        "keep_hours": 72,
        "kept_until": None,
    }


def test_a_restore_is_canceled_with_a_reason_once(scene: Scene, rio: APIClient) -> None:
    asked = post(rio, "restores", target_at=iso(scene.newer.consistent_at), target_database="look", reason="-").json()
    url = f"{AT}/restores/{asked['id']}/cancel/"

    wordless = rio.post(url, {"reason": "\u200b"})
    done = rio.post(url, {"reason": "It was found."})
    again = rio.post(url, {"reason": "It was found."})

    assert (wordless.status_code, list(wordless.json()["errors"])) == (422, ["reason"])
    assert (done.status_code, done.json()["state"], done.json()["sentence"]) == (
        200,
        "canceled",
        "Rio canceled it: It was found.",
    )
    assert again.status_code == 409


def test_a_drill_is_begun_and_its_report_is_read(scene: Scene, rio: APIClient) -> None:
    begun = post(rio, "drills", level=2, target_at=iso(scene.newer.consistent_at), scope="Database alone.")
    again = post(rio, "drills", level=2, target_at=iso(scene.newer.consistent_at))

    assert (begun.status_code, again.status_code) == (201, 409)
    told = begun.json()
    assert (told["state"], told["level"], told["point"], told["scope"]) == ("queued", 2, "newer", "Database alone.")
    assert (told["rto_target_seconds"], told["rpo_target_seconds"]) == (14_400, 3_600)
    assert (told["checks"], told["corrective_actions"], told["sign_off"]) == ([], [], None)
    assert rio.get(f"{AT}/drills/{told['id']}/").json() == told


def test_a_backup_is_canceled_with_a_reason_once(scene: Scene, rio: APIClient) -> None:
    asked = post(rio, "backups", reason="Before the sale.").json()
    url = f"{AT}/backups/{asked['id']}/cancel/"

    wordless = rio.post(url, {"reason": "\u200b"})
    done = rio.post(url, {"reason": "The shop is slow."})
    again = rio.post(url, {"reason": "The shop is slow."})

    assert (wordless.status_code, list(wordless.json()["errors"])) == (422, ["reason"])
    assert (done.status_code, done.json()["state"], done.json()["sentence"]) == (
        200,
        "canceled",
        "Rio canceled it: The shop is slow.",
    )
    assert again.status_code == 409


def test_a_drill_is_canceled_with_a_reason_once(scene: Scene, rio: APIClient) -> None:
    begun = post(rio, "drills", level=2, target_at=iso(scene.newer.consistent_at)).json()
    url = f"{AT}/drills/{begun['id']}/cancel/"

    wordless = rio.post(url, {"reason": "\u200b"})
    done = rio.post(url, {"reason": "The wrong level."})
    again = rio.post(url, {"reason": "The wrong level."})

    assert (wordless.status_code, list(wordless.json()["errors"])) == (422, ["reason"])
    told = done.json()
    assert (done.status_code, told["state"], told["sentence"]) == (
        200,
        "tearing_down",
        "Rio canceled it: The wrong level.",
    )
    assert (told["canceled_by"], told["cancel_reason"], told["finished_at"]) == ("rio", "The wrong level.", None)
    assert again.status_code == 409
    finish_drill(Drill.objects.get(), actor=system_actor(), at=clock.now())
    over = rio.get(f"{AT}/drills/", {"state": "canceled"}).json()["results"]
    assert [(one["id"], one["state"]) for one in over] == [(begun["id"], "canceled")]
    signed = client_for(recovery_owner(scene.estate, "rae")).post(f"{AT}/drills/{begun['id']}/sign-off/", {})
    assert (signed.status_code, sentence(signed)) == (
        409,
        "A canceled drill proves nothing, so it is not signed off.",
    )


def test_a_point_is_drilled_at_its_own_moment(scene: Scene, rio: APIClient) -> None:
    url = f"{AT}/points/{scene.older.pk}/drill/"
    begun, again = rio.post(url, {"level": 2}), rio.post(url, {"level": 2})
    too_far = rio.post(url, {"level": 9})

    assert (begun.status_code, again.status_code, too_far.status_code) == (201, 409, 422)
    told = begun.json()
    assert (told["point"], told["scope"]) == ("older", "older, at its own moment.")
    assert datetime.fromisoformat(told["target_at"]) == scene.older.consistent_at
    assert rio.get(f"{AT}/drills/{told['id']}/").json() == told


def test_the_report_of_a_failed_drill_holds_checks_measures_and_what_must_be_done(scene: Scene, rio: APIClient) -> None:
    # BCK-7
    at = clock.now() - timedelta(hours=1)
    drill = finished_drill(
        scene.estate.production, by=scene.rio, target_at=scene.newer.consistent_at, is_passed=False, at=at
    )
    Drill.objects.filter(pk=drill.pk).update(newest_sentinel_at=at - timedelta(minutes=2))

    told = rio.get(f"{AT}/drills/{drill.pk}/").json()

    assert told["state"] == "failed"
    assert [(one["name"], one["level"], one["is_passed"]) for one in told["checks"]] == [("sentinel", 2, False)]
    assert told["rto_measured"] == {
        "decide_seconds": 0.0,
        "provision_seconds": 120.0,
        "restore_seconds": 600.0,
        "validate_seconds": 180.0,
        "whole_seconds": 900.0,
    }
    assert told["rpo_measured_seconds"] == 120.0
    assert (told["rto_verdict"], told["rpo_verdict"]) == ("pass", "pass")
    assert [one.partition(":")[0] for one in told["method"]] == ["L1, integrity", "L2, PostgreSQL"]
    assert "Nothing was asked of L3, filestore." in told["gaps"]
    [action] = told["corrective_actions"]
    assert (action["owner"], action["change"], action["closed_at"]) == ("rio", None, None)
    assert action["title"].startswith(f"Drill {drill.pk} failed")


def test_the_report_is_taken_as_pdf_and_those_of_a_period_as_lines(
    scene: Scene, rio: APIClient, settings: Any
) -> None:  # AUD-5
    settings.ADAPTERS = {**settings.ADAPTERS, "pdf": "tests.functional.test_drills.print_words"}
    at, dee = clock.now(), client_for(scene.estate.dee)
    words: dict[str, Any] = {"by": scene.rio, "target_at": scene.newer.consistent_at}
    early = finished_drill(scene.estate.production, **words, at=at - timedelta(days=3))
    late = finished_drill(scene.estate.production, **words, at=at - timedelta(hours=1), is_passed=False)

    printed = dee.get(f"{AT}/drills/{early.pk}/pdf/")
    lines = [dee.get(f"{AT}/drills/reports/", {"since": iso(at - timedelta(days=one))}) for one in (4, 1, 1)]
    told = [b"".join(one.streaming_content) for one in lines]  # type: ignore[attr-defined]  # the client's own type lacks it

    assert (printed.status_code, printed["Content-Type"]) == (200, "application/pdf")
    assert printed["Content-Disposition"] == f'attachment; filename="drill-{early.pk}.pdf"'
    assert [[json.loads(line)["drill"] for line in one.splitlines()] for one in told] == [
        [early.pk, late.pk], [late.pk], [late.pk],
    ]  # fmt: skip
    assert told[1] == told[2]
    events = AuditEvent.objects.filter(tag="evidence:exported", actor=scene.estate.dee).order_by("pk")
    files = [json.loads(one.body)["data"]["file"] for one in events]
    assert files == [f"drill-{early.pk}.pdf", *["drill-reports.ndjson"] * 3]


def test_reports_are_taken_by_who_may_of_what_is_over(scene: Scene, rio: APIClient) -> None:
    drill = rio.post(f"{AT}/drills/", {**PLACE, "level": 1, "target_at": iso(scene.newer.consistent_at)}).json()
    nils = client_for(add_person("nils"))

    answers = [
        rio.get(f"{AT}/drills/{drill['id']}/pdf/"),
        nils.get(f"{AT}/drills/{drill['id']}/pdf/"),
        rio.get(f"{AT}/drills/reports/"),
        nils.get(f"{AT}/drills/reports/"),
        client_for(scene.estate.dee).get(f"{AT}/drills/reports/", {"since": "soon"}),
        client_for(scene.estate.dee).get(f"{AT}/drills/reports/", {"of": "all"}),
        client_for(scene.estate.dee).get(
            f"{AT}/drills/reports/", {"since": "2026-11-24T00:00:00Z", "until": "2026-11-23T00:00:00Z"}
        ),
    ]

    assert [one.status_code for one in answers] == [409, 404, 403, 403, 422, 422, 422]
    assert "The period ends before it begins." in answers[-1].content.decode()


def test_a_corrective_action_is_closed_with_what_was_done(scene: Scene, rio: APIClient) -> None:
    drill = finished_drill(
        scene.estate.production, by=scene.rio, target_at=scene.newer.consistent_at, is_passed=False, at=clock.now()
    )
    [todo] = rio.get(f"{AT}/corrective-actions/?is_open=true").json()["results"]
    url = f"{AT}/corrective-actions/{todo['id']}/close/"

    done = rio.post(url, {"note": "The disk was replaced."})
    again = rio.post(url, {"note": "The disk was replaced."})

    assert (todo["drill"], todo["environment"]) == (drill.pk, "production")
    assert (done.status_code, done.json()["closed_by"], again.status_code) == (200, "rio", 409)
    assert rio.get(f"{AT}/corrective-actions/?is_open=true").json()["results"] == []
    [told] = rio.get(f"{AT}/drills/{drill.pk}/").json()["corrective_actions"]
    assert told["closing_note"] == "The disk was replaced."


def test_a_corrective_action_names_the_change_that_mends_it(scene: Scene, rio: APIClient) -> None:  # BCK-7
    finished_drill(
        scene.estate.production, by=scene.rio, target_at=scene.newer.consistent_at, is_passed=False, at=clock.now()
    )
    [todo] = rio.get(f"{AT}/corrective-actions/?is_open=true").json()["results"]
    change = draft_change(scene.estate)
    url = f"{AT}/corrective-actions/{todo['id']}/link/"

    unknown = rio.post(url, {"number": "CHG-999999"})
    done, again = (rio.post(url, {"number": change.number}, headers={"Idempotency-Key": "one-link"}) for _ in range(2))
    rio.post(f"{AT}/corrective-actions/{todo['id']}/close/", {"note": "Mended."})
    late = rio.post(url, {"number": change.number})

    assert todo["problem"].startswith("No change was opened: nobody who answers for this drill may file one")
    assert (unknown.status_code, list(unknown.json()["errors"])) == (422, ["number"])
    assert (done.status_code, done.json()["change"], again.json()) == (200, change.number, done.json())
    assert AuditEvent.objects.filter(tag="recovery:drill:action_linked").count() == 1
    assert late.status_code == 409


def test_a_drill_is_signed_off_by_somebody_else_once(scene: Scene, rio: APIClient) -> None:
    drill = finished_drill(scene.estate.production, by=scene.rio, target_at=scene.newer.consistent_at, at=clock.now())
    other = client_for(recovery_owner(scene.estate, "rae"))
    url = f"{AT}/drills/{drill.pk}/sign-off/"

    own = rio.post(url, {"note": "Mine."})
    done = other.post(url, {"note": "Read."})
    again = other.post(url, {})

    assert (own.status_code, done.status_code, again.status_code) == (403, 200, 409)
    assert (done.json()["sign_off"]["by"], done.json()["sign_off"]["note"]) == ("rae", "Read.")
    assert [one["id"] for one in rio.get(f"{AT}/drills/?is_signed_off=true").json()["results"]] == [drill.pk]
    assert rio.get(f"{AT}/drills/?is_signed_off=false").json()["results"] == []


def test_a_sabotaged_drill_is_told_apart(scene: Scene, rio: APIClient) -> None:
    # BCK-9
    answer = post(rio, "drills", level=1, target_at=iso(scene.newer.consistent_at), sabotage="flip")

    assert answer.status_code == 201
    found = {word: rio.get(f"{AT}/drills/?is_sabotaged={word}").json()["results"] for word in ("true", "false")}
    assert {word: len(rows) for word, rows in found.items()} == {"true": 1, "false": 0}


def test_a_hold_keeps_a_point_until_it_is_lifted(scene: Scene, rio: APIClient) -> None:
    placed = post(rio, "holds", name="Case 7", reason="The court asked.", point="older")

    told = placed.json()
    assert (placed.status_code, told["point"], told["placed_by"]) == (201, "older", "rio")
    assert rio.get(scene.environment("retention")).json()["goes"] == []
    assert [one["name"] for one in rio.get(f"{AT}/points/{scene.older.pk}/").json()["holds"]] == ["Case 7"]
    assert rio.get(f"{AT}/points/{scene.newer.pk}/").json()["holds"] == []

    lifted = rio.post(f"{AT}/holds/{told['id']}/lift/", {"reason": "It is over."})
    again = rio.post(f"{AT}/holds/{told['id']}/lift/", {"reason": "It is over."})

    assert (lifted.status_code, lifted.json()["lifted_by"], again.status_code) == (200, "rio", 409)
    assert [one["key"] for one in rio.get(scene.environment("retention")).json()["goes"]] == ["older"]
    assert [one["id"] for one in rio.get(f"{AT}/holds/?is_lifted=true").json()["results"]] == [told["id"]]
    assert rio.get(f"{AT}/holds/?is_lifted=false").json()["results"] == []


def test_a_hold_of_a_point_that_is_not_there_is_no_hold_of_everything(scene: Scene, rio: APIClient) -> None:
    answer = post(rio, "holds", name="Case 7", reason="The court asked.", point="oldest")

    assert answer.status_code == 404
    assert not LegalHold.objects.exists()


def test_what_was_seen_to_go_is_asked_for_and_nothing_else(scene: Scene, rio: APIClient) -> None:
    url = scene.environment("retention")
    seen = rio.get(url).json()
    stays = {one["key"]: one["reasons"] for one in seen["stays"]}

    goes = [one["key"] for one in seen["goes"]]
    other, timeless = rio.post(url, {"seen_goes": []}), rio.post(url, {"seen_goes": goes})
    asked = rio.post(url, {"seen_goes": goes, "seen_lost": seen["lost"]})

    assert ([one["key"] for one in seen["goes"]], stays) == (["older"], {"newer": ["It is the last one."]})
    assert (other.status_code, asked.status_code) == (409, 200)
    assert sentence(other) == "Something changed meanwhile: now 1 point would go. Look again."
    assert timeless.status_code == 409
    assert sentence(timeless).startswith("With it other times would be lost than were seen: ")
    assert seen["lost"] == asked.json()["lost"] != []
    assert asked.json()["goes"][0]["removal_asked_at"] is not None
    going = rio.get(f"{AT}/points/?is_going=true").json()["results"]
    assert [(one["key"], one["removal_asked_by"], one["state"]) for one in going] == [("older", "rio", "copied")]


def register(**words: Any) -> dict[str, Any]:
    at = clock.now().replace(microsecond=0)
    times = {"started_at": iso(at - 3 * DAY), "finished_at": iso(at - DAY)}
    return {
        "tenant": "northwind",
        "environment": "staging",
        "key": "2026/full-1",
        "kind": "dump",
        **times,
        "consistent_at": iso(at - 2 * DAY),
        "parts": [
            {"kind": "database", "key": "full-1/base.tar", "size": 900, "sha256": "a" * 64, **times},
            {"kind": "evidence", "key": "full-1/log.txt", "size": 100, "sha256": "b" * 64, **times},
        ],
        **words,
    }


@pytest.fixture
def external(scene: Scene) -> BackupPolicy:
    return backup_policy(scene.estate.staging, engine="external", source="", recipients=())


def test_another_tools_point_is_registered_with_its_evidence(
    scene: Scene, external: BackupPolicy, rio: APIClient
) -> None:
    answer = rio.post(
        f"{AT}/points/", register(start_lsn="0/3000028", stop_lsn="16/B374D848", modules={"sale": "19.0.1.2"})
    )

    assert answer.status_code == 201
    told = answer.json()
    assert (told["state"], told["level"], told["backup"], told["size"]) == ("copied", 0, None, 1_000)
    assert [one["kind"] for one in told["parts"]] == ["database", "evidence"]
    assert [one["store"] for one in told["copies"]] == [external.store]
    assert (told["start_lsn"], told["stop_lsn"], told["modules"]) == ("0/3000028", "16/B374D848", {"sale": "19.0.1.2"})
    assert rio.get(f"{AT}/points/{told['id']}/").json() == told
    again = rio.post(f"{AT}/points/", register())
    assert (again.status_code, sentence(again)) == (409, "There is a point called 2026/full-1 already.")


def test_a_point_builds_on_another_by_its_key(scene: Scene, external: BackupPolicy, rio: APIClient) -> None:
    rio.post(f"{AT}/points/", register())

    done = rio.post(f"{AT}/points/", register(key="inc-1", kind="incremental", parent="2026/full-1"))
    hidden = rio.post(f"{AT}/points/", register(key="inc-2", kind="incremental", parent="newer"))

    assert (done.status_code, done.json()["parent"]) == (201, "2026/full-1")
    assert (hidden.status_code, list(hidden.json()["errors"])) == (422, ["parent"])


def part(**words: Any) -> list[dict[str, Any]]:
    found: dict[str, Any] = {**register()["parts"][0], **words}
    return [found]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"consistent_at": "2020-01-01T00:00:00Z"}, "consistent_at"),
        ({"filestore_at": "2020-01-01T00:00:00Z"}, "filestore_at"),
        ({"kind": "incremental"}, "parent"),
        ({"finished_at": "2999-01-01T00:00:00Z"}, "finished_at"),
        ({"started_at": "2026-11-20T10:00:00"}, "started_at"),
        ({"started_at": "0001-01-01T00:00:00Z"}, "started_at"),
        ({"started_at": "0001-01-01T00:00:00+23:59"}, "started_at"),
        ({"locked_until": "9999-12-31T23:59:59Z"}, "locked_until"),
        ({"parts": part(started_at="0001-01-01T00:00:00Z")}, "parts.0.started_at"),
        ({"start_lsn": "1/0", "stop_lsn": "0/FFFFFFFF"}, "stop_lsn"),
        ({"start_lsn": "FFFFFFFF/0"}, "start_lsn"),
        ({"start_lsn": 3}, "start_lsn"),
        ({"key": "../../kite/production/p1"}, "key"),
        ({"parts": []}, "parts"),
        ({"parts": "all"}, "parts"),
        ({"parts": part(key="/etc/passwd")}, "parts"),
        ({"parts": part(key="a/../b")}, "parts"),
        ({"parts": part() * 2}, "parts"),
        ({"parts": part(finished_at="2020-01-01T00:00:00Z")}, "parts"),
        ({"parts": part(size=-1)}, "parts.0.size"),
        ({"parts": part(size=2**63)}, "parts.0.size"),
        ({"parts": part(size="many")}, "parts.0.size"),
        ({"parts": part(sha256="A" * 64)}, "parts.0.sha256"),
        ({"parts": part(kind="soul")}, "parts.0.kind"),
        ({"parts": part(weight=1)}, "parts.0.weight"),
        ({"timeline": 2**31}, "timeline"),
        ({"git_commit": "main"}, "git_commit"),
        ({"modules": ["sale"]}, "modules"),
        ({"modules": {"x" * 121: "1"}}, "modules"),
        ({"store": "s3://elsewhere"}, "store"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_point_that_does_not_hold_together_is_refused_by_field(
    scene: Scene, external: BackupPolicy, rio: APIClient, words: dict[str, Any], field: str
) -> None:
    answer = rio.post(f"{AT}/points/", register(**words))

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]
    assert RecoveryPoint.objects.count() == 2


@pytest.mark.parametrize(("extra", "status"), [(0, 201), (1, 422)])
def test_a_point_is_no_larger_than_its_event_can_say(
    scene: Scene, external: BackupPolicy, rio: APIClient, extra: int, status: int
) -> None:
    halves = ((1, 2**52 - 1), (2, 2**52 + extra))

    answer = rio.post(f"{AT}/points/", register(parts=[part(key=f"p/{one}", size=size)[0] for one, size in halves]))

    assert answer.status_code == status


def test_what_is_backed_up_here_takes_no_point_of_another_tool(scene: Scene, rio: APIClient) -> None:
    answer = rio.post(f"{AT}/points/", register(environment="production"))
    without = rio.post(f"{AT}/points/", register())

    assert (answer.status_code, without.status_code) == (409, 404)
    assert sentence(without) == "This environment has no backup policy yet: write one first."


def test_one_environment_of_a_tenant_is_seen_alone(scene: Scene) -> None:
    nils = add_person("nils")
    grant(nils, Role.RECOVERY_OWNER, scene.estate.staging)
    client = client_for(nils)

    hidden = post(client, "backups", reason="-")

    assert hidden.status_code == 404
    assert [one["environment"] for one in client.get(f"{AT}/environments/").json()["results"]] == ["staging"]
    assert client.get(f"{AT}/points/").json()["results"] == []
