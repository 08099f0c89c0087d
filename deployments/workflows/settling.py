"""How a tick of a run settles: what it writes, and when the run is looked at again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from changecontrol.access import Actor, system_actor
from changecontrol.actions.runs import move_run
from changecontrol.lifecycles.run import RUN, PauseReason
from changecontrol.models import Run
from changecontrol.workflow.engine import Settlement
from deployments.actions import rollouts

NOW = timedelta()
LOOK_AGAIN = timedelta(seconds=30)

Write = Callable[[Run, Actor], None]


def settled_run(write: Write, *, due_in: timedelta | None) -> Settlement[Run]:
    return Settlement(write=lambda run: write(run, system_actor(f"run:{run.pk}")), due_in=due_in)


def moved(verb: str, sentence: str, at: datetime) -> Write:
    """Return what moves a run, unless it has moved on meanwhile."""

    def write(run: Run, actor: Actor) -> None:
        if RUN.allows(verb, run.state):
            move_run(run, verb, sentence=sentence, actor=actor, at=at)

    return write


def paused(reason: PauseReason, sentence: str, at: datetime) -> Settlement[Run]:
    def write(run: Run, actor: Actor) -> None:
        if RUN.allows("pause", run.state):
            rollouts.pause(run, reason, sentence, actor=actor, at=at)

    return settled_run(write, due_in=LOOK_AGAIN)


def rolled_back(why: str, at: datetime) -> Settlement[Run]:
    """Begin to take a run back. Trouble was found now: the time to detect ends here (RBK-5)."""

    def write(run: Run, actor: Actor) -> None:
        run.data = {**run.data, "cause": why}
        run.detected_at = at
        run.save(update_fields=["data", "detected_at"])
        rollouts.begin_rollback(run, why=why, actor=actor, at=at)

    return settled_run(write, due_in=NOW)
