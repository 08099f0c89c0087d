"""A drill that finds something opens the change that mends it: once, as a draft of somebody who may file it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction

from changecontrol import access
from changecontrol.access import system_actor
from changecontrol.actions.changes import cancel_change
from changecontrol.errors import IllegalTransition
from changecontrol.lifecycles.change import ChangeState, CloseCode
from changecontrol.models import AuditEvent, ChangeRequest, Message, User
from changecontrol.queries.changes import drafts_of
from changecontrol.rules.roles import Role
from recovery.actions.corrective_changes import ask_to_close
from recovery.actions.drills import finish_drill, move_drill, plan_drill, record_check, start_drill
from recovery.models import BackupPolicy, CorrectiveAction, Drill
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate
from tests.factories.recovery import HOUR, backup_policy, finished_drill, recorded_point, recovery_owner

pytestmark = pytest.mark.django_db

TAKEN = NOW - 2 * HOUR


@pytest.fixture
def estate() -> SmallEstate:
    found = small_estate()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    """Rio looks after recovery, and files changes as engineers do."""
    person = recovery_owner(estate)
    grant(person, Role.ENGINEER, estate.tenant)
    recorded_point(estate.production, "p1", TAKEN, by=person)
    return person


def failed(estate: SmallEstate, rio: User, **words: Any) -> CorrectiveAction:
    finished_drill(estate.production, by=rio, target_at=TAKEN, **{"is_passed": False, **words})
    return CorrectiveAction.objects.get()


def test_a_drill_that_fails_opens_a_draft_of_who_asked_for_it(estate: SmallEstate, rio: User) -> None:  # BCK-7
    with events() as tags:
        todo = failed(estate, rio)

    change = ChangeRequest.objects.get()
    assert tags[-3:] == ["change:created", "change:draft:saved", "recovery:drill:action_linked"]
    assert (todo.change, todo.owner, todo.problem) == (change, rio, "")
    assert (change.state, change.kind, change.requester, change.tenant) == ("draft", "deploy", rio, estate.tenant)
    assert list(change.environments.all()) == [estate.production]
    assert change.title == f"Mend what drill {todo.drill_id} found in Northwind production"
    assert change.draft["reason"] == (
        "A drill of level 2 failed on p1. These checks failed: sentinel.\nsentinel: The newest sentinel."
    )
    [link] = change.draft["links"]
    assert link["label"] == f"Report of drill {todo.drill_id}"
    assert link["url"].endswith(f"/recovery/drills/{todo.drill_id}/")
    assert list(drafts_of(access.scope_of(actor(rio)), person_id=rio.pk)) == [change]
    told = Message.objects.get(change=change)
    assert (told.recipient, told.path) == (rio, change.get_absolute_url())


def test_the_trail_says_that_a_worker_filed_it_in_their_name(estate: SmallEstate, rio: User) -> None:
    failed(estate, rio)

    found = AuditEvent.objects.get(tag="change:created")
    assert (found.actor, json.loads(found.body)["via"]) == (rio, "worker")


def test_one_that_fails_has_one_change_however_often_it_is_ended(estate: SmallEstate, rio: User) -> None:
    todo = failed(estate, rio)

    with pytest.raises(IllegalTransition), transaction.atomic():
        finish_drill(todo.drill, actor=system_actor(), at=NOW + HOUR)

    assert (ChangeRequest.objects.count(), CorrectiveAction.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("words", "is_opened"),
    [
        ({}, True),
        ({"is_passed": True}, False),
        ({"is_passed": True, "leftovers": "the database drill_7"}, True),
        ({"is_passed": True, "trouble": "No disk."}, False),
        ({"trouble": "No disk."}, True),
        ({"sabotage": "flip"}, False),
        ({"sabotage": "flip", "is_passed": True}, True),
    ],
    ids=["found", "passed", "leftovers", "trouble", "found-then-trouble", "caught", "missed"],
)
def test_what_proves_nothing_and_what_was_caught_open_none(
    estate: SmallEstate, rio: User, words: dict[str, Any], is_opened: bool
) -> None:  # BCK-9
    finished_drill(estate.production, by=rio, target_at=TAKEN, **{"is_passed": False, **words})

    assert ChangeRequest.objects.exists() is is_opened


def scheduled(estate: SmallEstate) -> CorrectiveAction:
    """Carry out a drill that nobody asked for, and let it fail."""
    policy, worker = BackupPolicy.objects.active().get(), system_actor()
    drill = plan_drill(policy=policy, level=1, target_at=TAKEN, actor=worker, at=NOW)
    assert drill is not None
    move_drill(drill, "check", sentence="It asks.", actor=worker, at=NOW)
    record_check(drill, name="objects", level=1, is_passed=False, sentence="One is gone.", actor=worker, at=NOW)
    move_drill(drill, "tear_down", sentence="It cleans up.", actor=worker, at=NOW)
    finish_drill(drill, actor=worker, at=NOW)
    return CorrectiveAction.objects.get()


def test_one_by_schedule_is_of_who_wrote_the_policy_while_they_may_file(estate: SmallEstate, rio: User) -> None:
    BackupPolicy.objects.update(created_by=estate.ada)

    todo = scheduled(estate)

    assert todo.change is not None
    assert (todo.change.requester, todo.owner) == (estate.ada, rio)


@pytest.mark.parametrize("who", ["stranger", "commander", "gone"])
def test_one_by_schedule_is_else_of_who_looks_after_recovery(estate: SmallEstate, rio: User, who: str) -> None:
    """Whoever wrote the policy may have left, or may begin a change and not write it."""
    writer = add_person("wren")
    if who == "stranger":
        writer = stranger_estate()[1]
    elif who == "commander":
        grant(writer, Role.INCIDENT_COMMANDER, estate.tenant)
    else:
        grant(writer, Role.ENGINEER, estate.tenant)
        User.objects.filter(pk=writer.pk).update(is_active=False)
    BackupPolicy.objects.update(created_by=writer)

    todo = scheduled(estate)

    assert todo.change is not None
    assert todo.change.requester == rio


def test_where_nobody_may_file_the_action_says_so_and_stays_open(estate: SmallEstate) -> None:
    rae = recovery_owner(estate, "rae")
    recorded_point(estate.production, "p1", TAKEN, by=rae)

    todo = failed(estate, rae)

    assert (todo.change, todo.owner, todo.is_open) == (None, rae, True)
    assert todo.problem.startswith("No change was opened: nobody who answers for this drill may file one")
    assert not ChangeRequest.objects.exists()


def end(todo: CorrectiveAction, close_code: CloseCode) -> None:
    assert todo.change is not None
    ChangeRequest.objects.filter(pk=todo.change.pk).update(
        state=ChangeState.CLOSED, close_code=close_code, closed_at=NOW + HOUR
    )


@pytest.mark.parametrize("close_code", list(CloseCode))
def test_a_change_closed_as_successful_asks_once_to_close_the_action(
    estate: SmallEstate, rio: User, close_code: CloseCode
) -> None:
    todo = failed(estate, rio)
    end(todo, close_code)

    for _ in range(2):
        ask_to_close(at=NOW + 2 * HOUR)

    todo.refresh_from_db()
    is_mended = close_code in {"successful", "successful_with_issues"}
    asked = Message.objects.filter(path=f"/recovery/drills/{todo.drill_id}/").values_list("recipient", flat=True)
    assert (todo.is_open, todo.is_mended, list(asked)) == (True, is_mended, [rio.pk] if is_mended else [])


def test_a_change_that_was_canceled_closes_no_action(estate: SmallEstate, rio: User) -> None:
    todo = failed(estate, rio)
    assert todo.change is not None

    cancel_change(actor=actor(rio), change_id=todo.change.pk, at=NOW + HOUR)
    ask_to_close(at=NOW + 2 * HOUR)

    todo.refresh_from_db()
    assert (todo.is_open, todo.is_mended, todo.asked_at) == (True, False, None)


def test_a_drill_that_is_rolled_back_leaves_no_change(estate: SmallEstate, rio: User) -> None:
    drill = start_drill(actor=actor(rio), environment_id=estate.production.pk, level=1, target_at=TAKEN, at=NOW)
    worker = system_actor()
    move_drill(drill, "check", sentence="It asks.", actor=worker, at=NOW)
    record_check(drill, name="objects", level=1, is_passed=False, sentence="One is gone.", actor=worker, at=NOW)
    move_drill(drill, "tear_down", sentence="It cleans up.", actor=worker, at=NOW)

    with pytest.raises(RuntimeError), events() as tags, transaction.atomic():
        finish_drill(drill, actor=worker, at=NOW)
        raise RuntimeError

    assert (tags, ChangeRequest.objects.count(), Drill.objects.get().state) == ([], 0, "tearing_down")
