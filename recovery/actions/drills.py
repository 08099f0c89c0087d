"""Drills: begun by a person or by schedule, each check recorded, ended with a verdict, signed off by another person."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.actions.jobs import ask_stop
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.lifecycles.job import JobState
from changecontrol.lifecycles.rehearsal import RehearsalState
from changecontrol.models import Environment, Job, Rehearsal, User
from changecontrol.queries.changes import change_by_number
from changecontrol.rules.roles import Ability
from changecontrol.workflow import engine
from recovery.actions.corrective_changes import link_change, open_corrective_action
from recovery.actions.locking import locked_environment, locked_root, policy_of
from recovery.actions.owners import tell_owners
from recovery.actions.points import chain_of, record_verification
from recovery.actions.refusals import audited
from recovery.actions.restores import REACHED_AT
from recovery.lifecycles.drill import ACTIVE, DRILL, ENDED, UNDER_WAY, DrillState
from recovery.lifecycles.point import KEPT
from recovery.models import BackupPolicy, CorrectiveAction, Drill, DrillCheck, RecoveryPoint, SignOff
from recovery.models.drill import Sabotage
from recovery.queries.drills import levels_of
from recovery.queries.points import objectives_of
from recovery.queries.progress import is_sound, key_of
from recovery.queries.restores import check_told, point_at
from recovery.rules.levels import refusal_of
from recovery.rules.verification import ELSEWHERE, LEVELS, OF_THE_COPY, CheckResult, judge_drill

ASKING = UNDER_WAY - {DrillState.QUEUED}
"""The copy is questioned where it lies, while it is brought back, and after."""
ENDS_PART = {"restore": REACHED_AT["restore"], "check": REACHED_AT["validate"], "tear_down": REACHED_AT["succeed"]}
"""Which part of the time to recover ends with which verb of a drill (BCK-6)."""


@audited
@transaction.atomic
def start_drill(
    *,
    actor: Actor,
    environment_id: int,
    level: int,
    target_at: datetime,
    scope: str = "",
    sabotage: str = "",
    at: datetime,
) -> Drill:
    """Begin a drill of one level that goes back to a time; with `sabotage`, on a copy that is broken on purpose.

    The RTO clock starts now. Raises `Conflict` where one is under way, or the time is not covered, and `Invalid` for a
    level that its point cannot go to.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_DRILL, environment)
    policy_of(environment)
    if sabotage and level >= ELSEWHERE:
        sentence = f"A sabotaged copy is brought up nowhere: choose a level up to {ELSEWHERE - 1}."
        raise Invalid(sentence, fields={"sabotage": [sentence]})
    if sabotage and sabotage not in set(Sabotage):
        raise Invalid(
            "A part is truncated, flipped, removed or swapped.", fields={"sabotage": ["Choose one of these."]}
        )
    _check_idle(environment)
    return _begin(
        environment,
        point=point_at(environment, target_at),
        level=level,
        target_at=target_at,
        scope=scope,
        sabotage=sabotage,
        actor=actor,
        by=actor.person,
        at=at,
    )


@audited
@transaction.atomic
def drill_point(*, actor: Actor, point_id: int, level: int, at: datetime) -> Drill:
    """Begin a drill of one point at its own moment, whatever it is worth now: one that broke is mended by a pass.

    Raises `Conflict` where one is under way, or the point's bytes are gone or go, and `Invalid` as `start_drill` does.
    """
    found = RecoveryPoint.objects.filter(pk=point_id).values_list("environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing="There is no such recovery point.")
    access.require(actor, Ability.RECOVERY_DRILL, environment)
    point = RecoveryPoint.objects.select_for_update(of=("self",)).select_related("policy").get(pk=point_id)
    if point.state not in KEPT or point.removing_at is not None:
        raise Conflict("The bytes of this point are gone: there is nothing left to check.")
    check_told(point)
    _check_idle(environment)
    scope = f"{point.key}, at its own moment."
    words: dict[str, Any] = {"scope": scope, "sabotage": "", "actor": actor, "by": actor.person, "at": at}
    return _begin(environment, point=point, level=level, target_at=point.consistent_at, **words)


@audited
@transaction.atomic
def cancel_drill(*, actor: Actor, drill_id: int, reason: str, at: datetime) -> Drill:
    """End a drill before it is done: its work is asked to stop, and what it made is cleared away before it is over.

    It is then neither passed nor failed. Raises `IllegalTransition` where it clears away already or is over, and where
    its answers are given: what was found counts. Whoever may hold such a drill may cancel it.
    """
    found = Drill.objects.filter(pk=drill_id).values_list("environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing="There is no such drill.")
    drill = Drill.objects.select_for_update(of=("self",)).get(pk=drill_id)
    access.require(actor, Ability.RECOVERY_DRILL, environment)
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the report.")
    DRILL.target("cancel", drill.state)
    if _is_answered(drill, ask_stop(key=key_of(drill), at=at)):
        raise IllegalTransition("What it asked is answered and counts, so it cannot be canceled any more.")
    drill.canceled_at, drill.canceled_by, drill.cancel_reason = at, actor.person, words[:500]
    drill.save(update_fields=["canceled_at", "canceled_by", "cancel_reason"])
    move_drill(drill, "cancel", sentence=drill.cancellation, actor=actor, at=at)
    engine.release(drill, at=at)
    wiring.nudge("drill")
    return drill


def _is_answered(drill: Drill, job: Job | None) -> bool:
    """Tell whether the work of a drill is over, and its verdict only to be written: that would hide what was found."""
    if job is None or job.state not in (JobState.DONE, JobState.FAILED):
        return False
    if drill.level < ELSEWHERE or not is_sound(job):
        return True
    return Rehearsal.objects.filter(key=drill.key, state=RehearsalState.FAILED).exists()


def _check_level(environment: Environment, point: RecoveryPoint, level: int) -> None:
    if level not in LEVELS:
        raise Invalid("A drill has a level from 1 to 5.", fields={"level": ["Choose a level from 1 to 5."]})
    if refusal := refusal_of(level, levels_of(environment, point=point)):
        raise Invalid(refusal, fields={"level": [refusal]})


def _check_idle(environment: Environment) -> None:
    if Drill.objects.filter(environment=environment, state__in=sorted(ACTIVE)).exists():
        raise Conflict("A drill of this environment is under way already.")


def move_drill(drill: Drill, verb: str, *, sentence: str, actor: Actor, at: datetime) -> None:
    """Move a locked drill by a verb of its lifecycle, and note when a part of the time to recover ended."""
    before = str(drill.state)
    drill.state = DRILL.target(verb, drill.state)
    drill.sentence = sentence
    fields = ["state", "sentence"]
    # What was torn down early has not got so far, and what was never brought back took no time for it.
    has_ended = {"tear_down": before == DrillState.CHECKING, "check": before == DrillState.RESTORING}
    if verb in ENDS_PART and has_ended.get(verb, True):
        setattr(drill, ENDS_PART[verb], at)
        fields.append(ENDS_PART[verb])
    if drill.state in ENDED:
        drill.finished_at, drill.next_due_at = at, None
        fields += ["finished_at", "next_due_at"]
    drill.save(update_fields=fields)
    data = {"verb": verb, "from": before, "to": str(drill.state), "sentence": sentence}
    audit.record(Tag.DRILL_MOVED, subject=drill, actor=actor, at=at, data=data, tenant=drill.tenant_id)


def say_drill(drill: Drill, sentence: str) -> None:
    """Say on a locked drill how far it is; what comes of it is a check or a move."""
    if drill.sentence != sentence:
        drill.sentence = sentence
        drill.save(update_fields=["sentence"])


def note_trouble(drill: Drill, reason: str) -> None:
    """Note on a locked drill why it cannot go on: it clears away, and its verdict then says so."""
    drill.trouble_found = reason
    drill.save(update_fields=["trouble_found"])


def say_cleared(drill: Drill, *, at: datetime) -> None:
    """Tell people that what a drill had left in another cluster is gone."""
    subject, text = "What a drill had left behind is gone", f"Of {drill} nothing is left in the other cluster."
    tell_owners(drill.environment, tag=Tag.DRILL_MOVED, subject=subject, text=text, at=at)


def note_sentinel(drill: Drill, newest_at: datetime) -> None:
    """Note on a locked drill the newest sentinel that it brought back, which tells how much would be lost."""
    drill.newest_sentinel_at = newest_at
    drill.save(update_fields=["newest_sentinel_at"])


def record_check(
    drill: Drill,
    *,
    name: str,
    level: int,
    is_passed: bool,
    is_about_copy: bool = True,
    sentence: str,
    actor: Actor,
    at: datetime,
) -> DrillCheck:
    """Record one question that a locked drill asked, and the answer. Raises `IllegalTransition` while it asks none."""
    if drill.state not in ASKING:
        raise IllegalTransition("A drill records checks while it is under way.")
    data = {"name": name, "level": level, "is_passed": is_passed, "sentence": sentence}
    is_about_copy = is_about_copy and level <= OF_THE_COPY
    check = DrillCheck.objects.create(drill=drill, **data, is_about_copy=is_about_copy, at=at)
    audit.record(Tag.DRILL_CHECKED, subject=drill, actor=actor, at=at, data=data, tenant=drill.tenant_id)
    return check


def finish_drill(
    drill: Drill, *, trouble: str = "", leftovers: str = "", faulty: str = "", actor: Actor, at: datetime
) -> None:
    """Give a locked drill that has torn down its verdict (BCK-8).

    What it found counts for the point, unless its copy was sabotaged; a fault of one that the point builds upon, which
    `faulty` then names, counts for that one and for whatever builds upon it. A failure opens a corrective action,
    and a draft of the change that mends it where something was found. One that was canceled has no verdict: it counts
    for nothing, and opens nothing; of what it left behind people are told.
    """
    if drill.canceled_at is not None:
        _finish_canceled(drill, leftovers=leftovers, actor=actor, at=at)
        return
    rows = list(drill.checks.all())
    results = [CheckResult(one.name, one.is_passed) for one in rows]
    verdict = judge_drill(results, trouble=trouble, leftovers=leftovers, is_sabotaged=bool(drill.sabotage))
    drill.trouble_found, drill.leftovers = trouble, leftovers
    drill.save(update_fields=["trouble_found", "leftovers"])
    move_drill(drill, "pass" if verdict.is_passed else "fail", sentence=verdict.sentence, actor=actor, at=at)
    if not drill.sabotage:
        _count_for_point(
            drill, rows, sentence=verdict.sentence, is_whole=not trouble, faulty=faulty, actor=actor, at=at
        )
    if not verdict.is_passed:
        open_corrective_action(drill, verdict=verdict, actor=actor, at=at)
        tell_owners(drill.environment, tag=Tag.DRILL_MOVED, subject="A drill failed", text=verdict.sentence, at=at)


def _finish_canceled(drill: Drill, *, leftovers: str, actor: Actor, at: datetime) -> None:
    drill.leftovers = leftovers
    drill.save(update_fields=["leftovers"])
    left = f" It left something behind: {leftovers}" if leftovers else ""
    move_drill(drill, "end_unjudged", sentence=f"{drill.cancellation}{left}", actor=actor, at=at)
    if leftovers:
        subject = "A drill left something behind"
        tell_owners(drill.environment, tag=Tag.DRILL_MOVED, subject=subject, text=leftovers, at=at)


def _at_fault(point: RecoveryPoint, faulty: str) -> RecoveryPoint:
    return next((one for one in chain_of(point) if one.key == faulty), point)


def _count_for_point(
    drill: Drill,
    rows: Sequence[DrillCheck],
    *,
    sentence: str,
    is_whole: bool,
    faulty: str,
    actor: Actor,
    at: datetime,
) -> None:
    """Record what the checks of a drill say of its point.

    What the shop itself had lost makes of its copy no set that counts as verified, and no broken one either: it is all
    there is. What does not run on a copy leaves it the levels it passed.
    """
    failed = [one for one in rows if not one.is_passed]
    worst = min((one for one in failed if one.is_about_copy), key=lambda one: one.level, default=None)
    if worst is None and not (rows and is_whole):
        return
    level = worst.level if worst else drill.level
    if worst is None and failed:
        first = min(one.level for one in failed)
        if first <= OF_THE_COPY:
            return
        level = max(one.level for one in rows if one.level < first)
        sentence = f"The copy passed every check up to level {level}. {sentence}"
    point = RecoveryPoint.objects.select_for_update(of=("self",)).get(pk=_at_fault(drill.point, faulty).pk)
    record_verification(
        point,
        level=level,
        is_passed=worst is None,
        sentence=worst.sentence if worst else sentence,
        drill=drill,
        actor=actor,
        at=at,
    )


@transaction.atomic
def plan_drill(*, policy: BackupPolicy, level: int, target_at: datetime, actor: Actor, at: datetime) -> Drill | None:
    """Begin the drill that a policy's cadence wants; None where one is under way, or the time is not covered.

    Nor does one begin of a point that does not go to the level.
    """
    environment = Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=policy.environment_id)
    if Drill.objects.filter(environment=environment, state__in=sorted(ACTIVE)).exists():
        return None
    try:
        return _begin(
            environment,
            point=point_at(environment, target_at),
            level=level,
            target_at=target_at,
            scope="By schedule.",
            sabotage="",
            actor=actor,
            by=None,
            at=at,
        )
    except (Conflict, Invalid):
        return None


def _begin(
    environment: Environment,
    *,
    point: RecoveryPoint,
    level: int,
    target_at: datetime,
    scope: str,
    sabotage: str,
    actor: Actor,
    by: User | None,
    at: datetime,
) -> Drill:
    _check_level(environment, point, level)
    objectives = objectives_of(environment)
    remembered: dict[str, int] = {}
    if level >= ELSEWHERE:
        if not point.git_commit:
            raise Conflict(f"The point {point.key} names no Git commit: nothing tells what ran with it.")
        # What is made elsewhere is taken down where it was made, whatever a later version of the policy says.
        remembered = {"policy": policy_of(environment).pk}
    drill = Drill.objects.create(
        environment=environment,
        key=uuid.uuid4(),
        point=point,
        data=remembered,
        level=level,
        sabotage=sabotage,
        target_at=target_at,
        asked_by=by,
        scope=scope.strip()[:500],
        rto_target_seconds=objectives.rto.total_seconds(),
        rpo_target_seconds=objectives.rpo.total_seconds(),
        declared_at=at,
        decided_at=at,
        next_due_at=at,
    )
    data = {
        "environment": environment.slug,
        "level": level,
        "point": drill.point.key,
        "target_at": target_at.isoformat(),
        "sabotage": sabotage,
    }
    audit.record(Tag.DRILL_STARTED, subject=drill, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    wiring.nudge("drill")
    return drill


@audited
@transaction.atomic
def sign_off_drill(*, actor: Actor, drill_id: int, note: str = "", at: datetime) -> SignOff:
    """Say that somebody other than its runner has read the report of a drill that is over (BCK-7)."""
    found = Drill.objects.filter(pk=drill_id).values_list("environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing="There is no such drill.")
    drill = Drill.objects.select_for_update(of=("self",)).select_related("asked_by").get(pk=drill_id)
    access.require(actor, Ability.RECOVERY_SIGN_OFF, environment)
    if drill.asked_by == actor.person:
        raise Forbidden("Somebody other than who ran a drill signs it off.")
    if drill.state not in ENDED:
        raise IllegalTransition("A drill is signed off once it is over.")
    if drill.state == DrillState.CANCELED:
        raise IllegalTransition("A canceled drill proves nothing, so it is not signed off.")
    if SignOff.objects.filter(drill=drill).exists():
        raise Conflict("This drill is signed off already.")
    signed = SignOff.objects.create(drill=drill, by=actor.person, at=at, note=note.strip()[:500])
    data = {"state": str(drill.state), "note": signed.note}
    audit.record(Tag.DRILL_SIGNED_OFF, subject=drill, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    if drill.asked_by is not None:
        outbox.post(
            to=[drill.asked_by],
            tag=str(Tag.DRILL_SIGNED_OFF),
            subject=f"{environment}: {drill} is signed off",
            text=f"{actor.person} signed it off. {signed.note}".strip(),
            at=at,
        )
    return signed


@audited
@transaction.atomic
def link_corrective_action(*, actor: Actor, corrective_action_id: int, number: str, at: datetime) -> CorrectiveAction:
    """Name the change that mends a finding of a drill, whose evidence pack then carries the drill's report.

    Raises `Invalid` for a number that names no change of the same tenant in sight, and `Conflict` once it is closed.
    """
    todo, environment = _locked_action(actor, corrective_action_id)
    if not todo.is_open:
        raise Conflict("This corrective action is closed already.")
    try:
        change = change_by_number(access.scope_of(actor), number.strip())
    except NotFound:
        change = None
    if change is None or change.tenant_id != environment.tenant_id:
        sentence = "There is no such change of this tenant: write its number, such as CHG-000142."
        raise Invalid(sentence, fields={"number": [sentence]})
    link_change(todo, change, actor=actor, at=at)
    return todo


@audited
@transaction.atomic
def close_corrective_action(*, actor: Actor, corrective_action_id: int, note: str, at: datetime) -> CorrectiveAction:
    """Say what was done about a finding of a drill. Raises `Conflict` where somebody has said so before."""
    todo, environment = _locked_action(actor, corrective_action_id)
    words = reason_of(note, field="note", sentence="Say what was done: it stays in the report.")
    if not todo.is_open:
        raise Conflict("This corrective action is closed already.")
    todo.closed_at, todo.closed_by, todo.closing_note = at, actor.person, words[:500]
    todo.save(update_fields=["closed_at", "closed_by", "closing_note"])
    data = {"corrective_action": todo.pk, "title": todo.title, "note": todo.closing_note}
    audit.record(
        Tag.DRILL_ACTION_CLOSED, subject=todo.drill, actor=actor, at=at, data=data, tenant=environment.tenant_id
    )
    return todo


def _locked_action(actor: Actor, corrective_action_id: int) -> tuple[CorrectiveAction, Environment]:
    """Lock what must be done about a finding, after its environment, where the actor may say so."""
    found = CorrectiveAction.objects.filter(pk=corrective_action_id).values_list("drill__environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing="There is no such corrective action.")
    rows = CorrectiveAction.objects.select_for_update(of=("self",)).select_related("drill")
    todo = rows.get(pk=corrective_action_id)
    access.require(actor, Ability.RECOVERY_DRILL, environment)
    return todo, environment
