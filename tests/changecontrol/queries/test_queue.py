"""The approval queue (APR-15)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from changecontrol.access import scope_of
from changecontrol.actions import approvals
from changecontrol.models import ChangeRequest, GateResult, User
from changecontrol.queries import queue
from changecontrol.queries.queue import Awaiting, changes_awaiting
from changecontrol.rules.roles import Role
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    advance_to,
    authorized_change,
    grant,
    requirement_named,
    small_estate,
    stranger_estate,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


def queue_of(person: User) -> tuple[Awaiting, ...]:
    one = actor(person)
    return changes_awaiting(one, scope_of(one), at=NOW)


def judge(change: ChangeRequest, verdict: str, *, minutes_ago: int, for_minutes: int) -> None:
    at = NOW - timedelta(minutes=minutes_ago)
    GateResult.objects.create(
        change=change,
        revision=change.revision,
        gate="schema",
        name="Schema",
        verdict=verdict,
        sentence="42 objects are valid.",
        judged="0" * 64,
        judged_what="manifests",
        tool="dry run",
        tool_version="1",
        at=at,
        expires_at=at + timedelta(minutes=for_minutes),
    )


def test_the_queue_tells_all_that_a_decision_needs(estate: SmallEstate) -> None:  # APR-15
    advance_to(estate, "closed")
    change = authorized_change(estate, planned_start_at=(NOW + timedelta(hours=2)).isoformat())
    judge(change, "fail", minutes_ago=50, for_minutes=5)
    judge(change, "pass", minutes_ago=30, for_minutes=60)

    (one,) = queue_of(estate.cy)

    assert one.change == change
    assert (one.change.store_count, one.change.sales_share) == (4, Decimal(10))
    assert [(gate.name, gate.verdict, gate.age) for gate in one.gates] == [("Schema", "pass", timedelta(minutes=30))]
    assert one.results == ("successful",)
    assert one.time_left == timedelta(hours=2)
    assert one.is_mine


def test_a_gate_past_its_time_is_stale_in_the_queue(estate: SmallEstate) -> None:
    judge(authorized_change(estate), "pass", minutes_ago=60, for_minutes=60)

    assert [gate.verdict for gate in queue_of(estate.cy)[0].gates] == ["stale"]


def test_the_reason_stands_in_place_of_the_button(estate: SmallEstate) -> None:  # APR-15
    change = authorized_change(estate)

    def reasons(person: User) -> dict[str, str]:
        return {place.requirement.role: place.why_not for place in queue_of(person)[0].places}

    assert reasons(estate.cy) == {
        "technical_reviewer": "",
        "change_manager": "“Change manager” is for the role change manager, which you do not hold here.",
    }
    assert reasons(estate.ben)["change_manager"] == "An earlier approval stage is not complete yet."
    approvals.cast_vote(
        actor=actor(estate.cy),
        requirement_id=requirement_named(change, "technical_reviewer").pk,
        verdict="approve",
        seen_digest=change.plan.digest,
        at=NOW,
    )
    assert reasons(estate.cy)["technical_reviewer"] == "This approval stage is complete already."
    assert reasons(estate.ben)["change_manager"] == ""


def test_what_i_may_decide_comes_first_and_least_time_left_before_that(estate: SmallEstate) -> None:
    late = authorized_change(estate, planned_start_at=(NOW + timedelta(hours=9)).isoformat())
    unhurried = authorized_change(estate)
    early = authorized_change(estate, planned_start_at=(NOW + timedelta(hours=1)).isoformat())

    assert [one.change for one in queue_of(estate.cy)] == [early, late, unhurried]


def test_whoever_may_never_vote_here_has_an_empty_queue(estate: SmallEstate) -> None:
    authorized_change(estate)
    _, eve = stranger_estate()

    assert queue_of(estate.dee) == ()
    assert queue_of(estate.ada) == ()
    assert queue_of(eve) == ()


def test_the_queue_takes_the_same_statements_at_one_row_and_at_three(estate: SmallEstate) -> None:
    counts = []
    for _ in range(2):
        judge(authorized_change(estate), "pass", minutes_ago=1, for_minutes=60)
        with CaptureQueriesContext(connection) as queries:
            found = queue_of(estate.cy)
        counts.append((len(found), len(queries)))
        authorized_change(estate)

    assert [rows for rows, _ in counts] == [1, 3]
    assert counts[0][1] == counts[1][1]


def test_the_limit_never_hides_what_waits_for_oneself(estate: SmallEstate, monkeypatch: pytest.MonkeyPatch) -> None:
    kite, _ = stranger_estate()
    authorized_change(kite)
    mine = authorized_change(estate)
    grant(estate.ben, Role.AUDITOR, kite.tenant)
    monkeypatch.setattr(queue, "QUEUE_LIMIT", 1)

    assert [one.change for one in queue_of(estate.ben)] == [mine]
