"""What a drill of level 5 does once its copy is placed: a rehearsal is asked for, waited for, judged, taken down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from changecontrol.access import Actor
from changecontrol.actions.rehearsals import ask_rehearsal, ask_teardown
from changecontrol.lifecycles.job import JobState
from changecontrol.lifecycles.rehearsal import ACTIVE as REHEARSING
from changecontrol.lifecycles.rehearsal import RehearsalState
from changecontrol.models import Cluster, Job, Rehearsal
from changecontrol.rules.counting import counted
from changecontrol.workflow.engine import Settlement
from recovery.actions.drills import move_drill, record_check, say_drill
from recovery.lifecycles.drill import ACTIVE, DRILL, DrillState
from recovery.models import BackupPolicy, Drill
from recovery.queries.progress import key_of
from recovery.rules.verification import ELSEWHERE
from recovery.workflows.drill_phases import CLEARING, end, move_on, record, record_answers
from recovery.workflows.steps import NOW, WATCH, leftovers_of, ordered, phases_of, settled, waiting

NAME = "drill"
REHEARSED_WITHIN = timedelta(hours=4)
"""When what was brought up elsewhere is taken down, though nobody asks."""
ASKED_WITHIN = timedelta(minutes=30)
CLEARED_WITHIN = timedelta(hours=1)
COMING_UP = frozenset({RehearsalState.ASKED, RehearsalState.BRINGING_UP})
NAME_LENGTH = 120


def go_elsewhere(row: Drill, job: Job, at: datetime) -> Settlement[Drill]:
    """Level 5, once its job has questioned the copy and placed it: a rehearsal is asked for, waited for and judged.

    Then all of it is taken down, what runs before what it runs on, and what is left of it fails the drill.
    """
    rehearsal = Rehearsal.objects.filter(key=row.key).select_related("cluster").first()
    if row.state == DrillState.TEARING_DOWN:
        return _take_down(row, job, rehearsal, at)
    if rehearsal is not None and rehearsal.state in COMING_UP:
        return settled(lambda drill, _: say_drill(drill, _words_of(rehearsal)), name=NAME, due_in=WATCH)
    if rehearsal is not None:
        return _judge_elsewhere(row, rehearsal, at)
    is_sound = job.state == JobState.DONE and not job.result["trouble"] and not job.result["leftovers"]
    if is_sound and all(one["is_passed"] for one in job.result["checks"]):
        return settled(lambda drill, actor: _bring_up(drill, job, actor=actor, at=at), name=NAME, due_in=WATCH)
    return settled(lambda drill, actor: _turn_back(drill, job, actor=actor, at=at), name=NAME, due_in=NOW)


def _bring_up(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    if drill.state not in ACTIVE:
        return
    move_on(drill, job, actor=actor)
    record_answers(drill, job, actor=actor)
    policy = BackupPolicy.objects.get(pk=drill.data["policy"])
    rehearsal = ask_rehearsal(
        environment=drill.environment,
        cluster=Cluster.objects.get(slug=policy.rehearsal_cluster),
        key=drill.key,
        commit=drill.point.git_commit,
        path=policy.rehearsal_path or drill.environment.path,
        ends_at=at + REHEARSED_WITHIN,
        actor=actor,
        at=at,
    )
    say_drill(drill, rehearsal.sentence)


def _judge_elsewhere(row: Drill, rehearsal: Rehearsal, at: datetime) -> Settlement[Drill]:
    """Ask the database that the workloads came up on, where they did, and record what came of it all."""
    found = [*_answers_of(rehearsal)]
    if rehearsal.up_at is not None:
        key = f"{key_of(row)}/elsewhere"
        asked = ordered(key, kind="drill_elsewhere", order=lambda: {"drill": row.pk}, at=at, within=ASKED_WITHIN)
        if asked.state == JobState.OPEN:
            return waiting()
        found += _answers_of_database(asked)
    return settled(lambda drill, actor: _judge(drill, rehearsal, found, actor=actor, at=at), name=NAME, due_in=NOW)


def _judge(
    drill: Drill, rehearsal: Rehearsal, found: Sequence[tuple[str, bool, str]], *, actor: Actor, at: datetime
) -> None:
    """Record what was found elsewhere. The time to recover ends when the last workload was healthy."""
    if not DRILL.allows("tear_down", drill.state):
        return
    at_end, where = rehearsal.up_at or at, rehearsal.cluster.name
    for name, is_passed, sentence in found:
        words: dict[str, Any] = {"name": name[:NAME_LENGTH], "sentence": sentence, "is_passed": is_passed}
        record_check(drill, **words, level=ELSEWHERE, actor=actor, at=at_end)
    going = f"It takes down what was brought up in {where}."
    move_drill(drill, "tear_down", sentence=going, actor=actor, at=at_end)
    ask_teardown(key=drill.key, actor=actor, at=at)


def _answers_of(rehearsal: Rehearsal) -> Iterator[tuple[str, bool, str]]:
    """Yield what a rehearsal answers: whether it came up, and how each workload was when last looked at."""
    came = f"{counted(len(rehearsal.applied), 'object')} in {rehearsal.namespace}, at {rehearsal.commit[:8]}."
    not_up = rehearsal.problem or "It was taken down before it was up."
    is_up = rehearsal.up_at is not None
    yield f"Brought up in {rehearsal.cluster.name}", is_up, came if is_up else not_up
    for one in rehearsal.workloads:
        runs = f" It runs {', '.join(one['digests'])}." if one["digests"] and one["is_healthy"] else ""
        yield f"{one['name']} elsewhere", one["is_healthy"], f"{one['sentence']}{runs}"


def _answers_of_database(asked: Job) -> Iterator[tuple[str, bool, str]]:
    if asked.state != JobState.DONE:
        yield "Database elsewhere", False, f"It could not be asked: {asked.reason}"
        return
    for one in asked.result["checks"]:
        yield one["name"], one["is_passed"], one["sentence"]


def _turn_back(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    """Record why nothing is brought up elsewhere: the copy did not hold, or nothing could be tried."""
    if not DRILL.allows("tear_down", drill.state):
        return
    move_on(drill, job, actor=actor)
    if job.state == JobState.DONE:
        record(drill, job, actor=actor, at=phases_of(job).get("tearing_down", at))
    else:
        move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)


def _take_down(row: Drill, job: Job, rehearsal: Rehearsal | None, at: datetime) -> Settlement[Drill]:
    """Wait until the rehearsal is gone, then have the database dropped; then give the verdict."""
    if rehearsal is not None and rehearsal.state in REHEARSING:
        return settled(lambda drill, actor: _press(drill, rehearsal, actor, at), name=NAME, due_in=WATCH)
    clearing = ordered(
        f"{key_of(row)}/clearing",
        kind="drill_clearing",
        order=lambda: {"drill": row.pk},
        at=at,
        within=CLEARED_WITHIN,
    )
    if clearing.state == JobState.OPEN:
        return waiting()
    found = [
        leftovers_of(job),
        rehearsal.leftovers if rehearsal is not None else "",
        f"What was placed elsewhere is perhaps still there. {clearing.reason}" if clearing.reason else "",
    ]
    trouble = job.result["trouble"] if job.state == JobState.DONE else job.reason
    words = {
        "trouble": trouble,
        "leftovers": " ".join(one for one in found if one),
        "faulty": job.result.get("faulty", ""),
    }
    return settled(
        lambda drill, actor: end(drill, **words, actor=actor, at=at),
        name=NAME,
        due_in=None,
    )


def _press(drill: Drill, rehearsal: Rehearsal, actor: Actor, at: datetime) -> None:
    ask_teardown(key=drill.key, actor=actor, at=at)
    if rehearsal.trouble:
        say_drill(drill, _words_of(rehearsal))


def _words_of(rehearsal: Rehearsal) -> str:
    """Say how far a rehearsal is, and what it waits for."""
    return f"{rehearsal.sentence} {rehearsal.trouble}".strip()
