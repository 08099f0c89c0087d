"""Runs: created for a change, moved by workflows with an event and a line of log each, and asked for by people.

Whoever calls `create_run`, `move_run` or `move_target` holds the lock on the row. A person's word is only written down
here; the next tick obeys it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from changecontrol import access, audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Conflict, IllegalTransition, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.gathering import gather
from changecontrol.lifecycles.run import ENDED, RUN, SAFETY_VERBS, TARGET, PauseReason, RunState, TargetState
from changecontrol.models import ChangeRequest, Cohort, Environment, Plan, Revision, Run, RunLog, RunTarget, User
from changecontrol.models.run import RunKind
from changecontrol.rules.roles import Ability, Role
from changecontrol.rules.words import seen
from changecontrol.workflow import engine

ABILITY_OF: Mapping[str, Ability] = {
    "start": Ability.RUN_START,
    "pause": Ability.RUN_PAUSE,
    "resume": Ability.RUN_RESUME,
    "promote": Ability.RUN_PROMOTE,
    "skip": Ability.RUN_SKIP,
    "abort": Ability.RUN_ABORT,
    "roll_back": Ability.RUN_ROLL_BACK,
}
REASON_REQUIRED = frozenset({"abort", "roll_back", "skip"})
ASKED: Mapping[str, str] = {
    "start": "to start",
    "pause": "to pause",
    "resume": "to resume",
    "promote": "to promote the next wave",
    "skip": "to skip the rest of the bake",
    "abort": "to abort",
    "roll_back": "to roll back",
}
ICONS: Mapping[str, str] = {
    "start": "player-play",
    "wait": "clock",
    "advance": "player-play",
    "bake": "hourglass",
    "await_promotion": "hand-stop",
    "promote": "player-track-next",
    "skip": "player-track-next",
    "pause": "player-pause",
    "resume": "player-play",
    "abort": "player-stop",
    "finish_abort": "player-stop",
    "roll_back": "arrow-back-up",
    "finish_rollback": "arrow-back-up",
    "fail_rollback": "alert-triangle",
    "succeed": "circle-check",
    "fail": "circle-x",
    "update": "refresh",
    "finish_update": "upload",
    "confirm": "circle-check",
    "defer": "clock-pause",
    "retry": "refresh",
    "revert": "arrow-back-up",
}


@dataclass(frozen=True, slots=True)
class NewTarget:
    """One target of a run to be: a workload of an environment, or with an empty `workload` what they share."""

    environment: Environment
    cohort: Cohort | None
    wave: int
    workload: str


def create_run(
    change: ChangeRequest,
    *,
    kind: RunKind,
    revision: Revision,
    plan: Plan | None,
    targets: Iterable[NewTarget] = (),
    data: Mapping[str, Any] | None = None,
    actor: Actor,
    at: datetime,
) -> Run:
    """Create a run of a locked change, due at once. The database refuses a second active one of the same kind."""
    run = Run.objects.create(
        change=change, revision=revision, plan=plan, kind=kind, data=dict(data or {}), created_at=at, next_due_at=at
    )
    rows = RunTarget.objects.bulk_create(
        RunTarget(run=run, environment=one.environment, cohort=one.cohort, wave=one.wave, workload=one.workload)
        for one in targets
    )
    audit.record(
        Tag.RUN_CREATED,
        subject=run,
        change=change,
        actor=actor,
        at=at,
        data={
            "kind": str(kind),
            "plan": plan.digest if plan else "",
            "revision": revision.number,
            "targets": len(rows),
        },
    )
    wiring.nudge(str(kind))
    return run


def move_run(
    run: Run,
    verb: str,
    *,
    sentence: str,
    actor: Actor,
    at: datetime,
    pause_reason: PauseReason | None = None,
    log: bool = True,
    **fields: Any,
) -> None:
    """Move a locked run by a verb of its lifecycle, with its event and a line of log. `fields` are written beside."""
    before = RunState(run.state)
    after = RUN.target(verb, before)
    run.state = after
    run.sentence = sentence
    run.pause_reason = pause_reason or ""
    if verb in ("start", "advance") and run.started_at is None:
        run.started_at = at
    run.finished_at = at if after in ENDED else None
    for name, value in fields.items():
        setattr(run, name, value)
    run.save(
        update_fields=[
            "state",
            "sentence",
            "pause_reason",
            "started_at",
            "finished_at",
            *fields,
        ]
    )
    audit.record(
        Tag.RUN_MOVED,
        subject=run,
        change=run.change,
        actor=actor,
        at=at,
        data={
            "verb": verb,
            "from": str(before),
            "to": str(after),
            "wave": run.wave,
            "pause_reason": run.pause_reason,
            "sentence": sentence,
        },
    )
    if log:
        write_log(run, icon=ICONS.get(verb, "point"), sentence=sentence, at=at)


def move_target(
    target: RunTarget,
    verb: str,
    *,
    sentence: str,
    actor: Actor,
    at: datetime,
    detail: str = "",
    log: bool = True,
    **fields: Any,
) -> None:
    """Move a locked target by a verb of its lifecycle, with an event in the target's own chain."""
    before = TargetState(target.state)
    after = TARGET.target(verb, before)
    target.state = after
    target.sentence = sentence
    if verb == "update" and target.started_at is None:
        target.started_at = at
    target.finished_at = at if after in (TargetState.HEALTHY, TargetState.REVERTED, TargetState.FAILED) else None
    for name, value in fields.items():
        setattr(target, name, value)
    target.save(update_fields=["state", "sentence", "started_at", "finished_at", *fields])
    audit.record(
        Tag.TARGET_MOVED,
        subject=target,
        change=target.run.change,
        actor=actor,
        at=at,
        data={
            "run": target.run_id,
            "target": str(target),
            "verb": verb,
            "from": str(before),
            "to": str(after),
            "sentence": sentence,
        },
    )
    if log:
        write_log(target.run, target=target, icon=ICONS.get(verb, "point"), sentence=sentence, detail=detail, at=at)


def write_log(
    run: Run, *, sentence: str, at: datetime, icon: str = "point", detail: str = "", target: RunTarget | None = None
) -> RunLog:
    """Add a line to the live log, in the transaction of what it speaks of."""
    line = RunLog(run=run, target=target, at=at, icon=icon, sentence=sentence, detail=detail)
    if not gather(_write_lines, line):
        line.save(force_insert=True)
    return line


def _write_lines(lines: list[RunLog]) -> None:
    RunLog.objects.bulk_create(lines)


@audited
@transaction.atomic
def ask_run(*, actor: Actor, run_id: int, verb: str, reason: str = "", at: datetime) -> Run:
    """Write down what a person asks of a run; the next tick obeys.

    Pause, abort and rollback are safety actions: no window, freeze or digest stops them, and they are recorded as such
    (WIN-8). Raises `NotFound`, `Forbidden`, `IllegalTransition`, `Conflict`, and `Invalid` where a reason is due.
    """
    run = lock_run(run_id)
    if run is None or not access.visible(sight_of(actor), Run.objects.filter(pk=run_id)).exists():
        raise NotFound("There is no such run.")
    if verb not in ABILITY_OF or run.kind != RunKind.ROLLOUT:
        raise Invalid(f"A run cannot be asked to “{verb}”.")
    access.require(actor, ABILITY_OF[verb], run)
    reason = reason.strip()
    if (reason or verb in REASON_REQUIRED) and not seen(reason):
        raise Invalid("Say why.", fields={"reason": ["Say why: it stays in the record."]})
    if run.intent and not (verb in SAFETY_VERBS and verb != run.intent):
        raise Conflict(f"The run has already been asked {ASKED[run.intent]}.")
    RUN.target(verb, run.state)
    if verb == "roll_back":
        _require_no_later_run(run)
    if verb == "promote" and run.state != RunState.AWAITING_PROMOTION:
        raise IllegalTransition("No wave waits for promotion.")
    run.intent = verb
    run.intent_by = actor.person
    run.intent_at = at
    run.intent_reason = reason[:500]
    run.save(update_fields=["intent", "intent_by", "intent_at", "intent_reason"])
    data = {"verb": verb, "reason": reason, "state": run.state}
    audit.record(Tag.RUN_ASKED, subject=run, change=run.change, actor=actor, at=at, data=data)
    if verb in SAFETY_VERBS:
        audit.record(Tag.SAFETY_ACTION, subject=run, change=run.change, actor=actor, at=at, data=data)
    why = f" “{reason}”" if reason else ""
    write_log(
        run, icon=ICONS[verb], sentence=f"{actor.person.display_name or actor.person} asked {ASKED[verb]}.{why}", at=at
    )
    engine.release(run, at=at)
    wiring.nudge(run.kind)
    return run


def clear_intent(run: Run) -> None:
    """Forget what was asked, once it is obeyed or cannot be. The log and the trail keep it."""
    run.intent = ""
    run.save(update_fields=["intent"])


def lock_run(run_id: int) -> Run | None:
    """Lock a run's change, then the run, and return it; None where there is none."""
    change_id = Run.objects.filter(pk=run_id).values_list("change_id", flat=True).first()
    if change_id is None:
        return None
    # Not their keys: what targets and log lines say of them may be committed meanwhile, and need not wait for us.
    change = ChangeRequest.objects.select_for_update(of=("self",), no_key=True).get(pk=change_id)
    runs = Run.objects.select_for_update(of=("self",), no_key=True)
    run = runs.select_related("plan", "revision", "intent_by").get(pk=run_id)
    run.change = change
    return run


def needs_attention(run: Run, *, sentence: str, actor: Actor, at: datetime) -> None:
    """Tell those who can act that a locked run stands still and why."""
    audit.record(
        Tag.RUN_NEEDS_ATTENTION, subject=run, change=run.change, actor=actor, at=at, data={"sentence": sentence}
    )
    outbox.post(
        to=people_of(run.change, at=at),
        tag=str(Tag.RUN_NEEDS_ATTENTION),
        subject=f"{run.change.number} needs attention",
        text=sentence,
        at=at,
        change=run.change,
    )


def people_of(change: ChangeRequest, *, at: datetime) -> list[User]:
    """Return who looks after a change under way: requester, assignee and the release operators of its environments."""
    ids = change.environments.values_list("pk", flat=True)
    people = list(access.holders(Role.RELEASE_OPERATOR, tenant_id=change.tenant_id, environment_ids=ids, at=at))
    return [change.requester, *([change.assignee] if change.assignee else []), *people]


def _require_no_later_run(run: Run) -> None:
    """Refuse to bring back what was there before a run that others have built on."""
    if run.state not in ENDED:
        return
    later = (
        Run.objects.filter(kind=run.kind, pk__gt=run.pk, targets__environment__in=run.targets.values("environment"))
        .select_related("change")
        .first()
    )
    if later is not None:
        raise Conflict(
            f"{later.change.number} has run in the same environment since. Roll that back, or file a new change."
        )


POLL = timedelta(seconds=5)
"""How long a run or target that waits for the world lets pass before it looks again."""
