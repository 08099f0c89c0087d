"""Votes that arrive together, over connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction

from changecontrol.actions import approvals, changes
from changecontrol.errors import Conflict, DomainError, Forbidden
from changecontrol.models import AuditEvent, ChangeRequest, User, Vote
from changecontrol.project.local.processes import wait_until
from changecontrol.rules.roles import Role
from tests.factories import (
    CONTENT,
    NOW,
    SmallEstate,
    actor,
    add_person,
    assess,
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
            barrier.wait(timeout=60)
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


@pytest.mark.usefixtures("fresh_db")
@pytest.mark.parametrize("attempt", range(2))
def test_a_vote_beside_a_revision_never_counts_for_the_new_plan(attempt: int) -> None:  # APR-8, APR-14
    estate, _ = with_second_manager(tier=2)
    change = authorized_change(estate)
    approve(change, estate.cy, "technical_reviewer")()
    content = {**CONTENT, "reason": "Buyers wait."}

    found = together(
        approve(change, estate.ben, "change_manager"),
        lambda: changes.revise_change(actor=actor(estate.ada), change_id=change.pk, content=content, at=NOW),
    )

    again = assess(ChangeRequest.objects.get(pk=change.pk), images=["other"])
    assert isinstance(found[0], Vote | Conflict)
    assert (again.state, again.revision.number) == ("authorize", 2)
    assert not Vote.objects.filter(plan_digest=again.plan.digest).exists()


@pytest.mark.usefixtures("fresh_db")
def test_a_last_vote_beside_a_withdrawal_leaves_the_change_unapproved() -> None:  # APR-6, APR-14
    estate, _ = with_second_manager(tier=2)
    change = authorized_change(estate)
    approve(change, estate.cy, "technical_reviewer")()
    review = requirement_named(change, "technical_reviewer").pk

    found = together(
        approve(change, estate.ben, "change_manager"),
        lambda: approvals.withdraw_vote(actor=actor(estate.cy), requirement_id=review, comment="I misread it.", at=NOW),
    )

    # Where the withdrawal came first the manager's stage is not open yet; where it came second it took the change back.
    assert isinstance(found[0], Vote | Conflict)
    assert isinstance(found[1], Vote)
    assert ChangeRequest.objects.get(pk=change.pk).state == "authorize"
    assert tags(change, "change:scheduled") == tags(change, "change:unscheduled")


@pytest.mark.usefixtures("fresh_db")
def test_a_last_vote_beside_a_cancellation_brings_nothing_back() -> None:  # APR-14
    estate, _ = with_second_manager(tier=2)
    change = authorized_change(estate)
    approve(change, estate.cy, "technical_reviewer")()

    found = together(
        approve(change, estate.ben, "change_manager"),
        lambda: changes.cancel_change(actor=actor(estate.ada), change_id=change.pk, reason="Not needed.", at=NOW),
    )

    assert isinstance(found[0], Vote | Conflict)
    gone = ChangeRequest.objects.get(pk=change.pk)
    assert (gone.state, gone.close_code, tags(change, "change:canceled")) == ("canceled", "not_executed", 1)


@pytest.mark.usefixtures("fresh_db")
def test_whoever_is_deactivated_while_their_vote_waits_for_its_turn_says_nothing() -> None:  # APR-11
    estate, _ = with_second_manager(tier=2)
    change = authorized_change(estate)
    cast = approve(change, estate.cy, "technical_reviewer")
    is_locked = threading.Event()

    def deactivate() -> None:
        with transaction.atomic():
            ChangeRequest.objects.select_for_update(of=("self",)).get(pk=change.pk)
            is_locked.set()
            wait_until(someone_waits, seconds=60)
            User.objects.filter(pk=estate.cy.pk).update(is_active=False)

    def vote_then() -> Vote:
        assert is_locked.wait(timeout=60)
        return cast()

    _, refusal = together(deactivate, vote_then)

    assert isinstance(refusal, Forbidden)
    assert Vote.objects.count() == 0


def someone_waits() -> bool:
    """Tell whether a connection waits for another's lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])
