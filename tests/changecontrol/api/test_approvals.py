"""Votes over REST that ought not to count, and what each caller is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from changecontrol import clock
from changecontrol.models import ChangeRequest, Contributor, User, Vote
from changecontrol.rules.roles import Role
from tests.changecontrol.api.conftest import client_for, sentence
from tests.factories import (
    SmallEstate,
    add_person,
    authorized_change,
    grant,
    requirement_named,
    scheduled_change,
    small_estate,
)

REVIEW = "technical_reviewer"


def ballot(change: ChangeRequest, verdict: str = "approve", **words: Any) -> dict[str, Any]:
    requirement = requirement_named(change, REVIEW)
    return {"requirement": requirement.pk, "verdict": verdict, "seen_digest": change.plan.digest, **words}


def post(client: Any, url: str, words: dict[str, Any]) -> Any:
    kind = {"content_type": "application/json"} if isinstance(client, Client) else {}
    return client.post(url, words, **kind)


def session(person: User, *, proved_ago: timedelta | None) -> Client:
    client = Client()
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    if proved_ago is not None:
        kept = client.session
        kept["account_authentication_methods"] = [
            {"method": "password", "at": (clock.now() - proved_ago).timestamp(), "username": person.username}
        ]
        kept.save()
    return client


@pytest.fixture
def strict(db: None) -> ChangeRequest:
    estate = small_estate(tier=1)
    grant(add_person("second"), Role.CHANGE_MANAGER, estate.tenant)
    return authorized_change(estate, at=clock.now())


@pytest.mark.parametrize("minutes", [None, 6, 600])
def test_tier_1_takes_no_vote_of_a_session_whose_proof_is_old(strict: ChangeRequest, minutes: int | None) -> None:
    # APR-7
    cy = User.objects.get(username="cy")
    ago = None if minutes is None else timedelta(minutes=minutes)
    url = f"/api/v1/changes/{strict.number}/vote/"

    stale = post(session(cy, proved_ago=ago), url, ballot(strict))
    fresh = post(session(cy, proved_ago=timedelta(minutes=1)), url, ballot(strict))

    assert (stale.status_code, fresh.status_code) == (403, 201)
    assert "confirm your password" in sentence(stale)
    assert Vote.objects.get().authentication == "password"


def test_tier_1_takes_no_vote_of_a_client_for(strict: ChangeRequest) -> None:  # APR-7
    answer = post(client_for(User.objects.get(username="cy")), f"/api/v1/changes/{strict.number}/vote/", ballot(strict))

    assert answer.status_code == 403
    assert "confirm your password" in sentence(answer)
    assert not Vote.objects.exists()


def test_tier_2_takes_the_vote_of_a_token_and_says_so(estate: SmallEstate) -> None:  # APR-7
    change = authorized_change(estate)

    answer = post(client_for(estate.cy), f"/api/v1/changes/{change.number}/vote/", ballot(change))

    assert answer.status_code == 201
    assert answer.json()["authentication"].startswith("token cc_")
    assert answer.json()["authenticated_at"] is None


def test_nobody_is_let_in_by_power_by_hand_or_by_service(estate: SmallEstate) -> None:  # APR-1
    change = authorized_change(estate)
    root = add_person("root", is_superuser=True)
    robot = add_person("robot")
    for role in (Role.EXECUTOR, Role.TECHNICAL_REVIEWER):
        grant(robot, role, estate.tenant)
    author = add_person("author")
    grant(author, Role.TECHNICAL_REVIEWER, estate.tenant)
    Contributor.objects.create(change=change, email="AUTHOR@retailer.example", contribution="committed", at=clock.now())
    grant(estate.ada, Role.TECHNICAL_REVIEWER, estate.tenant)
    url = f"/api/v1/changes/{change.number}/vote/"

    found = {
        person.username: post(client_for(person), url, ballot(change)) for person in (root, robot, author, estate.ada)
    }

    assert {name: answer.status_code for name, answer in found.items()} == dict.fromkeys(found, 403)
    assert len({sentence(answer) for answer in found.values()}) == 4
    assert not Vote.objects.exists()


@pytest.mark.parametrize("comment", ["", " ", "\u200b", "\u3164"])
def test_a_rejection_without_words_is_named_by_field(estate: SmallEstate, comment: str) -> None:  # APR-5
    change = authorized_change(estate)
    url = f"/api/v1/changes/{change.number}/vote/"

    answer = post(client_for(estate.cy), url, ballot(change, "reject", comment=comment))

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["comment"]
    assert not Vote.objects.exists()


def test_a_vote_names_a_requirement_of_its_own_change_alone(estate: SmallEstate) -> None:
    one, other = authorized_change(estate), authorized_change(estate)

    answer = post(client_for(estate.cy), f"/api/v1/changes/{one.number}/vote/", ballot(other))

    assert answer.status_code == 404
    assert not Vote.objects.exists()


def test_a_vote_is_taken_back_with_words_and_sends_the_change_back(estate: SmallEstate) -> None:  # APR-5, APR-6
    change = scheduled_change(estate)
    url = f"/api/v1/changes/{change.number}/withdraw-vote/"
    requirement = requirement_named(change, REVIEW).pk
    client = client_for(estate.cy)

    blank = post(client, url, {"requirement": requirement, "comment": "\u200b"})
    said = post(client, url, {"requirement": requirement, "comment": "I misread it."})

    assert (blank.status_code, said.status_code) == (422, 201)
    assert ChangeRequest.objects.get(pk=change.pk).state == "authorize"
