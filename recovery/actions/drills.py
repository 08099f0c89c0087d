"""Drills: begun by a person or by schedule, each check recorded, ended with a verdict, signed off by another person."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction

from changecontrol import access, audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.errors import Conflict, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.rules.roles import Ability
from recovery.actions.locking import locked_environment, policy_of
from recovery.actions.points import owners_of, record_verification, tell_owners
from recovery.actions.refusals import audited
from recovery.actions.restores import REACHED_AT, point_at
from recovery.lifecycles.drill import ACTIVE, DRILL, ENDED, DrillState
from recovery.models import CorrectiveAction, Drill, DrillCheck, RecoveryPoint, SignOff
from recovery.models.drill import Sabotage
from recovery.queries.points import objectives_of
from recovery.rules.verification import LEVELS, CheckResult, judge_drill

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

    The RTO clock starts now. Raises `Conflict` where one is under way, or the time is not covered.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_DRILL, environment)
    policy_of(environment)
    if level not in LEVELS:
        raise Invalid("A drill has a level from 1 to 5.", fields={"level": ["Choose a level from 1 to 5."]})
    if sabotage and sabotage not in set(Sabotage):
        raise Invalid(
            "A part is truncated, flipped, removed or swapped.", fields={"sabotage": ["Choose one of these."]}
        )
    if Drill.objects.filter(environment=environment, state__in=sorted(ACTIVE)).exists():
        raise Conflict("A drill of this environment is under way already.")
    objectives = objectives_of(environment)
    drill = Drill.objects.create(
        environment=environment,
        key=uuid.uuid4(),
        point=point_at(environment, target_at),
        level=level,
        sabotage=sabotage,
        target_at=target_at,
        asked_by=actor.person,
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


def move_drill(drill: Drill, verb: str, *, sentence: str, actor: Actor, at: datetime) -> None:
    """Move a locked drill by a verb of its lifecycle, and note when a part of the time to recover ended."""
    before = str(drill.state)
    drill.state = DRILL.target(verb, drill.state)
    drill.sentence = sentence
    fields = ["state", "sentence"]
    # What was torn down early has not got so far.
    if verb in ENDS_PART and (verb != "tear_down" or before == DrillState.CHECKING):
        setattr(drill, ENDS_PART[verb], at)
        fields.append(ENDS_PART[verb])
    if drill.state in ENDED:
        drill.finished_at, drill.next_due_at = at, None
        fields += ["finished_at", "next_due_at"]
    drill.save(update_fields=fields)
    data = {"verb": verb, "from": before, "to": str(drill.state), "sentence": sentence}
    audit.record(Tag.DRILL_MOVED, subject=drill, actor=actor, at=at, data=data, tenant=drill.tenant_id)


def record_check(
    drill: Drill, *, name: str, level: int, is_passed: bool, sentence: str, actor: Actor, at: datetime
) -> DrillCheck:
    """Record one question that a locked drill asked, and the answer. Raises `IllegalTransition` while it asks none."""
    if drill.state != DrillState.CHECKING:
        raise IllegalTransition("A drill records checks while it is checking.")
    check = DrillCheck.objects.create(
        drill=drill, name=name, level=level, is_passed=is_passed, sentence=sentence, at=at
    )
    data = {"name": name, "level": level, "is_passed": is_passed, "sentence": sentence}
    audit.record(Tag.DRILL_CHECKED, subject=drill, actor=actor, at=at, data=data, tenant=drill.tenant_id)
    return check


def finish_drill(drill: Drill, *, trouble: str = "", leftovers: str = "", actor: Actor, at: datetime) -> None:
    """Give a locked drill that has torn down its verdict (BCK-8).

    What it found counts for the point, unless its copy was sabotaged. A failure opens a corrective action.
    """
    rows = list(drill.checks.all())
    results = [CheckResult(one.name, one.is_passed) for one in rows]
    verdict = judge_drill(results, trouble=trouble, leftovers=leftovers, is_sabotaged=bool(drill.sabotage))
    drill.trouble_found, drill.leftovers = trouble, leftovers
    drill.save(update_fields=["trouble_found", "leftovers"])
    move_drill(drill, "pass" if verdict.is_passed else "fail", sentence=verdict.sentence, actor=actor, at=at)
    failed = [one for one in rows if not one.is_passed]
    if not drill.sabotage and (failed or (rows and not trouble)):
        point = RecoveryPoint.objects.select_for_update(of=("self",)).get(pk=drill.point_id)
        worst = min(failed, key=lambda one: one.level, default=None)
        record_verification(
            point,
            level=worst.level if worst else drill.level,
            is_passed=worst is None,
            sentence=worst.sentence if worst else verdict.sentence,
            drill=drill,
            actor=actor,
            at=at,
        )
    if not verdict.is_passed:
        owner = next(iter(owners_of(drill.environment, at=at)), None)
        title = f"Drill {drill.pk} failed: {verdict.sentence}"
        CorrectiveAction.objects.create(drill=drill, title=title[:200], owner=owner, opened_at=at)
        tell_owners(drill.environment, tag=Tag.DRILL_MOVED, subject="A drill failed", text=verdict.sentence, at=at)


@audited
@transaction.atomic
def sign_off_drill(*, actor: Actor, drill_id: int, note: str = "", at: datetime) -> SignOff:
    """Say that somebody other than its runner has read the report of a drill that is over (BCK-7)."""
    environment_id = Drill.objects.filter(pk=drill_id).values_list("environment_id", flat=True).first()
    if environment_id is None:
        raise NotFound("There is no such drill.")
    environment = locked_environment(actor, environment_id)
    drill = Drill.objects.select_for_update(of=("self",)).select_related("asked_by").get(pk=drill_id)
    access.require(actor, Ability.RECOVERY_SIGN_OFF, environment)
    if drill.asked_by == actor.person:
        raise Forbidden("Somebody other than who ran a drill signs it off.")
    if drill.state not in ENDED:
        raise IllegalTransition("A drill is signed off once it is over.")
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
