"""Every write of a rollout. The caller holds the locks on change and run (or on one target) and the transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from changecontrol import access, audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.actions.approvals import recheck_approval
from changecontrol.actions.execution import fail_change, finish_change, review_change, start_change
from changecontrol.actions.locking import locked_change, move, write
from changecontrol.actions.refusals import audited
from changecontrol.actions.runs import (
    NewTarget,
    clear_intent,
    create_run,
    move_run,
    move_target,
    needs_attention,
    people_of,
    write_log,
)
from changecontrol.errors import Conflict, IllegalTransition
from changecontrol.events import Tag
from changecontrol.gathering import gathering
from changecontrol.lifecycles.change import EXECUTING, ChangeState, CloseCode
from changecontrol.lifecycles.run import TARGET, PauseReason, RunState, TargetState
from changecontrol.models import ChangeRequest, Run, RunTarget
from changecontrol.models.run import RunKind
from changecontrol.queries import windows
from changecontrol.rules.roles import Ability
from changecontrol.workflow.locks import acquire_locks, release_locks
from deployments.approved import Approved
from deployments.models import Measurement

AT_REST = frozenset({TargetState.HEALTHY, TargetState.REVERTED, TargetState.SKIPPED})
UNTOUCHED = frozenset({TargetState.PENDING, TargetState.SKIPPED, TargetState.REVERTED})


@transaction.atomic
def open_rollout(*, change_id: int, actor: Actor, at: datetime) -> Run | None:
    """Begin to carry out a scheduled change whose time has come, or return None where it may not begin now.

    Window, freeze and approval are asked on the locked row; the environments' locks are taken with the run (WIN-13).
    """
    change = ChangeRequest.objects.select_for_update(of=("self",)).select_related("plan", "revision").get(pk=change_id)
    is_due = change.planned_start_at is None or change.planned_start_at <= at
    if change.state != ChangeState.SCHEDULED or change.plan is None or not is_due:
        return None
    if Run.objects.filter(change=change, kind=RunKind.ROLLOUT).active().exists():
        return None
    approved = Approved.of(change.plan)
    if not windows.is_start_allowed(windows.judge_change(change, at=at, content=approved.content)):
        return None
    if not recheck_approval(change, actor=actor, at=at):
        return None
    try:
        with transaction.atomic():
            return _create(change, approved, actor=actor, at=at)
    except Conflict:
        return None  # somebody else's run holds an environment; the next sweep asks again


@audited
def start_now(*, actor: Actor, change_id: int, at: datetime) -> Run:
    """Begin a scheduled change before its planned start, because a person says so. The window still decides."""
    with transaction.atomic():
        change = locked_change(actor, change_id)
        access.require(actor, Ability.RUN_START, change)
        if change.state != ChangeState.SCHEDULED:
            raise IllegalTransition("Only a scheduled change can be started.")
        write(change, at=at, planned_start_at=None)
        run = open_rollout(change_id=change_id, actor=access.system_actor(), at=at)
        if run is None:
            raise Conflict(_why_not(change, at=at))
        audit.record(Tag.RUN_ASKED, subject=run, change=change, actor=actor, at=at, data={"verb": "start"})
        write_log(run, icon="player-play", sentence=f"{actor.person} asked to start.", at=at)
    return run


def open_wave(run: Run, number: int, *, actor: Actor, at: datetime) -> None:
    """Open a wave of a locked run, and with the first one begin the change itself."""
    wave = Approved.of(run.plan).wave(number)  # type: ignore[arg-type]
    if run.change.state == ChangeState.SCHEDULED:
        start_change(run.change, run=run, actor=actor, at=at)
    is_new = run.wave_opened_at is None or run.wave != number
    sentence = f"Wave {number}, {wave.name}, is open." if is_new else f"Wave {number}, {wave.name}, goes on."
    fields: dict[str, Any] = {"bakes_until": None}
    if is_new:
        fields |= {"wave": number, "wave_opened_at": at, "data": {**run.data, "opened": []}}
    if run.state in (RunState.PREFLIGHT, RunState.BAKING):
        move_run(run, "advance", sentence=sentence, actor=actor, at=at, **fields)
        return
    # From a promoted or skipped wave the run is under way already: no move, but the same record.
    for name, value in {**fields, "sentence": sentence}.items():
        setattr(run, name, value)
    run.save(update_fields=[*fields, "sentence"])
    data = {"verb": "open_wave", "from": run.state, "to": run.state, "wave": number, "sentence": sentence}
    audit.record(Tag.RUN_MOVED, subject=run, change=run.change, actor=actor, at=at, data=data)
    write_log(run, icon="player-play", sentence=sentence, at=at)


def await_restore(run: Run, *, step: str, sentence: str, at: datetime) -> None:
    """Let a locked run of a restore wait in its preflight, by a step that recovery looks for."""
    run.step, run.sentence = step, sentence
    run.save(update_fields=["step", "sentence"])
    write_log(run, icon="database", sentence=sentence, at=at)
    wiring.nudge("cut_over")


def say(run: Run, sentence: str) -> None:
    """Write down how far a locked run is. It is no event: the moves around it are."""
    if run.sentence != sentence:
        run.sentence = sentence
        run.save(update_fields=["sentence"])


def update_targets(run: Run, keys: Iterable[int], *, actor: Actor, at: datetime) -> None:
    """Let these pending targets of a locked run be updated, each by a worker of its own."""
    rows = RunTarget.objects.select_for_update().filter(run=run, pk__in=list(keys), state=TargetState.PENDING)
    with gathering():
        for target in rows.select_related("environment").order_by("pk"):
            target.run = run
            sentence = f"{target}: being updated."
            move_target(
                target,
                "update",
                sentence=sentence,
                actor=actor,
                at=at,
                log=False,
                next_due_at=at,
                attempts=0,
            )
    wiring.nudge("target")


def fail_targets(run: Run, found: Mapping[int, str], *, actor: Actor, at: datetime) -> None:
    """Take targets of a locked run that were healthy and no longer are for failed."""
    rows = RunTarget.objects.select_for_update().filter(run=run, pk__in=list(found), state=TargetState.HEALTHY)
    for target in rows.select_related("environment").order_by("pk"):
        target.run = run
        move_target(target, "fail", sentence=found[target.pk], actor=actor, at=at)


def pause(run: Run, reason: PauseReason, sentence: str, *, actor: Actor, at: datetime) -> None:
    """Stop a locked run where it stands. Whoever can act is told, unless a window or a person is the reason."""
    data = {**run.data, "paused_at": at.isoformat()}
    move_run(run, "pause", sentence=sentence, pause_reason=reason, actor=actor, at=at, data=data)
    if reason not in (PauseReason.BY_PERSON, PauseReason.WINDOW_CLOSED):
        needs_attention(run, sentence=sentence, actor=actor, at=at)


def resume(run: Run, sentence: str, *, actor: Actor, at: datetime) -> None:
    """Go on: through preflight, which asks everything again. What failed or was out of reach gets another try."""
    kept = {key: value for key, value in run.data.items() if not key.startswith("analysis")}
    data = {**kept, "preflight_at": at.isoformat()}
    # Whatever it waited for is begun anew, or found, once everything has been asked again.
    move_run(run, "resume", sentence=sentence, actor=actor, at=at, data=data, step="")
    # What was measured stays; what is measured from now on is judged by itself.
    Measurement.objects.filter(run=run, ended_at__isnull=True).update(ended_at=at)
    rows = RunTarget.objects.select_for_update().filter(
        run=run, wave__lte=run.wave, state__in=[TargetState.FAILED, TargetState.DEFERRED]
    )
    for target in rows.select_related("environment").order_by("pk"):
        target.run = run
        retry_target(target, sentence=f"{target}: tried again.", actor=actor, at=at, next_due_at=None)


def retry_target(target: RunTarget, *, sentence: str, actor: Actor, at: datetime, **fields: Any) -> None:
    """Take a locked target up again from the start. What was there before the run is known already, and stays known."""
    applied = [_without(one, "at") for one in target.applied if "problem" not in one]
    move_target(target, "retry", sentence=sentence, actor=actor, at=at, applied=applied, **fields)


def own_up(run: Run, *, actor: Actor, at: datetime) -> None:
    """Record what a worker that has not settled may have applied: nobody will look, and none can tell otherwise."""
    unsettled = run.targets.filter(state=TargetState.UPDATING, lease_token__isnull=False, is_reverting=False)
    # Rows before their events, as a target's own settlement takes them: the other order could wait for each other.
    for target in unsettled.select_related("environment").select_for_update(of=("self",)).order_by("pk"):
        for ref in (one["ref"] for one in target.applied if "existed" in one and "at" not in one):
            data = {"target": str(target), "object": ref, "is_certain": False}
            audit.record(Tag.OBJECT_APPLIED, subject=target, change=run.change, actor=actor, at=at, data=data)
            sentence = f"{target}: {ref} was to be applied, and may have been."
            write_log(run, target=target, icon="upload", sentence=sentence, at=at)


def begin_rollback(run: Run, *, why: str, actor: Actor, at: datetime) -> None:
    """Decide on going back, for everything that was touched. Raises `Conflict` where another run holds a place."""
    ids = list(run.targets.values_list("environment_id", flat=True).distinct())
    acquire_locks(run, ids, at=at)
    _end_measurements(run, at=at, sentence="Ended early: the run is rolled back.")
    move_run(
        run,
        "roll_back",
        sentence=f"Rolling back. {why}",
        actor=actor,
        at=at,
        step="",
        detected_at=run.detected_at or at,
        rollback_decided_at=at,
        rollback_started_at=None,
        rollback_serving_at=None,
        rollback_verified_at=None,
    )
    audit.record(
        Tag.SAFETY_ACTION, subject=run, change=run.change, actor=actor, at=at, data={"verb": "roll_back", "reason": why}
    )
    own_up(run, actor=actor, at=at)
    for target in RunTarget.objects.select_for_update().filter(run=run).order_by("pk"):
        is_touched = TargetState(target.state) not in UNTOUCHED or bool(target.applied)
        is_done = target.state == TargetState.REVERTED
        target.is_reverting = is_touched and not is_done
        target.next_due_at = at if target.is_reverting else None
        target.attempts = 0
        target.applied = [_without(one, "reverted_at", "revert_generation", "problem") for one in target.applied]
        target.save(update_fields=["is_reverting", "next_due_at", "attempts", "applied"])
    outbox.post(
        to=people_of(run.change, at=at),
        tag="run:rolling_back",
        subject=f"{run.change.number} is being rolled back",
        text=why,
        at=at,
        change=run.change,
    )
    wiring.nudge("target")


def note_time(run: Run, field: str, *, at: datetime, sentence: str, icon: str = "clock") -> None:
    """Write down one of the separate times of a rollback (RBK-5)."""
    setattr(run, field, at)
    run.save(update_fields=[field])
    write_log(run, icon=icon, sentence=sentence, at=at)


def finish_rollback(run: Run, *, actor: Actor, at: datetime) -> None:
    """Everything touched serves what it served before, and Git says so: the run ends, the change goes to review."""
    sentence = "Rolled back: what was touched runs the content from before, and Git says so."
    move_run(run, "finish_rollback", sentence=sentence, actor=actor, at=at, next_due_at=None)
    release_locks(run)
    _to_review(run.change, CloseCode.ROLLED_BACK, note=f"{sentence} {_cause(run)}".strip(), actor=actor, at=at)


def fail_rollback(run: Run, *, why: str, actor: Actor, at: datetime) -> None:
    """The way back failed: sound the alarm. A person may try again, or restore (RBK-5)."""
    sentence = f"The rollback failed. {why}"
    move_run(run, "fail_rollback", sentence=sentence, actor=actor, at=at, next_due_at=None)
    RunTarget.objects.filter(run=run).update(next_due_at=None)
    release_locks(run)
    needs_attention(run, sentence=f"{sentence} Try the rollback again, or restore.", actor=actor, at=at)
    _to_review(run.change, CloseCode.FAILED, note=sentence, actor=actor, at=at)


def finish_abort(run: Run, *, actor: Actor, at: datetime) -> None:
    """Freeze in place and say what is where. Nothing is taken back (RUN-5)."""
    own_up(run, actor=actor, at=at)
    RunTarget.objects.filter(run=run).update(next_due_at=None)
    _end_measurements(run, at=at, sentence="Ended early: the run was aborted.")
    sentence = f"Aborted. {where_things_stand(run.targets.select_related('environment'))}"
    move_run(run, "finish_abort", sentence=sentence, actor=actor, at=at, next_due_at=None)
    release_locks(run)
    _end_change(run, CloseCode.FAILED, note=f"{sentence} {run.intent_reason}".strip(), actor=actor, at=at)


def end_before_start(run: Run, *, sentence: str, actor: Actor, at: datetime) -> None:
    """End a run that had not begun, because its change moved on without it."""
    move_run(run, "fail", sentence=sentence, actor=actor, at=at, next_due_at=None)
    release_locks(run)


def succeed(run: Run, *, actor: Actor, at: datetime) -> None:
    """Every wave is healthy and baked, and Git names what runs: on to validation and review."""
    count = run.targets.filter(state=TargetState.HEALTHY).count()
    sentence = f"Done: {count} targets run the new version, and Git names it."
    move_run(run, "succeed", sentence=sentence, actor=actor, at=at, next_due_at=None)
    release_locks(run)
    finish_change(run.change, actor=actor, at=at)
    review_change(run.change, actor=actor, at=at, note=sentence)


def obeyed(run: Run) -> None:
    """Forget an intent that was carried out, or that the run had already passed."""
    if run.intent:
        clear_intent(run)


def where_things_stand(targets: Iterable[RunTarget]) -> str:
    """Say which targets run what, in words."""
    named: dict[str, list[str]] = {"On the new version": [], "In between": [], "Untouched": []}
    for target in targets:
        if target.state == TargetState.HEALTHY:
            named["On the new version"].append(str(target))
        elif target.applied:
            named["In between"].append(str(target))
        else:
            named["Untouched"].append(str(target))
    parts = [f"{words}: {_listed(names)}." for words, names in named.items() if names]
    return " ".join(parts)


def _create(change: ChangeRequest, approved: Approved, *, actor: Actor, at: datetime) -> Run:
    environments = {one.slug: one for one in change.environments.prefetch_related("cohorts")}
    targets = []
    for one in approved.document["targets"]:
        environment = environments[one["environment"]]
        cohort = next((each for each in environment.cohorts.all() if each.slug == one["cohort"]), None)
        targets.append(
            NewTarget(environment=environment, cohort=cohort, wave=int(one["wave"]), workload=one["workload"])
        )
    run = create_run(
        change,
        kind=RunKind.ROLLOUT,
        revision=change.revision,
        plan=change.plan,
        targets=targets,
        data={"preflight_at": at.isoformat(), "opened": [], "skipped": [], "promoted": []},
        actor=actor,
        at=at,
    )
    acquire_locks(run, [one.pk for one in environments.values()], at=at)
    return run


def _why_not(change: ChangeRequest, *, at: datetime) -> str:
    approved = Approved.of(change.plan)
    verdicts = windows.judge_change(change, at=at, content=approved.content)
    closed = [one.sentence for one in verdicts if one.wave == 0 and not one.judgement.is_open]
    if not windows.is_start_allowed(verdicts) and closed:
        return f"It cannot start now. {closed[0]}"
    return "It cannot start now: its approval no longer holds, or another change has one of its environments."


def _end_change(run: Run, code: CloseCode, *, note: str, actor: Actor, at: datetime) -> None:
    """Send a change that had begun to review, and hold one that had not: it must not start again by itself."""
    if run.change.state == ChangeState.SCHEDULED:
        move(run.change, "hold", at=at, hold_reason=note[:500])
        audit.record(Tag.CHANGE_HELD, subject=run.change, actor=actor, at=at, data={"reason": note})
        return
    _to_review(run.change, code, note=note, actor=actor, at=at)


def _to_review(change: ChangeRequest, code: CloseCode, *, note: str, actor: Actor, at: datetime) -> None:
    if change.state in EXECUTING:
        fail_change(change, close_code=code, note=note, actor=actor, at=at)
    elif change.state == ChangeState.REVIEW:
        # A rollback asked for during the review, or tried again: what is proposed changes, the state does not.
        write(change, at=at, close_code=code, close_note=note)
        data = {"proposed": str(code), "note": note}
        audit.record(Tag.CHANGE_IN_REVIEW, subject=change, actor=actor, at=at, data=data)
    elif change.state == ChangeState.SCHEDULED:
        move(change, "hold", at=at, hold_reason=note[:500])
        audit.record(Tag.CHANGE_HELD, subject=change, actor=actor, at=at, data={"reason": note})


def _end_measurements(run: Run, *, at: datetime, sentence: str) -> None:
    """An analysis that is ended early is canceled: it is neither a pass nor a failure (ANA-2)."""
    Measurement.objects.filter(run=run, ended_at__isnull=True).exclude(verdict="fail").update(
        ended_at=at, sentence=sentence
    )
    Measurement.objects.filter(run=run, ended_at__isnull=True).update(ended_at=at)


def _without(entry: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in keys}


def _cause(run: Run) -> str:
    return str(run.data.get("cause", ""))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


RETRY_DEFERRED = timedelta(seconds=60)
"""How often a target that is out of reach is tried again (RUN-4)."""


def can(target: RunTarget, verb: str) -> bool:
    return TARGET.allows(verb, target.state)
