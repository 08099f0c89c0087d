"""Changes over REST: the whole life of one, and what every command refuses."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.models import AuditEvent, ChangeRequest, Vote
from changecontrol.rules.roles import Role
from tests.changecontrol.api.conftest import client_for, days_ahead, sentence
from tests.factories import (
    CONTENT,
    SmallEstate,
    add_person,
    advance_to,
    authorized_change,
    draft_change,
    grant,
    requirement_named,
    scheduled_change,
    stranger_estate,
    submitted_change,
)

URL = "/api/v1/changes/"
ANSWERS = {key: value for key, value in CONTENT.items() if key != "title"}


def url_of(change: ChangeRequest, part: str = "") -> str:
    return f"{URL}{change.number}/{part}"


def test_a_draft_is_filed_with_its_answers(estate: SmallEstate) -> None:
    words = {"tenant": "northwind", "title": CONTENT["title"], "content": ANSWERS}

    answer = client_for(estate.ada).post(URL, words)

    assert answer.status_code == 201
    change = ChangeRequest.objects.get()
    told = answer.json()
    assert (told["number"], told["state"], told["requester"]) == (change.number, "draft", "ada")
    assert told["draft"]["reason"] == CONTENT["reason"]
    assert told["draft_version"] == 2
    assert told["environments"] == ["production"]


def test_a_draft_that_may_be_filed_but_not_written_is_refused_whole_and_in_the_trail(estate: SmallEstate) -> None:
    commander = add_person("ida")
    grant(commander, Role.INCIDENT_COMMANDER, estate.tenant)

    answer = client_for(commander).post(URL, {"tenant": "northwind", "title": "Now", "content": {"reason": "Fire."}})

    assert answer.status_code == 403
    assert not ChangeRequest.objects.exists()
    refused = AuditEvent.objects.get(tag="refused")
    assert refused.subject == f"tenant:{estate.tenant.pk}"
    assert refused.actor == commander


def test_a_change_goes_from_draft_to_scheduled_by_its_commands(estate: SmallEstate) -> None:
    change = draft_change(estate)

    submitted = client_for(estate.ada).post(url_of(change, "submit/"))

    assert submitted.status_code == 200
    assert submitted.json()["change"]["state"] == "submitted"
    assert isinstance(submitted.json()["warnings"], list)
    change = authorized_change(estate)
    for person, role in ((estate.cy, "technical_reviewer"), (estate.ben, "change_manager")):
        client = client_for(person)
        asked = client.get(url_of(change, "approvals/")).json()
        wanted = next(one["id"] for one in asked["requirements"] if one["role"] == role)
        digest = client.get(url_of(change, "plan/")).json()["digest"]
        cast = client.post(
            url_of(change, "vote/"), {"requirement": wanted, "verdict": "approve", "seen_digest": digest}
        )
        assert cast.status_code == 201
        assert (cast.json()["voter"], cast.json()["authentication"][:9]) == (person.username, "token cc_")
    assert client_for(estate.ada).get(url_of(change)).json()["state"] == "scheduled"


def test_a_draft_is_kept_only_by_whoever_read_its_newest_version(estate: SmallEstate) -> None:
    change = draft_change(estate)
    client = client_for(estate.ada)
    words = {"seen_version": change.draft_version, "content": {"reason": "Another."}}

    assert client.post(url_of(change, "draft/"), words).json()["draft"]["reason"] == "Another."
    late = client.post(url_of(change, "draft/"), words | {"content": {"reason": "A third."}})

    assert late.status_code == 409
    assert "saved elsewhere" in sentence(late)


def test_another_branch_lets_go_of_the_commit_that_was_pinned(estate: SmallEstate) -> None:
    change = submitted_change(estate)

    answer = client_for(estate.ada).post(url_of(change, "revisions/"), {"revision_name": "release-2"})

    assert answer.status_code == 201
    content = answer.json()["change"]["revision"]["content"]
    assert (content["revision_name"], content["commit"]) == ("release-2", "")


def test_a_full_hash_as_revision_name_is_the_commit(estate: SmallEstate) -> None:
    change = submitted_change(estate)

    answer = client_for(estate.ada).post(url_of(change, "revisions/"), {"revision_name": "ab" * 20})

    assert answer.json()["change"]["revision"]["content"]["commit"] == "ab" * 20


def test_what_is_missing_at_submission_is_said_by_field(estate: SmallEstate) -> None:
    client = client_for(estate.ada)
    number = client.post(URL, {"tenant": "northwind", "title": "Bare"}).json()["number"]

    answer = client.post(f"{URL}{number}/submit/")

    assert answer.status_code == 422
    assert {"reason", "environments", "rollback_plan"} <= set(answer.json()["errors"])


def test_a_vote_on_another_plan_than_the_current_one_is_refused(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    wanted = requirement_named(change, "technical_reviewer").pk

    answer = client_for(estate.cy).post(
        url_of(change, "vote/"), {"requirement": wanted, "verdict": "approve", "seen_digest": "0" * 64}
    )

    assert answer.status_code == 409
    assert not Vote.objects.exists()


def test_the_requester_cannot_vote_over_the_api_either(estate: SmallEstate) -> None:  # APR-1
    grant(estate.ada, Role.CHANGE_MANAGER, estate.tenant)
    change = authorized_change(estate)
    wanted = requirement_named(change, "change_manager").pk

    answer = client_for(estate.ada).post(
        url_of(change, "vote/"), {"requirement": wanted, "verdict": "approve", "seen_digest": change.plan.digest}
    )

    assert answer.status_code == 403
    refused = AuditEvent.objects.get(tag="refused", change=change)
    assert (refused.actor, refused.subject) == (estate.ada, f"changerequest:{change.pk}")


def test_a_requirement_of_another_change_is_not_found_here(estate: SmallEstate) -> None:
    change, other = authorized_change(estate), authorized_change(estate)
    wanted = requirement_named(other, "technical_reviewer").pk

    answer = client_for(estate.cy).post(
        url_of(change, "vote/"), {"requirement": wanted, "verdict": "approve", "seen_digest": change.plan.digest}
    )

    assert answer.status_code == 404


def test_a_vote_is_withdrawn_with_a_comment(estate: SmallEstate) -> None:  # APR-5, APR-6
    change = scheduled_change(estate)
    words = {"requirement": requirement_named(change, "change_manager").pk}
    client = client_for(estate.ben)

    blank = client.post(url_of(change, "withdraw-vote/"), words | {"comment": " "})
    answer = client.post(url_of(change, "withdraw-vote/"), words | {"comment": "I misread the plan."})

    assert blank.status_code == 422
    assert answer.status_code == 201
    assert answer.json()["verdict"] == "withdraw"
    assert client.get(url_of(change)).json()["state"] == "authorize"


def test_hold_release_cancel_and_close_move_a_change(estate: SmallEstate) -> None:
    client = client_for(estate.ben)
    change = submitted_change(estate)

    held = client.post(url_of(change, "hold/"), {"reason": "The supplier is late."})
    released = client.post(url_of(change, "release/"))
    canceled = client.post(url_of(change, "cancel/"), {"reason": "Not needed."})
    closed = client.post(url_of(advance_to(estate, "review"), "close/"), {"close_code": "successful"})

    assert [one.json()["state"] for one in (held, released, canceled, closed)] == [
        "on_hold",
        "submitted",
        "canceled",
        "closed",
    ]
    assert held.json()["hold_reason"] == "The supplier is late."


def test_a_step_that_the_state_does_not_allow_is_a_conflict(estate: SmallEstate) -> None:
    answer = client_for(estate.ben).post(url_of(submitted_change(estate), "close/"), {"close_code": "successful"})

    assert answer.status_code == 409
    assert "must be at" in sentence(answer)


def test_an_approved_change_is_scheduled_anew(estate: SmallEstate) -> None:
    change = scheduled_change(estate)
    client = client_for(estate.ada)

    unsaid = client.post(url_of(change, "schedule/"), {})
    past = client.post(url_of(change, "schedule/"), {"planned_start_at": "2020-01-01T00:00:00Z"})
    soonest = client.post(url_of(change, "schedule/"), {"planned_start_at": None})

    assert (unsaid.status_code, list(unsaid.json()["errors"])) == (422, ["planned_start_at"])
    assert past.status_code == 409
    assert soonest.json()["planned_start_at"] is None


def test_a_change_is_handed_over_to_whoever_may_own_it(estate: SmallEstate) -> None:  # APR-2
    zoe = add_person("zoe")
    grant(zoe, Role.ENGINEER, estate.tenant)
    _, eve = stranger_estate()
    change = draft_change(estate)
    client = client_for(estate.ada)

    answer = client.post(url_of(change, "hand-over/"), {"assignee": "zoe"})
    stranger = client.post(url_of(change, "hand-over/"), {"assignee": eve.username})
    nobody = client.post(url_of(change, "hand-over/"), {"assignee": "nobody"})

    assert answer.json()["assignee"] == "zoe"
    # Somebody who exists elsewhere reads exactly like somebody who does not exist.
    assert stranger.status_code == nobody.status_code == 422
    assert stranger.json() == nobody.json()


def test_a_misspelt_word_is_refused_and_not_taken_for_silence(estate: SmallEstate) -> None:
    client = client_for(estate.ada)
    change = draft_change(estate)

    top = client.post(URL, {"tenant": "northwind", "title": "x", "contents": {}})
    nested = client.post(
        url_of(change, "draft/"), {"seen_version": change.draft_version, "content": {"waves": [{"nmae": "x"}]}}
    )

    assert list(top.json()["errors"]) == ["contents"]
    assert list(nested.json()["errors"]) == ["content.waves.0.nmae"]


PARTS = ["", "revisions/", "plan/", "gates/", "approvals/", "timeline/", "evidence/"]


@pytest.mark.parametrize("part", [*PARTS, "run/", "evidence-pack/"])
def test_what_a_stranger_asks_for_is_as_missing_as_nothing(estate: SmallEstate, part: str) -> None:
    change = authorized_change(estate)
    _, eve = stranger_estate()
    client = client_for(eve)

    hidden, missing = client.get(url_of(change, part)), client.get(f"{URL}CHG-999999/{part}")

    assert hidden.status_code == missing.status_code == 404
    assert sentence(hidden) == sentence(missing)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_change_is_read_by_who_may_see_it(estate: SmallEstate, part: str) -> None:
    change = authorized_change(estate)

    answer = client_for(estate.dee).get(url_of(change, part))

    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"


def test_the_newest_run_comes_with_its_targets(estate: SmallEstate) -> None:
    client = client_for(estate.dee)
    before = client.get(url_of(scheduled_change(estate), "run/"))

    answer = client.get(url_of(advance_to(estate, "implementing"), "run/"))

    assert before.status_code == 404
    assert (answer.json()["state"], answer.json()["targets"]) == ("succeeded", [])


def test_a_refused_pack_is_in_the_trail_once(estate: SmallEstate) -> None:  # AUD-1
    change = submitted_change(estate)

    answer = client_for(estate.cy).get(url_of(change, "evidence-pack/"))

    assert answer.status_code == 403
    assert [one.actor for one in AuditEvent.objects.filter(tag="refused")] == [estate.cy]


def test_the_timeline_is_the_chain_of_the_change(estate: SmallEstate) -> None:
    change = submitted_change(estate)

    told = client_for(estate.dee).get(url_of(change, "timeline/")).json()["results"]

    assert [one["tag"] for one in told] == ["change:created", "change:draft:saved", "change:submitted"]
    assert [one["previous_hash"] for one in told[1:]] == [one["hash"] for one in told[:-1]]


def titles(answer: Any) -> list[str]:
    return [row["title"] for row in answer.json()["results"]]


def test_the_list_is_narrowed_by_each_filter(estate: SmallEstate) -> None:
    draft_change(estate, title="Reorder proposals")
    other = draft_change(estate, title="Loyalty cards", environments=["staging"])
    submitted = submitted_change(estate, title="Till speed")
    client = client_for(estate.ada)

    def found(query: str) -> list[str]:
        return titles(client.get(f"{URL}?{query}"))

    assert found("") == ["Till speed", "Loyalty cards", "Reorder proposals"]
    assert found("state=draft") == ["Loyalty cards", "Reorder proposals"]
    assert found("state=draft&state=submitted") == ["Till speed", "Loyalty cards", "Reorder proposals"]
    assert found("environment=staging") == ["Loyalty cards"]
    assert found("stage=production") == [submitted.title]
    assert found("tier=2") == [submitted.title]
    assert found("q=loyal") == ["Loyalty cards"]
    assert found(f"q={other.number}") == ["Loyalty cards"]
    assert found("requester=ben") == []
    assert found("tenant=kite") == []
    assert len(found("kind=deploy&type=normal")) == 3


@pytest.mark.parametrize(
    "query",
    [
        "state=flying",
        "tier=9",
        "tier=1e400",
        "stage=moon",
        "kind=%00",
        "q=%00",
        "tenant=%00",
        "cursor=zzz",
        "cursor=after-99999999999999999999",
        "page_size=0",
        "page_size=-1",
        "page_size=99999",
        "page_size=%F0%9F%98%80",
        "sate=draft",
    ],
)
def test_a_filter_that_makes_no_sense_is_a_problem_that_names_it(estate: SmallEstate, query: str) -> None:
    answer = client_for(estate.ada).get(f"{URL}?{query}")

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [query.partition("=")[0]]
    assert sentence(answer)


def test_pages_follow_each_other_to_the_end_and_back(estate: SmallEstate) -> None:
    for number in range(5):
        draft_change(estate, title=f"Change {number}")
    client = client_for(estate.ada)

    first = client.get(f"{URL}?page_size=2")
    second = client.get(first.json()["next"])
    third = client.get(second.json()["next"])
    last = client.get(f"{URL}?page_size=2&cursor=last")

    assert [titles(one) for one in (first, second, third)] == [
        ["Change 4", "Change 3"],
        ["Change 2", "Change 1"],
        ["Change 0"],
    ]
    assert (first.json()["previous"], third.json()["next"]) == (None, None)
    assert titles(client.get(third.json()["previous"])) == titles(second)
    assert titles(client.get(client.get(third.json()["previous"]).json()["previous"])) == titles(first)
    assert (titles(last), last.json()["next"]) == (["Change 1", "Change 0"], None)


def test_nothing_of_another_tenant_is_listed_or_searched(estate: SmallEstate) -> None:  # BIZ-1
    kite, eve = stranger_estate()
    draft_change(estate, title="Secret plan of Northwind")
    draft_change(kite, title="Kite's own")

    answer = client_for(eve).get(f"{URL}?q=plan")

    assert answer.json() == {"next": None, "previous": None, "results": []}
    assert titles(client_for(eve).get(URL)) == ["Kite's own"]


@pytest.mark.parametrize("part", ["revisions/", "gates/", "timeline/", "approvals/"])
def test_parts_cost_the_same_however_many_rows(estate: SmallEstate, part: str) -> None:
    change = authorized_change(estate)
    client = client_for(estate.ada, warm=True)

    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get(url_of(change, part)).status_code == 200
        return len(seen)

    before = cost()
    for number in range(2):
        client.post(url_of(change, "revisions/"), {"reason": f"Reason {number}"})
    assert cost() == before


def test_a_planned_start_may_be_given_with_the_answers(estate: SmallEstate) -> None:
    start = days_ahead(2)
    change = draft_change(estate)

    answer = client_for(estate.ada).post(
        url_of(change, "draft/"), {"seen_version": change.draft_version, "content": {"planned_start_at": start}}
    )

    assert answer.json()["draft"]["planned_start_at"] == start
