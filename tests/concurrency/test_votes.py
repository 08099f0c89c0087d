"""Votes that arrive together, over connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from changecontrol.actions import approvals
from changecontrol.errors import Conflict, DomainError
from changecontrol.models import AuditEvent, ChangeRequest, User, Vote
from changecontrol.rules.roles import Role
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_person,
    authorized_change,
    grant,
    requirement_named,
    small_estate,
)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run each on a connection of its own, all at the same moment; return what each returned or refused."""
    barrier = threading.Barrier(len(work))
    results: list[Any] = [None] * len(work)

    def run(index: int, one: Callable[[], Any]) -> None:
        try:
            connections["default"].ensure_connection()
            barrier.wait(timeout=20)
            results[index] = one()
        except DomainError as refusal:
            results[index] = refusal
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index, one)) for index, one in enumerate(work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def approve(change: ChangeRequest, person: User, role: str) -> Callable[[], Vote]:
    requirement = requirement_named(change, role)
    digest = change.plan.digest
    return lambda: approvals.cast_vote(
        actor=actor(person), requirement_id=requirement.pk, verdict="approve", seen_digest=digest, at=NOW
    )


def with_second_manager(*, tier: int) -> tuple[SmallEstate, User]:
    estate = small_estate(tier=tier)
    second = add_person("second")
    grant(second, Role.CHANGE_MANAGER, estate.tenant)
    return estate, second


def tags(change: ChangeRequest, tag: str) -> int:
    return AuditEvent.objects.filter(change=change, tag=tag).count()


@pytest.mark.usefixtures("fresh_db")
def test_two_simultaneous_last_votes_cause_one_transition() -> None:  # APR-14
    estate, second = with_second_manager(tier=1)
    change = authorized_change(estate)
    approve(change, estate.cy, "technical_reviewer")()

    found = together(approve(change, estate.ben, "change_manager"), approve(change, second, "change_manager"))

    assert all(isinstance(one, Vote) for one in found)
    assert ChangeRequest.objects.get(pk=change.pk).state == "scheduled"
    assert (tags(change, "change:scheduled"), tags(change, "change:approval:cast")) == (1, 3)


@pytest.mark.usefixtures("fresh_db")
def test_of_two_votes_for_one_place_the_second_finds_the_round_ended() -> None:  # APR-14
    estate, second = with_second_manager(tier=2)
    change = authorized_change(estate)
    approve(change, estate.cy, "technical_reviewer")()

    found = together(approve(change, estate.ben, "change_manager"), approve(change, second, "change_manager"))

    assert sorted(type(one).__name__ for one in found) == ["Conflict", "Vote"]
    assert isinstance(next(one for one in found if not isinstance(one, Vote)), Conflict)
    assert (tags(change, "change:scheduled"), tags(change, "refused")) == (1, 1)


@pytest.mark.usefixtures("fresh_db")
def test_a_double_click_is_one_vote() -> None:  # APR-14
    estate, _ = with_second_manager(tier=2)
    change = authorized_change(estate)
    click = approve(change, estate.cy, "technical_reviewer")

    found = together(*[click] * 4)

    assert len({one.pk for one in found}) == 1
    assert Vote.objects.count() == 1
    assert tags(change, "change:approval:cast") == 1
