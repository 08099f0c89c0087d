"""Asking for a restore: inside what is covered, beside what runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from changecontrol.access import system_actor
from changecontrol.actions.jobs import ensure_job
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import Message, User
from changecontrol.rules.roles import Role
from recovery.actions.points import record_verification
from recovery.actions.restores import ask_incident_restore, ask_restore, cancel_restore, move_restore
from recovery.models import Restore
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, add_person, grant, small_estate, stranger_estate
from tests.factories.recovery import HOUR, backup_policy, recorded_point, recovery_owner, ship_wal

pytestmark = pytest.mark.django_db

TAKEN = NOW - 8 * HOUR
SHIPPED = NOW - HOUR


@pytest.fixture
def estate() -> SmallEstate:
    """Production is covered from 02:12 to 09:12 UTC."""
    found = small_estate()
    found.production.database = "northwind"
    found.production.save()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    person = recovery_owner(estate)
    recorded_point(estate.production, "p1", TAKEN, by=person)
    ship_wal(estate.production, TAKEN - HOUR, SHIPPED)
    return person


def ask(estate: SmallEstate, by: User, **words: Any) -> Restore:
    return ask_restore(
        **{
            "actor": actor(by), "environment_id": estate.production.pk, "target_at": NOW - 3 * HOUR,
            "target_database": "a_look", "reason": "What was sold?", "at": NOW, **words,
        }
    )  # fmt: skip


def test_a_restore_is_asked_for_from_the_point_that_reaches_there(estate: SmallEstate, rio: User) -> None:
    with events() as tags:
        restore = ask(estate, rio)

    assert tags == ["recovery:restore:asked"]
    assert (restore.point.key, restore.purpose, restore.is_neutralised, restore.state) == ("p1", "copy", True, "queued")
    assert (restore.declared_at, restore.decided_at, restore.next_due_at, restore.size) == (NOW, NOW, NOW, 1000)
    assert restore.expected_seconds is None


@pytest.mark.parametrize(
    ("target_at", "sentence"),
    [
        (
            NOW,
            "23 Nov 2026 10:12:00 UTC is after the last time that can be restored. "
            "The last safe time before it is 23 Nov 2026 09:12:00 UTC.",
        ),
        (
            TAKEN - HOUR,
            "23 Nov 2026 01:12:00 UTC is before the first time that can be restored, 23 Nov 2026 02:12:00 UTC.",
        ),
        (datetime(2026, 11, 23, 4), "Give the time with its zone."),  # noqa: DTZ001 - that is the point
    ],
)
def test_a_time_that_is_not_covered_is_refused_and_nothing_changes(
    estate: SmallEstate, rio: User, target_at: datetime, sentence: str
) -> None:  # BCK-3
    with events() as tags, pytest.raises(Conflict) as refused:
        ask(estate, rio, target_at=target_at)

    assert refused.value.sentence == sentence
    assert tags == ["refused"]
    assert not Restore.objects.exists()


def test_nothing_is_restored_from_a_broken_point(estate: SmallEstate, rio: User) -> None:
    broken = recorded_point(estate.production, "p2", NOW - 2 * HOUR, by=rio)
    assert ask(estate, rio, target_at=SHIPPED).point == broken

    record_verification(broken, level=1, is_passed=False, sentence="A hash differs.", actor=system_actor(), at=NOW)

    assert ask(estate, rio, target_at=SHIPPED, target_database="another").point.key == "p1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("northwind", "is a database in use"),
        ("postgres", "belongs to the server"),
        ("template1", "belongs to the server"),
        ("Northwind", "Name the new database"),
        ("a-look", "Name the new database"),
        ("", "Name the new database"),
        ("x" * 64, "Name the new database"),
    ],
)
def test_a_restore_never_goes_over_what_is_there(estate: SmallEstate, rio: User, name: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        ask(estate, rio, target_database=name)

    assert list(refused.value.fields) == ["target_database"]


def test_one_restore_to_a_name_at_a_time(estate: SmallEstate, rio: User) -> None:
    ask(estate, rio)

    with pytest.raises(Conflict, match="under way already"):
        ask(estate, rio)


def test_what_earlier_restores_took_is_expected_of_the_next(estate: SmallEstate, rio: User) -> None:  # BCK-6
    first = ask(estate, rio)
    for minutes, verb in ((1, "provision"), (2, "restore"), (12, "validate"), (15, "succeed")):
        move_restore(first, verb, sentence="On.", actor=system_actor(), at=NOW + timedelta(minutes=minutes))

    second = ask(estate, rio)

    assert (first.provisioned_at, first.restored_at, first.validated_at) == tuple(
        NOW + timedelta(minutes=minutes) for minutes in (2, 12, 15)
    )
    assert (first.state, first.finished_at, first.next_due_at) == ("succeeded", NOW + timedelta(minutes=15), None)
    assert (second.expected_seconds, second.expected_error_seconds) == (600, None)


def test_a_failed_restore_is_told(estate: SmallEstate, rio: User) -> None:
    restore = ask(estate, rio)

    with events() as tags:
        move_restore(restore, "fail", sentence="A segment is missing.", actor=system_actor(), at=NOW)

    assert tags == ["recovery:restore:moved"]
    assert Message.objects.get().text == "A segment is missing."


def incident(estate: SmallEstate, by: User, **words: Any) -> Restore:
    return ask_incident_restore(
        **{
            "actor": actor(by), "environment_id": estate.production.pk, "target_at": SHIPPED,
            "target_database": "northwind_2", "reason": "The disk died.", "declared_at": NOW - HOUR, "at": NOW, **words,
        }
    )  # fmt: skip


def test_an_incident_restore_is_a_safety_action_whose_clock_began_when_it_was_declared(
    estate: SmallEstate, rio: User
) -> None:  # BCK-6, WIN-8
    commander = add_person("cora")
    grant(commander, Role.INCIDENT_COMMANDER, estate.tenant)

    with events() as tags:
        restore = incident(estate, commander)

    assert tags == ["recovery:restore:asked", "run:safety_action"]
    assert (restore.purpose, restore.is_neutralised, restore.declared_at) == ("incident", False, NOW - HOUR)
    assert Message.objects.get().recipient == rio


@pytest.mark.parametrize(
    "words", [{"reason": " "}, {"declared_at": NOW + HOUR}, {"declared_at": datetime.min.replace(tzinfo=UTC)}]
)
def test_an_incident_restore_has_a_reason_and_was_declared(
    estate: SmallEstate, rio: User, words: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        incident(estate, rio, **words)


@pytest.mark.parametrize("action", [ask, incident])
def test_who_may_not_is_refused_and_it_is_recorded_and_a_stranger_finds_nothing(
    estate: SmallEstate, rio: User, action: Any
) -> None:
    _, eve = stranger_estate()

    with events() as of_cy, pytest.raises(Forbidden):
        action(estate, estate.cy)
    with events() as of_eve, pytest.raises(NotFound):
        action(estate, eve)

    assert (of_cy, of_eve) == (["refused"], [])


def cancel(restore: Restore, by: User, **words: Any) -> Restore:
    return cancel_restore(
        **{"actor": actor(by), "restore_id": restore.pk, "reason": "The wrong time.", "at": NOW + HOUR, **words}
    )


def test_a_restore_is_canceled_and_its_job_is_asked_to_stop(estate: SmallEstate, rio: User) -> None:
    restore = ask(estate, rio)
    move_restore(restore, "provision", sentence="It begins.", actor=system_actor(), at=NOW)
    job = ensure_job(key=f"restore/{restore.pk}", kind="restore", order={}, at=NOW)

    with events() as tags:
        canceled = cancel(restore, rio)

    job.refresh_from_db()
    assert tags == ["recovery:restore:moved"]
    assert (canceled.state, canceled.sentence) == ("canceled", "Rio canceled it: The wrong time.")
    assert (canceled.finished_at, canceled.next_due_at) == (NOW + HOUR, None)
    assert job.stop_asked_at == NOW + HOUR


def test_a_restore_that_has_not_begun_is_canceled_too(estate: SmallEstate, rio: User) -> None:
    assert cancel(ask(estate, rio), rio).state == "canceled"


def test_what_has_ended_is_not_canceled_and_the_reason_is_due(estate: SmallEstate, rio: User) -> None:
    restore = ask(estate, rio)
    with events() as of_silence, pytest.raises(Invalid):
        cancel(restore, rio, reason=" ")
    cancel(restore, rio)

    with events() as tags, pytest.raises(IllegalTransition):
        cancel(restore, rio)

    assert (of_silence, tags) == ([], ["refused"])


def test_who_may_ask_for_such_a_restore_may_cancel_it(estate: SmallEstate, rio: User) -> None:
    commander = add_person("cora")
    grant(commander, Role.INCIDENT_COMMANDER, estate.tenant)
    copy, urgent = ask(estate, rio), incident(estate, rio)

    with pytest.raises(Forbidden):
        cancel(copy, commander)

    assert cancel(urgent, commander).state == "canceled"


def test_a_stranger_cancels_nothing_and_learns_nothing(estate: SmallEstate, rio: User) -> None:
    _, eve = stranger_estate()
    restore = ask(estate, rio)

    with events() as of_cy, pytest.raises(Forbidden):
        cancel(restore, estate.cy)
    sentences = []
    with events() as of_eve:
        for key in (restore.pk, 999):
            with pytest.raises(NotFound) as hidden:
                cancel(restore, eve, restore_id=key)
            sentences.append(hidden.value.sentence)

    assert (of_cy, of_eve) == (["refused"], [])
    assert sentences == ["There is no such restore."] * 2
