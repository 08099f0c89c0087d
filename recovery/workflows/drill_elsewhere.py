"""What a drill of level 5 does once its copy is placed: a rehearsal is asked for, waited for, judged, taken down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from changecontrol.access import Actor
from changecontrol.actions.jobs import ask_stop
from changecontrol.actions.rehearsals import ask_rehearsal, ask_teardown
from changecontrol.errors import Permanent
from changecontrol.lifecycles.job import JobState
from changecontrol.lifecycles.rehearsal import ACTIVE as REHEARSING
from changecontrol.lifecycles.rehearsal import RehearsalState
from changecontrol.models import Cluster, Job, Rehearsal
from changecontrol.rules.counting import counted
from changecontrol.workflow.engine import Settlement
from recovery.actions.drills import move_drill, record_check, say_cleared, say_drill
from recovery.lifecycles.drill import DRILL, UNDER_WAY
from recovery.models import BackupPolicy, Drill
from recovery.queries.progress import key_of
from recovery.rules.levels import NO_CLUSTER
from recovery.rules.verification import ELSEWHERE
from recovery.workflows.drill_phases import NAME, move_on, record_answers
from recovery.workflows.steps import NOW, WATCH, ordered, settled, waiting

REHEARSED_WITHIN = timedelta(hours=4)
"""When what was brought up elsewhere is taken down, though nobody asks."""
ASKED_WITHIN = timedelta(minutes=30)
CLEARED_WITHIN = timedelta(hours=1)
CLEARED_EVERY = timedelta(hours=1)
"""How often it is tried to drop a copy that a drill, which is over, could not."""
COMING_UP = frozenset({RehearsalState.ASKED, RehearsalState.BRINGING_UP})
NAME_LENGTH = 120
UNCLEARED = "What was made in another cluster was perhaps not cleared away."


def checked_place(row: Drill, at: datetime) -> Job:
    """Have it checked that the copy may go to the other cluster, and return the job that does."""
    return ordered(_place_key_of(row), kind="drill_place", order=lambda: {"drill": row.pk}, at=at, within=ASKED_WITHIN)


def go_elsewhere(row: Drill, job: Job, at: datetime) -> Settlement[Drill]:
    """Ask for a rehearsal, wait until it is up or has failed, and judge it."""
    rehearsal = _rehearsal_of(row)
    if rehearsal is None:
        policy = BackupPolicy.objects.get(pk=row.data["policy"])
        cluster = Cluster.objects.filter(slug=policy.rehearsal_cluster).first()
        if cluster is None:
            raise Permanent(NO_CLUSTER)
        words: dict[str, Any] = {"policy": policy, "cluster": cluster, "at": at}
        return settled(lambda drill, actor: _bring_up(drill, job, actor=actor, **words), name=NAME, due_in=WATCH)
    if rehearsal.state in COMING_UP:
        return settled(lambda drill, _: say_drill(drill, _words_of(rehearsal)), name=NAME, due_in=WATCH)
    return _judge_elsewhere(row, rehearsal, at)


def ask_to_stop(row: Drill, *, at: datetime) -> bool:
    """Ask all that is at work for a drill to stop, but what clears away after it; tell whether something still is."""
    keys = (key_of(row), _place_key_of(row), _asking_key_of(row))
    jobs = [ask_stop(key=key, at=at) for key in keys]
    return any(job is not None and job.state == JobState.OPEN for job in jobs)


def take_down(row: Drill, at: datetime) -> Settlement[Drill] | None:
    """Wait until the rehearsal is gone, then have the copy dropped that it ran on. None once that is over.

    Of a canceled drill goes with it what its process, which may have been killed, left in its sandbox.
    """
    rehearsal = _rehearsal_of(row)
    if rehearsal is not None and rehearsal.state in REHEARSING:
        return settled(lambda drill, actor: _press(drill, rehearsal, actor, at), name=NAME, due_in=WATCH)
    clearing = _ordered_clearing(row, key=clearing_key_of(row), at=at)
    return waiting() if clearing.state == JobState.OPEN else None


def clear_again(row: Drill, at: datetime) -> Settlement[Drill]:
    """Try each hour to drop the copy that a drill has left which is over, once nothing runs on it any more."""
    rehearsal, clearings = _rehearsal_of(row), _clearings_of(row)
    if rehearsal is not None and rehearsal.state in REHEARSING:
        return Settlement(write=None, due_in=CLEARED_EVERY)
    last = clearings.last()
    if last is not None and last.state == JobState.OPEN:
        return waiting()
    if last is not None and last.state == JobState.DONE:
        return settled(lambda drill, _: say_cleared(drill, at=at), name=NAME, due_in=None)
    if last is not None and last.ended_at is not None and at < last.ended_at + CLEARED_EVERY:
        return Settlement(write=None, due_in=last.ended_at + CLEARED_EVERY - at)
    _ordered_clearing(row, key=f"{clearing_key_of(row)}/{clearings.count()}", at=at)
    return waiting()


def again_in(row: Drill) -> timedelta | None:
    """Return after how long a drill that ends now is looked at again: never, but where its copy is perhaps left."""
    is_left = row.level >= ELSEWHERE and Job.objects.filter(key=key_of(row)).exists()
    return CLEARED_EVERY if is_left and not _clearings_of(row).filter(state=JobState.DONE).exists() else None


def _ordered_clearing(row: Drill, *, key: str, at: datetime) -> Job:
    return ordered(key, kind="drill_clearing", order=lambda: {"drill": row.pk}, at=at, within=CLEARED_WITHIN)


def _clearings_of(row: Drill) -> QuerySet[Job]:
    """Return the jobs that were to drop the copy, oldest first."""
    key = clearing_key_of(row)
    return Job.objects.filter(Q(key=key) | Q(key__startswith=f"{key}/")).order_by("pk")


def clearing_key_of(row: Drill) -> str:
    return f"{key_of(row)}/clearing"


def _place_key_of(row: Drill) -> str:
    return f"{key_of(row)}/place"


def _asking_key_of(row: Drill) -> str:
    return f"{key_of(row)}/elsewhere"


def has_begun(row: Drill) -> bool:
    """Tell whether an environment was asked for elsewhere."""
    return _rehearsal_of(row) is not None


def is_going(row: Drill) -> bool:
    """Tell whether what a drill of level 5 placed or brought up is perhaps still to be taken down."""
    if row.level < ELSEWHERE or not Job.objects.filter(key=key_of(row)).exists():
        return False
    rehearsal = _rehearsal_of(row)
    is_cleared = Job.objects.filter(key=clearing_key_of(row)).exclude(state=JobState.OPEN).exists()
    return not is_cleared or (rehearsal is not None and rehearsal.state in REHEARSING)


def left_elsewhere(row: Drill) -> str:
    """Return what a drill left in another cluster, of its rehearsal and of the copy; empty where nothing is."""
    if is_going(row):
        return UNCLEARED
    rehearsal = _rehearsal_of(row)
    clearing = _clearings_of(row).last()
    workloads = rehearsal.leftovers if rehearsal is not None else ""
    what = "What was placed elsewhere" if row.level >= ELSEWHERE else "What was brought back"
    copy = f"{what} is perhaps still there. {clearing.reason}" if clearing and clearing.reason else ""
    return f"{workloads} {copy}".strip()


def _rehearsal_of(row: Drill) -> Rehearsal | None:
    return Rehearsal.objects.filter(key=row.key).select_related("cluster").first()


def _bring_up(drill: Drill, job: Job, *, policy: BackupPolicy, cluster: Cluster, actor: Actor, at: datetime) -> None:
    if drill.state not in UNDER_WAY:
        return
    move_on(drill, job, actor=actor)
    record_answers(drill, job, actor=actor)
    rehearsal = ask_rehearsal(
        environment=drill.environment,
        cluster=cluster,
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
        key, order = _asking_key_of(row), {"drill": row.pk}
        asked = ordered(key, kind="drill_elsewhere", order=lambda: order, at=at, within=ASKED_WITHIN)
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


def _press(drill: Drill, rehearsal: Rehearsal, actor: Actor, at: datetime) -> None:
    ask_teardown(key=drill.key, actor=actor, at=at)
    if rehearsal.trouble:
        say_drill(drill, _words_of(rehearsal))


def _words_of(rehearsal: Rehearsal) -> str:
    """Say how far a rehearsal is, and what it waits for."""
    return f"{rehearsal.sentence} {rehearsal.trouble}".strip()
