"""What people ask of a run: the tick that finds it obeys, if it is not too late."""

from __future__ import annotations

from datetime import datetime

from changecontrol.access import Actor
from changecontrol.actions.runs import move_run, write_log
from changecontrol.lifecycles.run import RUN, PauseReason, RunState
from changecontrol.models import Run
from changecontrol.workflow.engine import Settlement
from deployments.actions import rollouts
from deployments.workflows.settling import NOW, settled_run


def obey(row: Run, at: datetime) -> Settlement[Run]:
    """Do what was asked last, in the name of who asked; say so where it came too late."""
    verb, why, who = row.intent, row.intent_reason, row.intent_by

    def write(run: Run, actor: Actor) -> None:
        if run.intent != verb or run.intent_at != row.intent_at:
            return  # something else was asked meanwhile: the next tick obeys that
        rollouts.obeyed(run)
        if not RUN.allows(verb, run.state):
            sentence = f"The run has moved on to “{RunState(run.state).label.lower()}”: “{verb}” came too late."
            write_log(run, icon="info-circle", sentence=sentence, at=at)
            return
        name = str(who) if who else "Somebody"
        said = f" “{why}”" if why else ""
        by = Actor(user=who, via="worker", correlation_id=actor.correlation_id) if who else actor
        _do(run, verb, words=f"{name}{said}", actor=by, at=at)

    return settled_run(write, due_in=NOW)


def _do(run: Run, verb: str, *, words: str, actor: Actor, at: datetime) -> None:
    """Carry out what a person asked of a locked run."""
    match verb:
        case "start":
            move_run(run, "start", sentence=f"Started by {words}.", actor=actor, at=at)
        case "pause":
            rollouts.pause(run, PauseReason.BY_PERSON, f"Paused by {words}.", actor=actor, at=at)
        case "resume":
            rollouts.resume(run, f"Resumed by {words}. Everything is checked again.", actor=actor, at=at)
        case "promote" | "skip":
            key, what = (
                ("promoted", "Promoted") if verb == "promote" else ("skipped", "The rest of the bake is skipped")
            )
            data = {**run.data, key: [*run.data.get(key, []), run.wave]}
            move_run(run, verb, sentence=f"{what} by {words}.", actor=actor, at=at, data=data)
        case "abort":
            move_run(run, "abort", sentence=f"Aborting, asked by {words}.", actor=actor, at=at)
        case "roll_back":
            rollouts.begin_rollback(run, why=f"Asked by {words}.", actor=actor, at=at)
