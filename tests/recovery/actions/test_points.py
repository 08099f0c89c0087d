"""Backups, the points they make, what is proved of them, what is held and what goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from changecontrol.access import system_actor
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import AuditEvent, Message, User
from changecontrol.rules.roles import Role
from recovery.actions.backups import ask_backup, move_backup, plan_safety_backup
from recovery.actions.holds import lift_hold, place_hold
from recovery.actions.points import (
    begin_removal,
    record_copy,
    record_point,
    record_verification,
    register_point,
    remove_point,
)
from recovery.actions.restores import ask_restore, move_restore
from recovery.actions.retention import ask_retention
from recovery.actions.wal import NewSegment, record_segment
from recovery.models import BackupRun, LegalHold, RecoveryPoint, WalSegment
from recovery.queries.points import coverage_of, retention_of
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, grant, small_estate, stranger_estate
from tests.factories.recovery import DUMPS, backup_policy, new_point, recorded_point, recovery_owner, seen_removal

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def estate() -> SmallEstate:
    found = small_estate()
    backup_policy(found.production, keep_last=1)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    return recovery_owner(estate)


def ask(estate: SmallEstate, by: User, **words: Any) -> BackupRun:
    return ask_backup(
        **{"actor": actor(by), "environment_id": estate.production.pk, "reason": "Before the sale.", "at": NOW, **words}
    )


def check(point: RecoveryPoint, level: int, is_passed: bool) -> None:
    record_verification(
        point, level=level, is_passed=is_passed, sentence="The newest order.", actor=system_actor(), at=NOW
    )


def test_a_backup_is_asked_for_and_due_at_once(estate: SmallEstate, rio: User) -> None:
    with events() as tags:
        run = ask(estate, rio)

    assert tags == ["recovery:backup:asked"]
    assert (run.state, run.kind, run.asked_by, run.next_due_at) == ("queued", "base", rio, NOW)


def test_a_dump_is_asked_for_where_the_policy_dumps(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.staging, **DUMPS)

    run = ask(estate, rio, environment_id=estate.staging.pk)

    assert run.kind == "dump"
    assert '"kind":"dump"' in AuditEvent.objects.get(tag="recovery:backup:asked").body


def test_a_change_s_safety_backup_is_a_dump_where_the_policy_dumps(estate: SmallEstate) -> None:
    backup_policy(estate.staging, **DUMPS)

    with transaction.atomic():
        run = plan_safety_backup(estate.staging, reason="Before CHG-000001.", actor=system_actor(), at=NOW)

    assert run is not None
    assert run.kind == "dump"


def test_one_backup_at_a_time_and_with_a_reason(estate: SmallEstate, rio: User) -> None:
    with pytest.raises(Invalid):
        ask(estate, rio, reason=" ")
    ask(estate, rio)

    with events() as tags, pytest.raises(Conflict, match="under way already"):
        ask(estate, rio)

    assert tags == ["refused"]


def test_without_a_policy_there_is_no_backup(estate: SmallEstate, rio: User) -> None:
    with pytest.raises(NotFound, match="no backup policy yet"):
        ask(estate, rio, environment_id=estate.staging.pk)


def test_a_forced_rollback_leaves_neither_row_nor_event(estate: SmallEstate, rio: User) -> None:
    with events() as tags, pytest.raises(RuntimeError), transaction.atomic():
        ask(estate, rio)
        raise RuntimeError

    assert tags == []
    assert not BackupRun.objects.exists()


def test_a_point_is_recorded_with_all_its_parts_and_ends_its_backup(estate: SmallEstate, rio: User) -> None:  # BCK-2
    run = ask(estate, rio)
    move_backup(run, "start", sentence="It runs.", actor=system_actor(), at=NOW)

    with events() as tags:
        point = record_point(run, point=new_point("p1", NOW + DAY), actor=system_actor(), at=NOW + DAY)

    assert tags == ["recovery:point:recorded", "recovery:backup:moved"]
    assert (point.state, point.level, point.size, point.git_commit) == ("copied", 0, 1000, "c" * 40)
    assert [one.kind for one in point.parts.all()] == ["database", "filestore_manifest"]
    assert [one.store for one in point.copies.all()] == ["s3://points/northwind"]
    run.refresh_from_db()
    assert (run.state, run.finished_at, run.next_due_at) == ("succeeded", NOW + DAY, None)


def test_a_backup_that_did_not_run_makes_no_point(estate: SmallEstate, rio: User) -> None:
    run = ask(estate, rio)

    with pytest.raises(IllegalTransition), transaction.atomic():
        record_point(run, point=new_point("p1", NOW), actor=system_actor(), at=NOW)

    assert not RecoveryPoint.objects.exists()


def test_a_failed_backup_is_told_to_who_looks_after_recovery(estate: SmallEstate, rio: User) -> None:  # BCK-1
    run = ask(estate, rio)

    with events() as tags:
        move_backup(run, "fail", sentence="The store is full.", actor=system_actor(), at=NOW)

    assert tags == ["recovery:backup:moved"]
    assert list(Message.objects.values_list("recipient__username", "text")) == [("rio", "The store is full.")]


def test_an_incremental_builds_on_what_is_there_and_whole(estate: SmallEstate, rio: User) -> None:
    base = recorded_point(estate.production, "p1", NOW - DAY, by=rio)
    one = recorded_point(estate.production, "p2", NOW, by=rio, kind="incremental", parent_id=base.pk)
    assert one.parent == base
    check(base, 1, False)

    with pytest.raises(Conflict, match="missing or broken"), transaction.atomic():
        recorded_point(estate.production, "p3", NOW + DAY, by=rio, kind="incremental", parent_id=base.pk)


def test_another_tools_point_is_registered_where_the_policy_says_so(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.staging, engine="external", source="", recipients=())
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.staging.pk, "at": NOW}

    with events() as tags:
        point = register_point(point=new_point("x1", NOW - DAY), **words)

    assert tags == ["recovery:point:recorded"]
    assert (point.state, point.run) == ("copied", None)
    with pytest.raises(Conflict, match="called x1 already"):
        register_point(point=new_point("x1", NOW - DAY), **words)
    with pytest.raises(Invalid, match="later than now"):
        register_point(point=new_point("x2", NOW), **words)
    with pytest.raises(Invalid) as refused:
        register_point(point=new_point("x2", NOW - DAY, locked_until=datetime.max.replace(tzinfo=UTC)), **words)
    assert list(refused.value.fields) == ["locked_until"]
    with pytest.raises(Conflict, match="itself"):
        register_point(point=new_point("x3", NOW - DAY), **{**words, "environment_id": estate.production.pk})
    with pytest.raises(Conflict, match="Another tool"):
        ask(estate, rio, environment_id=estate.staging.pk)


def test_wal_is_recorded_once_and_grows_in_place(estate: SmallEstate) -> None:
    partial = NewSegment("7012", 1, 0, 8, NOW, "wal/1.partial", 8, "a" * 64)
    whole = NewSegment("7012", 1, 0, 16, NOW + timedelta(minutes=1), "wal/1", 16, "b" * 64)

    with events() as tags:
        for one in (partial, whole):
            record_segment(environment=estate.production, segment=one, actor=system_actor(), at=NOW)

    assert tags == ["recovery:wal:recorded"]
    assert list(WalSegment.objects.values_list("key", "end_lsn")) == [("wal/1", 16)]


def test_a_copy_is_recorded_once(estate: SmallEstate, rio: User) -> None:
    point = recorded_point(estate.production, "p1", NOW, by=rio)

    with events() as tags:
        for _ in range(2):
            record_copy(point, store="s3://copies/northwind", actor=system_actor(), at=NOW)

    assert tags == ["recovery:point:copied"]
    assert point.copies.count() == 2


def test_a_point_is_copied_until_it_was_restored_and_questioned(estate: SmallEstate, rio: User) -> None:  # BCK-5
    point = recorded_point(estate.production, "p1", NOW, by=rio)
    standing = [(point.state, point.level)]

    with events() as tags:
        for level, is_passed in [(1, True), (3, True), (2, True), (2, False), (1, True), (1, False), (2, True)]:
            check(point, level, is_passed)
            point.refresh_from_db()
            standing.append((point.state, point.level))

    assert tags == ["recovery:point:checked"] * 7
    assert standing == [
        ("copied", 0), ("copied", 1), ("verified", 3), ("verified", 3),
        ("broken", 1), ("broken", 1), ("broken", 0), ("verified", 2),
    ]  # fmt: skip
    assert Message.objects.count() == 2


def test_a_broken_point_whose_failed_check_passes_is_copied_again(estate: SmallEstate, rio: User) -> None:
    point = recorded_point(estate.production, "p1", NOW, by=rio)
    check(point, 1, False)
    check(point, 1, True)

    assert (point.state, point.level) == ("copied", 1)
    assert (
        '"before":{"level":0,"state":"broken"}'
        in AuditEvent.objects.filter(tag="recovery:point:checked").latest("pk").body
    )


def test_what_breaks_a_point_breaks_all_that_build_upon_it_with_one_message(estate: SmallEstate, rio: User) -> None:
    chain = [recorded_point(estate.production, "full", NOW - 4 * DAY, by=rio)]
    for number in (3, 2):
        words: dict[str, Any] = {"kind": "incremental", "parent_id": chain[-1].pk}
        chain.append(recorded_point(estate.production, f"inc-{number}", NOW - number * DAY, by=rio, **words))
    recorded_point(estate.production, "other", NOW - DAY, by=rio)
    RecoveryPoint.objects.filter(pk=chain[2].pk).update(removal_asked_at=NOW)
    Message.objects.all().delete()

    with events() as tags:
        check(chain[0], 1, False)

    found = RecoveryPoint.objects.order_by("pk").values_list("key", "state")
    assert list(found) == [("full", "broken"), ("inc-3", "broken"), ("inc-2", "broken"), ("other", "copied")]
    assert tags == ["recovery:point:checked"] * 3
    assert Message.objects.get(recipient=rio).text.endswith(
        "With it 2 points broke that cannot be restored without it."
    )


def test_a_legal_hold_keeps_what_would_go_and_undoes_its_removal(estate: SmallEstate, rio: User) -> None:
    old = recorded_point(estate.production, "old", NOW - DAY, by=rio)
    recorded_point(estate.production, "new", NOW, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": NOW}
    ask_retention(**words, **seen_removal(estate.production))

    with events() as tags:
        hold = place_hold(name="Case 7", reason="The tax office asks.", point_id=old.pk, **words)

    assert tags == ["recovery:point:kept", "recovery:hold:placed"]
    assert "Legal hold “Case 7” names it." in AuditEvent.objects.get(tag="recovery:point:kept").body
    old.refresh_from_db()
    assert old.removal_asked_at is None
    with pytest.raises(Conflict, match="now 0 points would go"):
        ask_retention(seen_goes=["old"], **words)
    with events() as tags:
        lift_hold(actor=actor(rio), hold_id=hold.pk, reason="It is closed.", at=NOW)
    assert tags == ["recovery:hold:lifted"]
    with pytest.raises(Conflict, match="lifted already"):
        lift_hold(actor=actor(rio), hold_id=hold.pk, reason="It is closed.", at=NOW)
    assert ask_retention(**words, **seen_removal(estate.production)).goes == ("old",)


def test_a_hold_without_a_point_keeps_everything(estate: SmallEstate, rio: User) -> None:
    for number in range(3):
        recorded_point(estate.production, f"p{number}", NOW - number * DAY, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": NOW}
    place_hold(name="Case 7", reason="The tax office asks.", **words)

    assert ask_retention(seen_goes=[], **words).goes == ()


@pytest.mark.parametrize("words", [{"name": " "}, {"reason": " "}])
def test_a_hold_has_a_name_and_a_reason(estate: SmallEstate, rio: User, words: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        place_hold(
            actor=actor(rio), environment_id=estate.production.pk, at=NOW,
            **{"name": "Case 7", "reason": "The tax office asks.", **words},
        )  # fmt: skip


def test_retention_says_what_goes_and_is_asked_for_exactly_that(estate: SmallEstate, rio: User) -> None:
    for number in range(3):
        recorded_point(estate.production, f"p{number}", NOW - number * DAY, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": NOW}

    with events() as tags, pytest.raises(Conflict, match="now 2 points would go"):
        ask_retention(seen_goes=["p2"], **words)
    assert tags == ["refused"]
    with events() as tags:
        plan = ask_retention(**words, **seen_removal(estate.production))
        ask_retention(**words, **seen_removal(estate.production))

    assert (plan.goes, plan.stays) == (("p1", "p2"), {"p0": ("It is the last one.",)})
    assert tags == ["recovery:point:removal_asked"] * 2
    assert set(RecoveryPoint.objects.filter(removal_asked_by=rio).values_list("key", flat=True)) == {"p1", "p2"}


def test_a_point_is_removed_only_where_it_was_asked_and_may_still_go(estate: SmallEstate, rio: User) -> None:
    old = recorded_point(estate.production, "old", NOW - DAY, by=rio)
    recorded_point(estate.production, "new", NOW, by=rio)
    with pytest.raises(Conflict, match="stays"):
        remove_point(old, actor=system_actor(), at=NOW)
    ask_retention(actor=actor(rio), environment_id=estate.production.pk, at=NOW, **seen_removal(estate.production))
    old.refresh_from_db()
    check(old, 2, True)

    with events() as tags:
        assert not begin_removal(point_id=old.pk, actor=system_actor(), at=NOW)  # the last verified point by now
    assert tags == ["recovery:point:kept"]
    old.refresh_from_db()
    # It stays, so a restore may begin on it.
    assert (old.removal_asked_at, old.removal_asked_by) == (None, None)
    assert coverage_of(estate.production).holds(old.consistent_at)
    check(old, 2, False)
    ask_retention(actor=actor(rio), environment_id=estate.production.pk, at=NOW, **seen_removal(estate.production))
    assert begin_removal(point_id=old.pk, actor=system_actor(), at=NOW)
    assert begin_removal(point_id=old.pk, actor=system_actor(), at=NOW)  # again, after the first was killed
    old.refresh_from_db()
    with pytest.raises(Conflict, match="being removed"):
        hold: dict[str, Any] = {
            "actor": actor(rio),
            "environment_id": estate.production.pk,
            "name": "Case 7",
            "reason": "Tax.",
        }
        place_hold(**hold, point_id=old.pk, at=NOW)
    assert not RecoveryPoint.objects.restorable().filter(pk=old.pk).exists()
    with events() as tags:
        remove_point(old, actor=system_actor(), at=NOW)

    assert not begin_removal(point_id=old.pk, actor=system_actor(), at=NOW)
    assert tags == ["recovery:point:removed"]
    assert (old.state, old.removed_at) == ("removed", NOW)


def test_a_hold_keeps_what_its_point_builds_upon(estate: SmallEstate, rio: User) -> None:
    base = recorded_point(estate.production, "base", NOW - 2 * DAY, by=rio)
    child = recorded_point(estate.production, "child", NOW - DAY, by=rio, kind="incremental", parent_id=base.pk)
    recorded_point(estate.production, "new", NOW, by=rio)
    ask_retention(actor=actor(rio), environment_id=estate.production.pk, at=NOW, **seen_removal(estate.production))

    place_hold(
        actor=actor(rio), environment_id=estate.production.pk, name="Case 7", reason="Tax.", point_id=child.pk, at=NOW
    )

    assert not begin_removal(point_id=base.pk, actor=system_actor(), at=NOW)
    assert RecoveryPoint.objects.restorable().filter(pk__in=[base.pk, child.pk]).count() == 2


def test_what_a_restore_reads_stays_until_it_is_over(estate: SmallEstate, rio: User) -> None:
    old = recorded_point(estate.production, "old", NOW - DAY, by=rio)
    recorded_point(estate.production, "new", NOW, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": NOW}
    restore = ask_restore(target_at=NOW - DAY, target_database="a_look", reason="A look.", **words)

    assert restore.point == old
    assert retention_of(old.policy, at=NOW).stays["old"] == ("A restore or a drill reads it.",)
    move_restore(restore, "cancel", sentence="Not needed.", actor=system_actor(), at=NOW)
    assert retention_of(old.policy, at=NOW).goes == ("old",)


def test_nothing_begins_on_a_point_that_is_to_go(estate: SmallEstate, rio: User) -> None:
    old = recorded_point(estate.production, "old", NOW - DAY, by=rio)
    recorded_point(estate.production, "new", NOW, by=rio)
    words: dict[str, Any] = {"actor": actor(rio), "environment_id": estate.production.pk, "at": NOW}
    ask_retention(**words, **seen_removal(estate.production))

    with pytest.raises(Conflict, match="before the first time"):
        ask_restore(target_at=NOW - DAY, target_database="a_look", reason="A look.", **words)
    with pytest.raises(Conflict, match="missing or broken"), transaction.atomic():
        recorded_point(estate.production, "more", NOW + DAY, by=rio, kind="incremental", parent_id=old.pk)


@pytest.mark.parametrize(
    ("end_lsn", "key", "tags", "kept"),
    [
        (12, "wal/1.partial", [], 12),
        (16, "wal/1", [], 16),
        (4, "wal/1.partial", [], 8),  # what came late, and is shorter than what is there
    ],
)
def test_a_piece_of_wal_only_grows(estate: SmallEstate, end_lsn: int, key: str, tags: list[str], kept: int) -> None:
    first = NewSegment("7012", 1, 0, 8, NOW, "wal/1.partial", 8, "a" * 64)
    record_segment(environment=estate.production, segment=first, actor=system_actor(), at=NOW)

    with events() as found:
        later = replace(first, end_lsn=end_lsn, key=key)
        record_segment(environment=estate.production, segment=later, actor=system_actor(), at=NOW)

    assert (found, WalSegment.objects.get().end_lsn) == (tags, kept)


ACTIONS: dict[str, Any] = {
    "ask_backup": lambda estate, who: ask(estate, who),
    "register_point": lambda estate, who: register_point(
        actor=actor(who), environment_id=estate.production.pk, point=new_point("x", NOW - DAY), at=NOW
    ),
    "place_hold": lambda estate, who: place_hold(
        actor=actor(who), environment_id=estate.production.pk, name="Case 7", reason="Tax.", at=NOW
    ),
    "lift_hold": lambda estate, who: lift_hold(
        actor=actor(who), hold_id=LegalHold.objects.latest("pk").pk, reason="Closed.", at=NOW
    ),
    "ask_retention": lambda estate, who: ask_retention(
        actor=actor(who), environment_id=estate.production.pk, seen_goes=[], at=NOW
    ),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_who_may_not_is_refused_and_it_is_recorded_and_a_stranger_finds_nothing(
    estate: SmallEstate, rio: User, name: str
) -> None:
    place_hold(actor=actor(rio), environment_id=estate.production.pk, name="Case 6", reason="Tax.", at=NOW)
    _, eve = stranger_estate()

    with events() as of_ada, pytest.raises(Forbidden):
        ACTIONS[name](estate, estate.ada)
    with events() as of_eve, pytest.raises(NotFound):
        ACTIONS[name](estate, eve)

    assert (of_ada, of_eve) == (["refused"], [])
    assert AuditEvent.objects.get(tag="refused").tenant == estate.tenant


def test_a_role_on_one_environment_does_there_alone(estate: SmallEstate) -> None:
    backup_policy(estate.staging)
    grant(estate.ada, Role.RECOVERY_OWNER, estate.staging)

    assert ask(estate, estate.ada, environment_id=estate.staging.pk).environment == estate.staging
    with pytest.raises(Forbidden):
        ask(estate, estate.ada)


def test_a_hold_names_no_point_of_another_environment(estate: SmallEstate, rio: User) -> None:
    backup_policy(estate.staging)
    point = recorded_point(estate.staging, "p1", NOW, by=rio)

    with pytest.raises(NotFound, match="no such recovery point"):
        place_hold(
            actor=actor(rio), environment_id=estate.production.pk, name="Case 7", reason="Tax.",
            point_id=point.pk, at=NOW,
        )  # fmt: skip
