"""Filing a change and voting on one, by REST, each against a bare INSERT of as much in a transaction of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
from django.db import connection, transaction
from django.test import Client

from changecontrol import clock
from changecontrol.models import ChangeRequest
from tests.bench.harness import Figure, in_turns
from tests.bench.population import HOST, Crowd, token_of
from tests.factories import CONTENT, authorized_change, requirement_named
from tests.plugin import TestDatabase

ROUNDS = 5
CREATED = 20
VOTES = 10

_BARE = """
CREATE TABLE bare_change (id bigserial PRIMARY KEY, tenant_id bigint, requester_id bigint, title text, state text,
                          draft jsonb, created_at timestamptz);
CREATE TABLE bare_vote (id bigserial PRIMARY KEY, requirement_id bigint, voter_id bigint, verdict text,
                        plan_digest text, comment text, at timestamptz);
GRANT ALL ON bare_change, bare_vote, bare_change_id_seq, bare_vote_id_seq TO PUBLIC
"""


def measure_create(database: TestDatabase) -> Iterator[Figure]:
    crowd = Crowd.of(database)
    _tables(database)
    client = Client(SERVER_NAME=HOST, headers={"Authorization": f"Bearer {crowd.token}"})
    body = {"tenant": crowd.estate.tenant.slug, "title": CONTENT["title"]}
    row: list[Any] = [
        crowd.estate.tenant.pk,
        crowd.estate.ada.pk,
        CONTENT["title"],
        "draft",
        json.dumps(CONTENT),
        clock.now(),
    ]

    def create() -> None:
        for _ in range(CREATED):
            answer = client.post("/api/v1/changes/", body, content_type="application/json")
            assert answer.status_code == 201, answer.content

    def insert() -> None:
        for _ in range(CREATED):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO bare_change (tenant_id, requester_id, title, state, draft, created_at)"
                    " VALUES (%s, %s, %s, %s, %s, %s)",
                    row,
                )

    ours, floor = in_turns(create, insert, rounds=ROUNDS)
    yield Figure("create_rest", CREATED / ours, "changes/s", CREATED / floor)


def measure_vote(database: TestDatabase) -> Iterator[Figure]:
    crowd = Crowd.of(database)
    _tables(database)
    estate = crowd.estate
    client = Client(SERVER_NAME=HOST, headers={"Authorization": f"Bearer {token_of(estate.cy)}"})
    asked: list[ChangeRequest] = [authorized_change(estate, at=clock.now()) for _ in range(VOTES * (ROUNDS + 1))]
    waiting = iter([(one, requirement_named(one, "technical_reviewer")) for one in asked])

    def vote() -> None:
        for _ in range(VOTES):
            change, requirement = next(waiting)
            words = {"requirement": requirement.pk, "verdict": "approve", "seen_digest": change.plan.digest}
            answer = client.post(f"/api/v1/changes/{change.number}/vote/", words, content_type="application/json")
            assert answer.status_code == 201, answer.content

    row: list[Any] = [
        requirement_named(asked[0], "technical_reviewer").pk,
        estate.cy.pk,
        "approve",
        "0" * 64,
        "",
        clock.now(),
    ]

    def insert() -> None:
        for _ in range(VOTES):
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO bare_vote (requirement_id, voter_id, verdict, plan_digest, comment, at)"
                    " VALUES (%s, %s, %s, %s, %s, %s)",
                    row,
                )

    ours, floor = in_turns(vote, insert, rounds=ROUNDS)
    yield Figure("vote_rest", VOTES / ours, "votes/s", VOTES / floor)


def _tables(database: TestDatabase) -> None:
    with psycopg.connect(database.owner_url) as owner:
        if owner.execute("SELECT to_regclass('bare_change')").fetchone() == (None,):
            owner.execute(_BARE)
