"""Drills: begun, questioned, judged with their cleaning up, signed off by another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from changecontrol import access
from changecontrol.access import system_actor
from changecontrol.actions.jobs import end_job, ensure_job
from changecontrol.actions.rehearsals import ask_rehearsal, move_rehearsal
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import AuditEvent, Cluster, Job, Message, User
from changecontrol.rules.roles import Role
from recovery.actions.drills import (
    cancel_drill,
    close_corrective_action,
    drill_point,
    finish_drill,
    link_corrective_action,
    move_drill,
    plan_drill,
    record_check,
    sign_off_drill,
    start_drill,
)
from recovery.models import BackupPolicy, CorrectiveAction, Drill, RecoveryPoint, SignOff
from recovery.queries.drills import overdue_drills
from recovery.queries.points import coverage_of
from tests.changecontrol.actions.events import events
from tests.factories import NOW, SmallEstate, actor, add_person, draft_change, grant, small_estate, stranger_estate
from tests.factories.recovery import (
    HOUR,
    backup_policy,
    canceled_drill,
    finished_drill,
    recorded_point,
    recovery_owner,
    registered_point,
)

pytestmark = pytest.mark.django_db

TAKEN = NOW - 2 * HOUR


@pytest.fixture
def estate() -> SmallEstate:
    found = small_estate()
    backup_policy(found.production)
    return found


@pytest.fixture
def rio(estate: SmallEstate) -> User:
    person = recovery_owner(estate)
    recorded_point(estate.production, "p1", TAKEN, by=person)
    return person


@pytest.fixture
def owner(estate: SmallEstate) -> User:
    person = add_person("otto")
    grant(person, Role.PROCESS_OWNER, estate.tenant)
    return person


def start(estate: SmallEstate, by: User, **words: Any) -> Drill:
    return start_drill(
        **{
            "actor": actor(by), "environment_id": estate.production.pk, "level": 2, "target_at": TAKEN,
            "scope": "Warehouse, on the newest point.", "at": NOW, **words,
        }
    )  # fmt: skip


def test_a_drill_starts_its_clock_and_copies_its_targets(estate: SmallEstate, rio: User) -> None:  # BCK-6, BCK-7
    with events() as tags:
        drill = start(estate, rio)

    assert tags == ["recovery:drill:started"]
    assert (drill.point.key, drill.level, drill.state, drill.asked_by) == ("p1", 2, "queued", rio)
    assert (drill.rto_target_seconds, drill.rpo_target_seconds) == (14_400, 3_600)
    assert (drill.declared_at, drill.decided_at, drill.next_due_at) == (NOW, NOW, NOW)


@pytest.mark.parametrize("words", [{"level": 0}, {"level": 6}, {"sabotage": "burn"}])
def test_a_drill_that_makes_no_sense_is_refused(estate: SmallEstate, rio: User, words: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        start(estate, rio, **words)


def test_a_drill_needs_a_covered_time_and_no_other_drill(estate: SmallEstate, rio: User) -> None:
    with pytest.raises(Conflict, match="The last safe time before it is 23 Nov 2026 08:12:00 UTC"):
        start(estate, rio, target_at=NOW)
    start(estate, rio)
    with pytest.raises(Conflict, match="under way already"):
        start(estate, rio)


def test_a_drill_that_passes_proves_its_point(estate: SmallEstate, rio: User) -> None:  # BCK-5
    with events() as tags:
        drill = finished_drill(estate.production, by=rio, target_at=TAKEN, level=3)

    assert tags == [
        "recovery:drill:started", *["recovery:drill:moved"] * 3, "recovery:drill:checked",
        *["recovery:drill:moved"] * 2, "recovery:point:checked",
    ]  # fmt: skip
    drill.refresh_from_db()
    assert (drill.state, drill.sentence) == ("passed", "The one check passed.")
    assert (drill.point.state, drill.point.level, drill.point.verifications.get().drill) == ("verified", 3, drill)
    minutes = (2, 12, 15, 15)
    moments = (drill.provisioned_at, drill.restored_at, drill.validated_at, drill.finished_at)
    assert moments == tuple(NOW + timedelta(minutes=one) for one in minutes)
    assert not CorrectiveAction.objects.exists()


def test_a_drill_that_fails_breaks_its_point_and_opens_a_corrective_action(estate: SmallEstate, rio: User) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)  # BCK-7

    drill.refresh_from_db()
    assert (drill.state, drill.point.state, drill.point.level) == ("failed", "broken", 0)
    action = CorrectiveAction.objects.get()
    assert (action.drill, action.owner, action.title) == (
        drill, rio, f"Drill {drill.pk} failed: These checks failed: sentinel.",
    )  # fmt: skip
    assert (action.change, action.problem) == (
        None,
        "No change was opened: nobody who answers for this drill may file one in Northwind production. File one.",
    )
    assert Message.objects.filter(subject="Northwind production: A drill failed", recipient=rio).exists()


@pytest.mark.parametrize(
    ("level", "name", "is_about_copy", "standing"),
    [
        (3, "Attachments that the shop has", False, ("copied", 0)),
        (3, "Every attachment, by its SHA-1", True, ("broken", 0)),
        (4, "synthetic sale", True, ("verified", 3)),
        (5, "Brought up in fra-2", True, ("verified", 3)),
    ],
)
def test_what_is_no_fault_of_the_copy_fails_the_drill_and_breaks_no_point(
    estate: SmallEstate, rio: User, *, level: int, name: str, is_about_copy: bool, standing: tuple[str, int]
) -> None:  # BCK-5
    drill, worker = start(estate, rio), system_actor()
    for verb in ("provision", "restore", "check"):
        move_drill(drill, verb, sentence="On its way.", actor=worker, at=NOW)
    words: dict[str, Any] = {"sentence": "As found.", "actor": worker, "at": NOW}
    for passed in range(1, min(level, 4)):
        record_check(drill, name=f"L{passed}", level=passed, is_passed=True, **words)
    record_check(drill, name=name, level=level, is_passed=False, is_about_copy=is_about_copy, **words)
    move_drill(drill, "tear_down", sentence="It clears away.", actor=worker, at=NOW)

    finish_drill(drill, actor=worker, at=NOW)

    drill.point.refresh_from_db()
    assert (drill.state, drill.sentence) == ("failed", f"These checks failed: {name}.")
    assert (drill.point.state, drill.point.level) == standing
    assert CorrectiveAction.objects.get().drill == drill
    assert coverage_of(estate.production).holds(TAKEN) == (standing[0] != "broken")


def test_what_is_left_behind_fails_a_drill_whose_checks_passed(estate: SmallEstate, rio: User) -> None:  # BCK-8
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN, leftovers="the database drill_7")

    drill.refresh_from_db()
    assert (drill.state, drill.sentence) == ("failed", "It left something behind: the database drill_7")
    assert drill.point.state == "verified"  # what was asked of the point was answered all the same


def test_a_sabotaged_copy_passes_where_it_is_caught_and_says_nothing_of_the_point(
    estate: SmallEstate, rio: User
) -> None:  # BCK-9
    caught = finished_drill(estate.production, by=rio, target_at=TAKEN, sabotage="flip", is_passed=False)
    missed = finished_drill(estate.production, by=rio, target_at=TAKEN, sabotage="flip", at=NOW + HOUR)

    assert (caught.state, missed.state) == ("passed", "failed")
    assert missed.sentence == "The sabotage was not caught."
    assert (missed.point.state, missed.point.verifications.count()) == ("copied", 0)
    assert CorrectiveAction.objects.get().drill == missed


def test_a_drill_that_could_not_go_on_proves_nothing(estate: SmallEstate, rio: User) -> None:
    drill = start(estate, rio)
    worker = system_actor()
    with pytest.raises(IllegalTransition, match="while it is under way"):
        record_check(drill, name="x", level=2, is_passed=True, sentence="x", actor=worker, at=NOW)
    move_drill(drill, "tear_down", sentence="No disk.", actor=worker, at=NOW)

    finish_drill(drill, trouble="There is no room for a sandbox.", actor=worker, at=NOW)

    assert (drill.state, drill.trouble_found) == ("failed", "There is no room for a sandbox.")
    assert (drill.validated_at, drill.point.verifications.count()) == (None, 0)


def test_a_drill_has_no_verdict_before_it_tore_down(estate: SmallEstate, rio: User) -> None:  # BCK-8
    drill = start(estate, rio)

    with pytest.raises(IllegalTransition):
        finish_drill(drill, actor=system_actor(), at=NOW)


def test_another_person_signs_off_once_it_is_over(estate: SmallEstate, rio: User, owner: User) -> None:  # BCK-7
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)

    with events() as tags:
        sign_off_drill(actor=actor(owner), drill_id=drill.pk, note="Read.", at=NOW)

    assert tags == ["recovery:drill:signed_off"]
    assert list(SignOff.objects.values_list("drill", "by", "note")) == [(drill.pk, owner.pk, "Read.")]
    assert Message.objects.get().recipient == rio
    with pytest.raises(Conflict, match="signed off already"):
        sign_off_drill(actor=actor(owner), drill_id=drill.pk, at=NOW)


def test_nobody_signs_off_their_own_drill(estate: SmallEstate, rio: User) -> None:  # BCK-7
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)

    with events() as tags, pytest.raises(Forbidden, match="Somebody other than who ran a drill"):
        sign_off_drill(actor=actor(rio), drill_id=drill.pk, at=NOW)

    assert tags == ["refused"]
    assert AuditEvent.objects.get(tag="refused").subject == f"drill:{drill.pk}"


def test_what_is_under_way_is_not_signed_off(estate: SmallEstate, rio: User, owner: User) -> None:
    drill = start(estate, rio)

    with pytest.raises(IllegalTransition, match="once it is over"):
        sign_off_drill(actor=actor(owner), drill_id=drill.pk, at=NOW)


def test_who_may_not_is_refused_and_it_is_recorded_and_a_stranger_finds_nothing(estate: SmallEstate, rio: User) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)
    _, eve = stranger_estate()

    def sign(who: User) -> None:
        sign_off_drill(actor=actor(who), drill_id=drill.pk, at=NOW)

    for attempt in (lambda who: start(estate, who), sign):
        with events() as of_ada, pytest.raises(Forbidden):
            attempt(estate.ada)
        with events() as of_eve, pytest.raises(NotFound):
            attempt(eve)
        assert (of_ada, of_eve) == (["refused"], [])


def close(todo: CorrectiveAction, by: User, **words: Any) -> CorrectiveAction:
    return close_corrective_action(
        **{"actor": actor(by), "corrective_action_id": todo.pk, "note": " A new disk. ", "at": NOW + HOUR, **words}
    )


def test_a_corrective_action_is_closed_once_with_what_was_done(estate: SmallEstate, rio: User) -> None:  # BCK-7
    finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    todo = CorrectiveAction.objects.get()
    with events() as of_silence, pytest.raises(Invalid, match="Say what was done"):
        close(todo, rio, note=" ")

    with events() as tags:
        close(todo, rio)

    todo.refresh_from_db()
    assert (of_silence, tags) == ([], ["recovery:drill:action_closed"])
    assert (todo.is_open, todo.closed_at, todo.closed_by, todo.closing_note) == (False, NOW + HOUR, rio, "A new disk.")
    with events() as again, pytest.raises(Conflict, match="closed already"):
        close(todo, rio)
    assert again == ["refused"]


def test_who_may_not_closes_no_corrective_action(estate: SmallEstate, rio: User) -> None:
    finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    todo = CorrectiveAction.objects.get()
    _, eve = stranger_estate()

    with events() as of_ada, pytest.raises(Forbidden):
        close(todo, estate.ada)
    with events() as of_eve, pytest.raises(NotFound, match="no such corrective action"):
        close(todo, eve)

    assert (of_ada, of_eve) == (["refused"], [])


def test_to_a_stranger_a_drill_is_as_missing_as_none(estate: SmallEstate, rio: User) -> None:
    drill = finished_drill(estate.production, by=rio, target_at=TAKEN)
    _, eve = stranger_estate()

    sentences = []
    for key in (drill.pk, 999):
        with pytest.raises(NotFound) as hidden:
            sign_off_drill(actor=actor(eve), drill_id=key, at=NOW)
        sentences.append(hidden.value.sentence)

    assert sentences == ["There is no such drill."] * 2


def test_a_level_that_the_environment_cannot_go_to_is_refused(estate: SmallEstate, rio: User, settings: Any) -> None:
    settings.ODOO_COMMAND = ""
    for level in (4, 5):
        with pytest.raises(Invalid) as refused:
            start(estate, rio, level=level)
        assert list(refused.value.fields) == ["level"]

    settings.ODOO_COMMAND = "odoo"

    assert start(estate, rio, level=4).level == 4


def test_integrity_is_asked_without_restoring_anything(estate: SmallEstate, rio: User) -> None:
    drill = start(estate, rio, level=1)

    move_drill(drill, "check", sentence="It asks.", actor=system_actor(), at=NOW + HOUR)
    move_drill(drill, "tear_down", sentence="It cleans up.", actor=system_actor(), at=NOW + 2 * HOUR)

    assert (drill.provisioned_at, drill.restored_at, drill.validated_at) == (None, None, NOW + 2 * HOUR)


def test_a_finding_names_the_change_that_mends_it(estate: SmallEstate, rio: User) -> None:  # BCK-7
    finished_drill(estate.production, by=rio, target_at=TAKEN, is_passed=False)
    todo = CorrectiveAction.objects.get()
    change = draft_change(estate)
    kite, eve = stranger_estate()
    elsewhere = draft_change(kite)

    def link(by: User, number: str) -> None:
        link_corrective_action(actor=actor(by), corrective_action_id=todo.pk, number=number, at=NOW)

    for number in ("", "CHG-999999", elsewhere.number, "42"):
        with pytest.raises(Invalid) as unknown:
            link(rio, number)
        assert list(unknown.value.fields) == ["number"]
    with events() as of_ada, pytest.raises(Forbidden):
        link(estate.ada, change.number)
    with events() as of_eve, pytest.raises(NotFound):
        link(eve, elsewhere.number)
    with events() as tags:
        link(rio, f" {change.number.lower()} ")

    todo.refresh_from_db()
    assert todo.change == change
    assert (tags, of_ada, of_eve) == (["recovery:drill:action_linked"], ["refused"], [])
    close(todo, rio)
    with pytest.raises(Conflict, match="closed already"):
        link(rio, change.number)


def test_who_made_a_point_tells_how_far_its_drill_goes(estate: SmallEstate, rio: User) -> None:
    ours = RecoveryPoint.objects.get()
    theirs = registered_point(estate.production, "theirs", NOW - HOUR, by=rio)
    policy = BackupPolicy.objects.active().get(environment=estate.production)

    for begin in (
        lambda: drill_point(actor=actor(rio), point_id=theirs.pk, level=3, at=NOW),
        lambda: start(estate, rio, level=3, target_at=theirs.consistent_at),
    ):
        with pytest.raises(Invalid, match="is drilled up to level 2"):
            begin()
    words: dict[str, Any] = {"policy": policy, "target_at": theirs.consistent_at, "actor": system_actor(), "at": NOW}
    assert plan_drill(level=3, **words) is None

    drill = drill_point(actor=actor(rio), point_id=ours.pk, level=3, at=NOW)

    assert (drill.point, drill.level) == (ours, 3)


def cancel(drill: Drill, by: User, **words: Any) -> Drill:
    return cancel_drill(
        **{"actor": actor(by), "drill_id": drill.pk, "reason": "The wrong level.", "at": NOW + HOUR, **words}
    )


def job_of(drill: Drill, **result: Any) -> Job:
    """Order the work of a drill; with a result, it is done."""
    job = ensure_job(key=f"drill/{drill.pk}", kind="drill", order={"drill": drill.pk}, at=NOW)
    if result:
        end_job(job, "finish", result={"trouble": "", "leftovers": "", "checks": [], **result}, at=NOW)
    return job


@pytest.mark.parametrize("verbs", [(), ("provision",), ("provision", "restore"), ("provision", "restore", "check")])
def test_a_drill_is_canceled_wherever_it_is_and_its_work_is_asked_to_stop(
    estate: SmallEstate, rio: User, verbs: tuple[str, ...]
) -> None:
    drill = start(estate, rio)
    for verb in verbs:
        move_drill(drill, verb, sentence="On its way.", actor=system_actor(), at=NOW)
    job = job_of(drill)
    Job.objects.update(lease_until=NOW + 2 * HOUR)
    Drill.objects.update(next_due_at=NOW + 2 * HOUR)

    with events() as tags:
        canceled = cancel(drill, rio)

    job.refresh_from_db()
    assert tags == ["recovery:drill:moved"]
    # It is over once it has cleared away, and begins with that at once.
    assert (canceled.state, canceled.finished_at, canceled.next_due_at) == ("tearing_down", None, NOW + HOUR)
    assert canceled.sentence == "Rio canceled it: The wrong level."
    assert (canceled.canceled_by, canceled.canceled_at) == (rio, NOW + HOUR)
    assert (job.stop_asked_at, canceled.validated_at) == (NOW + HOUR, None)


def test_a_canceled_drill_has_no_verdict_and_counts_for_nothing(estate: SmallEstate, rio: User) -> None:
    late = [one.due_at for one in overdue_drills(access.scope_of(actor(rio)), at=NOW)]

    with events() as tags:
        drill = canceled_drill(estate.production, by=rio, target_at=TAKEN)

    drill.refresh_from_db()
    assert tags == ["recovery:drill:started", *["recovery:drill:moved"] * 2]
    assert (drill.state, drill.sentence) == ("canceled", "Rio canceled it: The wrong level.")
    assert (drill.finished_at, drill.next_due_at) == (NOW + timedelta(minutes=2), None)
    assert (drill.point.state, drill.point.verifications.count()) == ("copied", 0)
    assert (CorrectiveAction.objects.exists(), Message.objects.exists()) == (False, False)
    assert len(late) == 1
    assert [one.due_at for one in overdue_drills(access.scope_of(actor(rio)), at=NOW + HOUR)] == late


def test_what_an_answer_said_before_it_was_canceled_breaks_no_point(estate: SmallEstate, rio: User) -> None:
    drill, worker = start(estate, rio), system_actor()
    for verb in ("provision", "restore", "check"):
        move_drill(drill, verb, sentence="On its way.", actor=worker, at=NOW)
    record_check(drill, name="sentinel", level=2, is_passed=False, sentence="Old.", actor=worker, at=NOW)

    canceled = cancel(drill, rio)
    with pytest.raises(IllegalTransition, match="while it is under way"):
        record_check(canceled, name="orders", level=2, is_passed=False, sentence="None.", actor=worker, at=NOW)
    finish_drill(canceled, trouble="Stopped.", faulty="p1", actor=worker, at=NOW + HOUR)

    assert (canceled.state, canceled.trouble_found) == ("canceled", "")
    assert (RecoveryPoint.objects.get().state, CorrectiveAction.objects.count()) == ("copied", 0)


def test_what_a_canceled_drill_left_behind_is_told(estate: SmallEstate, rio: User) -> None:  # BCK-8
    drill = canceled_drill(estate.production, by=rio, target_at=TAKEN, leftovers="The folder is still there.")

    assert (drill.state, drill.leftovers) == ("canceled", "The folder is still there.")
    assert drill.sentence == ("Rio canceled it: The wrong level. It left something behind: The folder is still there.")
    message = Message.objects.get()
    assert (message.recipient, message.subject) == (rio, "Northwind production: A drill left something behind")
    assert not CorrectiveAction.objects.exists()


def test_what_clears_away_or_is_over_is_not_canceled_and_the_reason_is_due(estate: SmallEstate, rio: User) -> None:
    drill = start(estate, rio)
    with events() as of_silence, pytest.raises(Invalid, match="Say why"):
        cancel(drill, rio, reason=" ")
    cancel(drill, rio)
    with events() as of_twice, pytest.raises(IllegalTransition):
        cancel(drill, rio)
    finish_drill(Drill.objects.get(), actor=system_actor(), at=NOW + HOUR)
    with events() as of_late, pytest.raises(IllegalTransition):
        cancel(drill, rio)

    assert (of_silence, of_twice, of_late) == ([], ["refused"], ["refused"])


def test_what_is_answered_is_judged_and_no_more_canceled(estate: SmallEstate, rio: User) -> None:
    drill = start(estate, rio)
    failed = {"name": "sentinel", "level": 2, "is_passed": False, "sentence": "It is old."}
    job_of(drill, checks=[failed])

    with events() as tags, pytest.raises(IllegalTransition, match="is answered and counts"):
        cancel(drill, rio)

    drill.refresh_from_db()
    assert (tags, drill.state, drill.canceled_at) == (["refused"], "queued", None)


def test_a_sound_copy_on_its_way_elsewhere_may_yet_be_canceled(estate: SmallEstate, rio: User) -> None:  # BCK-5
    de_1 = Cluster.objects.create(slug="de-1", name="Falkenstein 1", credential="env:KUBECONFIG_DE_1")
    BackupPolicy.objects.update(rehearsal_cluster="de-1", rehearsal_target="file:/run/secrets/falkenstein")
    drill, worker = start(estate, rio, level=5), system_actor()
    job = job_of(drill, checks=[{"name": "sentinel", "is_passed": True}])
    rehearsal = ask_rehearsal(
        environment=estate.production, cluster=de_1, key=drill.key, commit="c" * 40, path="x", ends_at=NOW + HOUR,
        actor=worker, at=NOW,
    )  # fmt: skip

    def refusal() -> str:
        with transaction.atomic():
            try:
                cancel(drill, rio)
            except IllegalTransition as refused:
                return refused.sentence
            finally:
                transaction.set_rollback(True)
        return ""

    on_its_way = refusal()
    move_rehearsal(rehearsal, "fail", sentence="It did not come up.", actor=worker, at=NOW)
    not_up = refusal()
    Job.objects.filter(pk=job.pk).update(result={**job.result, "checks": [{"is_passed": False}]})
    unsound = refusal()

    assert on_its_way == ""
    assert not_up == unsound == "What it asked is answered and counts, so it cannot be canceled any more."


def test_who_may_hold_a_drill_may_cancel_it_and_a_stranger_learns_nothing(
    estate: SmallEstate, rio: User, owner: User
) -> None:
    drill = start(estate, rio)
    _, eve = stranger_estate()

    for somebody in (estate.ada, owner):
        with events() as tags, pytest.raises(Forbidden):
            cancel(drill, somebody)
        assert tags == ["refused"]
    sentences = []
    for key in (drill.pk, drill.pk + 1_000):
        with events() as of_eve, pytest.raises(NotFound) as missing:
            cancel(drill, eve, drill_id=key)
        assert of_eve == []
        sentences.append(missing.value.sentence)

    assert len(set(sentences)) == 1
    assert cancel(drill, recovery_owner(estate, "rae")).canceled_at == NOW + HOUR


def test_a_cancellation_that_is_not_kept_leaves_neither_row_nor_event(estate: SmallEstate, rio: User) -> None:
    drill = start(estate, rio)
    job = job_of(drill)

    with events() as tags, transaction.atomic():
        cancel(drill, rio)
        transaction.set_rollback(True)

    drill.refresh_from_db()
    job.refresh_from_db()
    assert (tags, drill.state, drill.canceled_at, job.stop_asked_at) == ([], "queued", None, None)


def test_a_canceled_drill_is_not_signed_off(estate: SmallEstate, rio: User, owner: User) -> None:  # BCK-7
    drill = canceled_drill(estate.production, by=rio, target_at=TAKEN)

    with events() as tags, pytest.raises(IllegalTransition, match="A canceled drill proves nothing"):
        sign_off_drill(actor=actor(owner), drill_id=drill.pk, at=NOW + HOUR)

    assert (tags, SignOff.objects.exists()) == (["refused"], False)
