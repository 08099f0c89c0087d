"""Tokens and sessions: who is let in, how far, and what is remembered of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import Client
from rest_framework.test import APIClient

from changecontrol import access, clock
from changecontrol.actions.tokens import revoke_token
from changecontrol.models import ApiToken, AuditEvent, ChangeRequest
from changecontrol.rules.roles import Ability
from tests.changecontrol.api.conftest import client_for, days_ahead, secret_for, sentence
from tests.factories import SmallEstate, actor, add_person, authorized_change, draft_change, requirement_named

ME = "/api/v1/me/"


def by_token(secret: str, scheme: str = "Bearer") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {secret}")
    return client


def test_a_token_is_kept_only_as_its_hash(estate: SmallEstate) -> None:
    secret = secret_for(estate.ada)

    row = ApiToken.objects.values().get()

    assert secret not in str(row)
    assert not AuditEvent.objects.filter(body__contains=secret).exists()
    assert by_token(secret).get(ME).json()["username"] == "ada"


@pytest.mark.parametrize("secret", ["", "cc_unknown", "é" * 40, "x" * 5000])
def test_an_unknown_token_is_asked_to_sign_in(estate: SmallEstate, secret: str) -> None:
    answer = by_token(secret).get(ME)

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="changecontrol"'
    assert sentence(answer) == "This token is unknown, expired or revoked."


def test_another_scheme_is_nobody(estate: SmallEstate) -> None:
    assert by_token(secret_for(estate.ada), scheme="Basic").get(ME).status_code == 401


def test_the_scheme_is_read_in_any_case(estate: SmallEstate) -> None:
    assert by_token(secret_for(estate.ada), scheme="bearer").get(ME).status_code == 200


def test_an_expired_a_revoked_and_a_leavers_token_read_alike(estate: SmallEstate) -> None:
    at = clock.now()
    expired, revoked, leavers = (by_token(secret_for(one)) for one in (estate.ada, estate.ben, estate.cy))
    assert [one.get(ME).status_code for one in (expired, revoked, leavers)] == [200, 200, 200]
    estate.ada.api_tokens.update(expires_at=at)
    revoke_token(actor=actor(estate.ben), token_id=estate.ben.api_tokens.get().pk, at=at)
    estate.cy.is_active = False
    estate.cy.save()

    answers = [one.get(ME) for one in (expired, revoked, leavers)]

    assert [one.status_code for one in answers] == [401, 401, 401]
    assert len({one.content for one in answers}) == 1


def test_a_token_remembers_its_last_use_by_the_minute(estate: SmallEstate) -> None:
    client = client_for(estate.ada)
    client.get(ME)
    token = ApiToken.objects.get()
    first = token.last_used_at
    assert first is not None

    client.get(ME)
    token.refresh_from_db()
    assert token.last_used_at == first

    ApiToken.objects.update(last_used_at=first - timedelta(seconds=61))
    client.get(ME)
    token.refresh_from_db()
    assert token.last_used_at >= first


def test_a_scoped_token_reads_and_does_no_more_than_it_is_scoped_for(estate: SmallEstate) -> None:
    change = draft_change(estate)
    url = f"/api/v1/changes/{change.number}/"
    reader, writer = client_for(estate.ada, scopes=["change.view"]), client_for(estate.ada, scopes=["change.submit"])

    assert reader.get(url).status_code == 200
    assert sentence(reader.post(f"{url}submit/")) == "This token is not scoped for “change.submit”."
    assert reader.get("/api/v1/environments/").status_code == 403
    assert sentence(writer.get(url)) == "This token is not scoped for “change.view”."
    assert writer.get("/api/v1/changes/").status_code == 403
    assert writer.post(f"{url}submit/").status_code == 200


def test_a_scope_gives_nothing_that_the_person_has_not(estate: SmallEstate) -> None:
    change = authorized_change(estate)
    client = client_for(estate.dee, scopes=["change.view", "change.vote"])

    answer = client.post(
        f"/api/v1/changes/{change.number}/vote/",
        {
            "requirement": requirement_named(change, "technical_reviewer").pk,
            "verdict": "approve",
            "seen_digest": change.plan.digest,
        },
    )

    assert answer.status_code == 403


def test_the_scope_of_an_administrators_token_holds_for_the_trail_too(estate: SmallEstate) -> None:
    root = add_person("root", is_superuser=True)

    assert client_for(root).get("/api/v1/audit/events/").status_code == 200
    assert client_for(root, scopes=["change.view"]).get("/api/v1/audit/events/").status_code == 403


def test_a_token_makes_no_token(estate: SmallEstate) -> None:
    answer = client_for(estate.ada).post("/api/v1/tokens/", {"name": "more", "expires_at": days_ahead(3)})

    assert answer.status_code == 403
    assert ApiToken.objects.count() == 1


def signed_in(estate: SmallEstate, *, checks: bool) -> Client:
    client = Client(enforce_csrf_checks=checks)
    client.force_login(estate.ada, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_a_session_writes_only_with_its_csrf_token(estate: SmallEstate) -> None:
    client = signed_in(estate, checks=True)
    words = {"tenant": "northwind", "title": "From a page"}

    refused = client.post("/api/v1/changes/", words, content_type="application/json")
    client.cookies["csrftoken"] = "a" * 32
    done = client.post("/api/v1/changes/", words, content_type="application/json", headers={"X-CSRFToken": "a" * 32})

    assert (refused.status_code, done.status_code) == (403, 201)
    assert "CSRF" in sentence(refused)
    assert ChangeRequest.objects.count() == 1


def test_a_session_makes_a_token_whose_secret_is_told_once(estate: SmallEstate) -> None:
    client = signed_in(estate, checks=False)
    words = {"name": "pipeline", "scopes": ["change.view"], "expires_at": days_ahead(3)}
    headers = {"Idempotency-Key": "make it once"}

    made = client.post("/api/v1/tokens/", words, content_type="application/json", headers=headers)
    again = client.post("/api/v1/tokens/", words, content_type="application/json", headers=headers)
    revoked = client.post(f"/api/v1/tokens/{made.json()['id']}/revoke/", content_type="application/json")

    secret = made.json()["secret"]
    assert made.status_code == again.status_code == 201
    # Kept answers hold no secret.
    assert again.json() == {**made.json(), "secret": None}
    assert secret not in client.get("/api/v1/tokens/").content.decode()
    assert revoked.json()["revoked_at"] is not None
    assert by_token(secret).get(ME).status_code == 401
    assert ApiToken.objects.count() == 1


def test_a_token_of_somebody_else_cannot_be_ended(estate: SmallEstate) -> None:
    secret_for(estate.ben)

    answer = client_for(estate.ada).post(f"/api/v1/tokens/{estate.ben.api_tokens.get().pk}/revoke/")

    assert answer.status_code == 404
    assert estate.ben.api_tokens.get().revoked_at is None


def test_a_reading_that_is_refused_is_recorded_once(estate: SmallEstate) -> None:  # AUD-1
    client_for(estate.ada, scopes=["change.submit"]).get("/api/v1/changes/")
    client_for(estate.cy).get("/api/v1/audit/events/")

    rows = AuditEvent.objects.filter(tag="refused").order_by("id")
    assert [(row.actor, json.loads(row.body)["data"]) for row in rows] == [
        (
            estate.ada,
            {
                "action": "api-change-list",
                "refusal": "Forbidden",
                "sentence": "This token is not scoped for “change.view”.",
            },
        ),
        (
            estate.cy,
            {
                "action": "api-event-list",
                "refusal": "Forbidden",
                "sentence": access.why_not(access.scope_of(actor(estate.cy)), Ability.AUDIT_VIEW),
            },
        ),
    ]
