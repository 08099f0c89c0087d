"""One `Idempotency-Key`, one effect: repeated, mended, at the same time, and a day later."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from changecontrol import clock
from changecontrol.models import AuditEvent, ChangeRequest, IdempotencyKey
from changecontrol.workflow import delivery
from changecontrol.workflow.delivery import ANSWERS_KEPT_FOR, Delivery
from tests.changecontrol.api.conftest import client_for, secret_for, sentence
from tests.factories import SmallEstate, draft_change, small_estate, submitted_change

URL = "/api/v1/changes/"
WORDS = {"tenant": "northwind", "title": "Once"}


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_repeated_call_gets_the_first_answer_to_the_byte(estate: SmallEstate) -> None:
    client = client_for(estate.ada)

    first = client.post(URL, WORDS, headers=keyed("a"))
    again = client.post(URL, WORDS, headers=keyed("a"))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again["Content-Type"] == first["Content-Type"]
    assert ("Idempotent-Replay" in first, again["Idempotent-Replay"]) == (False, "true")
    assert ChangeRequest.objects.count() == 1


def test_another_body_or_address_under_the_same_key_is_a_conflict(estate: SmallEstate) -> None:
    client = client_for(estate.ada)
    change = draft_change(estate)
    client.post(URL, WORDS, headers=keyed("a"))

    body = client.post(URL, {**WORDS, "title": "Twice"}, headers=keyed("a"))
    address = client.post(f"{URL}{change.number}/submit/", WORDS, headers=keyed("a"))

    assert (body.status_code, address.status_code) == (409, 409)
    assert sentence(body) == "This Idempotency-Key was used for another request."
    assert ChangeRequest.objects.count() == 2


def test_keys_are_a_persons_own(estate: SmallEstate) -> None:
    change = submitted_change(estate)
    url = f"{URL}{change.number}/cancel/"

    first = client_for(estate.ben).post(url, {"reason": "No."}, headers=keyed("a"))
    other = client_for(estate.ada).post(url, {"reason": "No."}, headers=keyed("a"))

    assert (first.status_code, other.status_code) == (200, 409)
    assert "Idempotent-Replay" not in other


def test_a_refused_call_frees_its_key_and_its_refusal_stays_in_the_trail(estate: SmallEstate) -> None:  # AUD-1
    change = submitted_change(estate)
    client = client_for(estate.ada)

    refused = client.post(f"{URL}{change.number}/hold/", {"reason": "Wait."}, headers=keyed("a"))
    invalid = client.post(URL, {"tenant": "northwind"}, headers=keyed("a"))
    done = client.post(URL, WORDS, headers=keyed("a"))

    assert (refused.status_code, invalid.status_code, done.status_code) == (403, 422, 201)
    event = AuditEvent.objects.get(tag="refused")
    assert (event.actor, event.change) == (estate.ada, change)


def test_a_fault_leaves_neither_key_nor_effect(estate: SmallEstate, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_for(estate.ada)
    client.raise_request_exception = False

    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("The power is gone.")

    # Between the effect and the answer: the worst moment for it.
    monkeypatch.setattr("changecontrol.api.idempotency._keep", break_down)
    assert client.post(URL, WORDS, headers=keyed("a")).status_code == 500
    monkeypatch.undo()

    assert not IdempotencyKey.objects.exists()
    assert not ChangeRequest.objects.exists()


@pytest.mark.parametrize("key", ["x" * 201, "schlüssel", "tab\there"])
def test_a_key_that_cannot_be_kept_is_refused(estate: SmallEstate, key: str) -> None:
    answer = client_for(estate.ada).post(URL, WORDS, headers=keyed(key))

    assert answer.status_code == 422
    assert not ChangeRequest.objects.exists()


def test_a_key_of_yesterday_is_a_new_one(estate: SmallEstate) -> None:
    client = client_for(estate.ada)
    client.post(URL, WORDS, headers=keyed("a"))
    IdempotencyKey.objects.update(created_at=clock.now() - ANSWERS_KEPT_FOR)

    answer = client.post(URL, {**WORDS, "title": "Another day"}, headers=keyed("a"))

    assert answer.status_code == 201
    assert IdempotencyKey.objects.get().created_at > clock.now() - timedelta(minutes=1)


def test_a_sweep_lets_go_of_old_answers_and_only_of_some_at_a_time(
    estate: SmallEstate, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = clock.now()
    for age in (25, 27, 26, 23):
        IdempotencyKey.objects.create(user=estate.ada, key=str(age), created_at=at - timedelta(hours=age))
    monkeypatch.setattr(delivery, "ANSWERS_PER_SWEEP", 2)

    left = []
    for _ in range(3):
        Delivery().find(at)
        left.append(sorted(IdempotencyKey.objects.values_list("key", flat=True)))

    assert left == [["23", "25"], ["23"], ["23"]]


def test_a_sweep_finds_old_answers_by_their_index(db: None) -> None:
    with CaptureQueriesContext(connection) as seen:
        Delivery().find(clock.now())
    with connection.cursor() as cursor:
        # An empty table is read whole and put in order, unless that is made to look dear.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {seen.captured_queries[0]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Index Scan using answers_by_age" in plan


def test_duplicates_at_the_same_time_have_one_effect(fresh_db: object) -> None:  # APR-14
    secret = secret_for(small_estate().ada)
    barrier = threading.Barrier(2)
    answers = []

    def call() -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        client.get("/api/v1/me/")  # whatever is loaded on first use is loaded before the race
        barrier.wait(timeout=60)
        try:
            answers.append(client.post(URL, WORDS, headers=keyed("at once")))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=call) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=60)

    assert [one.status_code for one in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert sorted("Idempotent-Replay" in one for one in answers) == [False, True]
    assert ChangeRequest.objects.count() == 1
    assert AuditEvent.objects.filter(tag="change:created").count() == 1
