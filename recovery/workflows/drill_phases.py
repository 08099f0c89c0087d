"""What is written of a drill as its job goes on: the phases it reached, what it was answered, its verdict."""

from __future__ import annotations

from datetime import datetime

from changecontrol.access import Actor
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from recovery.actions.drills import finish_drill, move_drill, note_sentinel, record_check
from recovery.lifecycles.drill import ACTIVE, DRILL, UNDER_WAY, DrillState
from recovery.models import Drill
from recovery.workflows.steps import leftovers_of, phases_of

NAME = "drill"
VERBS = (("provisioning", "provision"), ("restoring", "restore"), ("checking", "check"))
"""Which verb a phase of the job begins with."""
SENTENCES = {
    "provision": "It reads the copy where it lies, and makes room.",
    "restore": "It brings the database back to the time.",
    "check": "It questions what was brought back.",
}
CLEARING = "It clears away what was brought back."


def follow(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    """Note what the job came to by now; once it is over the drill is, too, with a verdict."""
    if drill.state not in UNDER_WAY:
        return
    follow_to_the_end(drill, job, actor=actor, at=at)
    if job.state == JobState.DONE:
        result = job.result
        words = {"trouble": result["trouble"], "leftovers": leftovers_of(job), "faulty": result.get("faulty", "")}
        end(drill, **words, actor=actor, at=phases_of(job)["over"])
    elif job.state != JobState.OPEN:
        end(drill, trouble=job.reason, leftovers=leftovers_of(job), actor=actor, at=at)


def follow_to_the_end(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    """Note the phases of the job; once it is over, record what it was answered, and begin to tear down."""
    # Somebody may have canceled it while the job was looked at.
    if drill.state not in UNDER_WAY:
        return
    move_on(drill, job, actor=actor)
    phases = phases_of(job)
    if job.state == JobState.DONE:
        record(drill, job, actor=actor, at=phases.get("tearing_down", at))
    elif job.state != JobState.OPEN:
        move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)


def move_on(drill: Drill, job: Job, *, actor: Actor) -> None:
    """Move a drill through the phases that its job has reached."""
    phases = phases_of(job)
    for phase, verb in VERBS:
        if phase in phases and DRILL.allows(verb, drill.state):
            move_drill(drill, verb, sentence=SENTENCES[verb], actor=actor, at=phases[phase])


def record(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    """Record what the job was answered, and begin to tear down."""
    record_answers(drill, job, actor=actor)
    move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)


def record_answers(drill: Drill, job: Job, *, actor: Actor) -> None:
    """Record what the job was answered, but of a drill that it never began, and the newest sentinel it met."""
    if drill.state != DrillState.QUEUED:
        for one in job.result["checks"]:
            record_check(drill, **{**one, "at": datetime.fromisoformat(one["at"])}, actor=actor)
    if newest := job.result["newest_sentinel_at"]:
        note_sentinel(drill, datetime.fromisoformat(newest))


def end(drill: Drill, *, trouble: str, leftovers: str = "", faulty: str = "", actor: Actor, at: datetime) -> None:
    """Give a drill its verdict, unless it is over: failed where there was trouble or an answer was no.

    `faulty` is the backup of a chain that was at fault, where it is told.
    """
    if drill.state not in ACTIVE:
        return
    if drill.state != DrillState.TEARING_DOWN:
        move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)
    finish_drill(drill, trouble=trouble, leftovers=leftovers, faulty=faulty, actor=actor, at=at)
