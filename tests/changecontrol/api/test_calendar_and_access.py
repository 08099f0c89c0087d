"""Windows, freezes, policies, grants, runs and the trail over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest

from changecontrol.models import AuditEvent, Run, RunLog, Window
from changecontrol.rules.roles import Role
from tests.changecontrol.api.conftest import client_for, days_ahead, sentence
from tests.factories import NOW, SmallEstate, add_person, advance_to, grant, stranger_estate, submitted_change

WINDOW: dict[str, Any] = {
    "tenant": "northwind",
    "stage": "production",
    "environment": "production",
    "cluster": "pt-1",
    "cohort": "pilot",
    "name": "Nights",
    "effect": "allow",
    "rrule": "FREQ=WEEKLY;BYDAY=TU,TH",
    "starts_local": "2026-11-24T02:00:00",
    "zone": "",
    "duration_seconds": 10_800,
    "excluded_local": ["2026-12-24T02:00:00"],
    "added_local": ["2026-12-28T02:00:00"],
    "is_active": True,
    "reason": "Shops are closed.",
}


@pytest.fixture
def client(estate: SmallEstate) -> Any:
    tess = add_person("tess")
    grant(tess, Role.TENANT_ADMINISTRATOR, estate.tenant)
    return client_for(tess)


def test_a_window_is_told_as_it_was_said(client: Any) -> None:
    made = client.post("/api/v1/windows/", WINDOW)

    assert made.status_code == 201
    told = made.json()
    assert {name: told[name] for name in WINDOW} == WINDOW
    assert told["version"] == 1
    assert client.get(f"/api/v1/windows/{told['id']}/").json() == told
    assert client.get("/api/v1/windows/?effect=allow&is_active=true").json()["results"] == [told]
    assert client.get("/api/v1/windows/?is_active=false").json()["results"] == []


def test_an_edit_keeps_what_it_does_not_name_and_says_why(client: Any) -> None:
    made = client.post("/api/v1/windows/", WINDOW).json()
    url = f"/api/v1/windows/{made['id']}/"
    words = {"seen_version": 1, "reason": "Longer nights.", "duration_seconds": 14_400}

    unsaid = client.patch(url, {"duration_seconds": 14_400})
    edited = client.patch(url, words)
    late = client.patch(url, {**words, "duration_seconds": 7200})

    assert set(unsaid.json()["errors"]) == {"seen_version", "reason"}
    assert edited.json() == {**made, "duration_seconds": 14_400, "version": 2, "reason": "Longer nights."}
    assert late.status_code == 409


def test_a_place_is_let_go_by_naming_none(client: Any) -> None:
    made = client.post("/api/v1/windows/", WINDOW).json()

    edited = client.patch(
        f"/api/v1/windows/{made['id']}/", {"seen_version": 1, "reason": "For all.", "environment": None, "stage": ""}
    )

    assert (edited.json()["environment"], edited.json()["stage"], edited.json()["cohort"]) == (None, "", "pilot")


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"environment": "nowhere"}, "environment"),
        ({"cohort": "nowhere"}, "cohort"),
        ({"rrule": "FREQ=SOMETIMES"}, "rrule"),
        ({"zone": "Mars/Base"}, "rrule"),
        ({"starts_local": "2026-11-24T02:00:00+01:00"}, "starts_local"),
        ({"starts_local": "soon"}, "starts_local"),
        ({"duration_seconds": 0}, "duration_seconds"),
        ({"duration_seconds": 10**12}, "duration_seconds"),
        ({"excluded_local": ["x"]}, "excluded_local.0"),
        ({"effect": "explode"}, "effect"),
    ],
)
def test_a_window_that_makes_no_sense_is_refused_by_field(client: Any, words: dict[str, Any], field: str) -> None:
    answer = client.post("/api/v1/windows/", {**WINDOW, **words})

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]
    assert not Window.objects.exists()


def test_a_place_of_another_tenant_reads_like_none(estate: SmallEstate, client: Any) -> None:  # BIZ-1
    stranger_estate()

    other = client.post("/api/v1/windows/", {**WINDOW, "tenant": "kite"})
    missing = client.post("/api/v1/windows/", {**WINDOW, "tenant": "nobody"})

    assert other.status_code == missing.status_code == 404
    assert other.json() == missing.json()


def test_a_freeze_holds_until_it_is_lifted_with_a_reason(estate: SmallEstate) -> None:
    fred = add_person("fred")
    grant(fred, Role.FREEZE_OWNER, estate.tenant)
    client = client_for(fred)
    words = {
        "tenant": "northwind",
        "name": "Trade",
        "reason": "Black Friday.",
        "stage": "production",
        "starts_at": days_ahead(0),
        "ends_at": days_ahead(3),
    }

    made = client.post("/api/v1/freezes/", words)
    backwards = client.post("/api/v1/freezes/", {**words, "ends_at": days_ahead(-1)})
    blank = client.post(f"/api/v1/freezes/{made.json()['id']}/lift/", {"reason": " "})
    lifted = client.post(f"/api/v1/freezes/{made.json()['id']}/lift/", {"reason": "Trade is over."})
    again = client.post(f"/api/v1/freezes/{made.json()['id']}/lift/", {"reason": "Trade is over."})

    assert (made.status_code, made.json()["opened_by"], made.json()["lifted_at"]) == (201, "fred", None)
    assert (backwards.status_code, list(backwards.json()["errors"])) == (422, ["ends_at"])
    assert blank.status_code == 422
    assert lifted.json()["lifted_by"] == "fred"
    assert again.status_code == 409


def test_a_policy_is_published_version_by_version(client: Any) -> None:  # APR-4
    stage = {
        "name": "Review",
        "requirements": [{"key": "review", "name": "Review", "role": "technical_reviewer", "quorum": 1}],
    }
    words = {
        "tenant": "northwind",
        "slug": "night",
        "name": "Nights",
        "content": {"match": {"environment_stages": ["production"]}, "stages": [stage]},
        "seen_version": 0,
    }

    first = client.post("/api/v1/policies/", words)
    late = client.post("/api/v1/policies/", {**words, "name": "Late"})
    second = client.post("/api/v1/policies/", {**words, "name": "Long nights", "seen_version": 1})
    wrong = client.post("/api/v1/policies/", {**words, "seen_version": 2, "content": {"stages": "none"}})

    assert [one.status_code for one in (first, late, second, wrong)] == [201, 409, 201, 422]
    told = client.get("/api/v1/policies/?slug=night").json()["results"]
    assert [(one["version"], one["name"], one["is_active"]) for one in told] == [
        (2, "Long nights", True),
        (1, "Nights", False),
    ]
    assert client.get(f"/api/v1/policies/{first.json()['id']}/").json()["version"] == 1


def test_a_role_is_granted_reviewed_and_revoked(estate: SmallEstate, client: Any) -> None:
    zoe = add_person("zoe@northwind")
    words = {"holder": "zoe@northwind", "role": "engineer", "tenant": "northwind", "expires_at": days_ahead(10)}

    made = client.post("/api/v1/role-grants/", words)
    narrower = client.post("/api/v1/role-grants/", {**words, "environment": "staging", "role": "technical_reviewer"})

    assert (made.status_code, narrower.status_code) == (204, 204)
    told = client.get("/api/v1/role-grants/?holder=zoe@northwind").json()["results"]
    seen = {(one["role"], one["environment"], one["is_group"]) for one in told}
    assert seen == {("engineer", None, False), ("technical_reviewer", "staging", False)}
    for one in told:
        assert client.post(f"/api/v1/role-grants/{one['id']}/revoke/").status_code == 204
    assert client.get("/api/v1/role-grants/?holder=zoe@northwind").json()["results"] == []
    assert AuditEvent.objects.filter(subject=f"user:{zoe.pk}", tag="access:role:revoked").count() == 2


def test_nobody_grants_to_themselves_or_makes_administrators(client: Any) -> None:
    words = {"holder": "tess", "role": "change_manager", "tenant": "northwind"}

    own = client.post("/api/v1/role-grants/", words)
    administrator = client.post("/api/v1/role-grants/", {**words, "holder": "ada", "role": "tenant_administrator"})
    platform = client.post("/api/v1/role-grants/", {**words, "holder": "ada", "role": "platform_administrator"})
    nobody = client.post("/api/v1/role-grants/", {**words, "holder": "nobody"})

    assert [one.status_code for one in (own, administrator, platform, nobody)] == [403, 403, 422, 404]


def test_a_grant_of_another_tenant_is_not_there(estate: SmallEstate, client: Any) -> None:  # BIZ-1
    _, eve = stranger_estate()
    theirs = client_for(eve).get("/api/v1/role-grants/").json()["results"][0]["id"]

    hidden, missing = (client.post(f"/api/v1/role-grants/{one}/revoke/") for one in (theirs, 999_999))

    assert hidden.status_code == missing.status_code == 404
    assert hidden.json() == missing.json()


@pytest.fixture
def run(estate: SmallEstate) -> Run:
    found = advance_to(estate, "implementing").runs.get()
    found.state = "running"
    found.save(update_fields=["state"])
    return found


def test_a_run_is_asked_to_stop_and_says_so(estate: SmallEstate, run: Run) -> None:  # WIN-8
    client = client_for(estate.cy)
    url = f"/api/v1/runs/{run.pk}/"

    blank = client.post(f"{url}abort/")
    asked = client.post(f"{url}abort/", {"reason": "Tills are slow."})
    log = client.get(f"{url}log/").json()["results"]

    assert (blank.status_code, list(blank.json()["errors"])) == (422, ["reason"])
    assert (asked.status_code, asked.json()["intent"]) == (200, "abort")
    assert "Tills are slow." in log[0]["sentence"]
    assert AuditEvent.objects.filter(tag="run:safety_action", change=run.change).count() == 1


def test_a_step_the_run_does_not_know_is_not_there(estate: SmallEstate, run: Run) -> None:
    client = client_for(estate.cy)

    assert client.post(f"/api/v1/runs/{run.pk}/explode/").status_code == 404
    too_early = client.post(f"/api/v1/runs/{run.pk}/promote/")
    assert too_early.status_code == 409
    assert sentence(too_early).startswith("Promote is not possible while this run is at “running”")


def test_a_stranger_sees_and_stops_no_run(estate: SmallEstate, run: Run) -> None:
    _, eve = stranger_estate()
    client = client_for(eve)

    for answer in (
        client.get(f"/api/v1/runs/{run.pk}/"),
        client.get(f"/api/v1/runs/{run.pk}/log/"),
        client.post(f"/api/v1/runs/{run.pk}/pause/"),
    ):
        assert answer.status_code == 404
    assert not AuditEvent.objects.filter(actor=eve, tag="refused").exists()


def test_the_log_is_paged(estate: SmallEstate, run: Run) -> None:
    for number in range(3):
        RunLog.objects.create(run=run, at=NOW, icon="point", sentence=f"Line {number}")
    client = client_for(estate.cy)

    first = client.get(f"/api/v1/runs/{run.pk}/log/?page_size=2").json()
    second = client.get(first["next"]).json()

    assert [one["sentence"] for one in [*first["results"], *second["results"]]] == ["Line 2", "Line 1", "Line 0"]


def test_the_trail_is_narrowed_and_that_it_was_read_is_recorded(estate: SmallEstate) -> None:  # AUD-8
    change = submitted_change(estate)
    client = client_for(estate.dee)

    def tags(query: str) -> list[str]:
        return [one["tag"] for one in client.get(f"/api/v1/audit/events/?{query}").json()["results"]]

    assert tags(f"change={change.number}") == ["change:submitted", "change:draft:saved", "change:created"]
    assert tags("change=CHG-999999") == []
    assert tags("change=nonsense") == []
    assert tags("tag=change:draft") == ["change:draft:saved"]
    assert tags("actor=ben") == []
    assert tags(f"since={NOW.isoformat().replace('+', '%2B')}&tag=change:created") == ["change:created"]
    assert tags(f"until={NOW.isoformat().replace('+', '%2B')}&tag=change:created") == []
    note = AuditEvent.objects.filter(tag="evidence:read", actor=estate.dee).order_by("pk").first()
    assert note is not None
    assert json.loads(note.body)["data"] == {"asked": {"change": [change.number]}}


def test_the_trail_ends_where_it_ends(estate: SmallEstate) -> None:
    submitted_change(estate)

    last = client_for(estate.dee).get("/api/v1/audit/events/?page_size=2&cursor=last").json()

    assert [one["tag"] for one in last["results"]] == ["change:draft:saved", "change:created"]
    assert last["next"] is None
    newer = client_for(estate.dee).get(last["previous"]).json()
    assert newer["results"][-1]["tag"] == "change:submitted"
