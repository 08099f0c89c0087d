"""Carries drills out, those a person asks for and those that a policy's cadence wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q

from changecontrol.access import Actor, system_actor
from changecontrol.actions.rehearsals import ask_rehearsal, ask_teardown
from changecontrol.errors import Permanent
from changecontrol.lifecycles.job import JobState
from changecontrol.lifecycles.rehearsal import ACTIVE as REHEARSING
from changecontrol.lifecycles.rehearsal import RehearsalState
from changecontrol.models import Cluster, Job, Rehearsal
from changecontrol.rules.counting import counted
from changecontrol.workflow.engine import Settlement
from recovery.actions.corrective_changes import ask_to_close
from recovery.actions.drills import finish_drill, move_drill, note_sentinel, plan_drill, record_check, say_drill
from recovery.actions.recoveries import CLUSTER, forget_cluster, going_since, note_cluster, note_going, say_cluster
from recovery.lifecycles.drill import ACTIVE, DRILL, ENDED, DrillState
from recovery.models import BackupPolicy, Drill
from recovery.models.policy import Engine
from recovery.queries.points import coverage_of
from recovery.queries.progress import key_of
from recovery.rules.verification import ELSEWHERE
from recovery.workflows import cluster_recovery
from recovery.workflows.cluster_recovery import Recovering
from recovery.workflows.steps import (
    NOW,
    UNREMOVED,
    WATCH,
    is_clearing,
    leftovers_of,
    locked,
    ordered,
    phases_of,
    settled,
    waiting,
)

WITHIN = timedelta(hours=24)
AFTER_FAILURE = timedelta(days=1)
"""How long after a drill that failed the next is tried by schedule."""
NAME = "drill"
VERBS = (("provisioning", "provision"), ("restoring", "restore"), ("checking", "check"))
"""Which verb a phase of the job begins with."""
SENTENCES = {
    "provision": "It reads the copy where it lies, and makes room.",
    "restore": "It brings the database back to the time.",
    "check": "It questions what was brought back.",
}
RECOVERED = (Engine.POSTGRES, Engine.PG_DUMP, Engine.CLOUDNATIVEPG)
"""The engines whose points a drill by schedule can bring back."""
CLEARING = "It clears away what was brought back."
REHEARSED_WITHIN = timedelta(hours=4)
"""When what was brought up elsewhere is taken down, though nobody asks."""
ASKED_WITHIN = timedelta(minutes=30)
CLEARED_WITHIN = timedelta(hours=1)
REMOVED_WITHIN = timedelta(days=1)
"""How long a drill goes on to remove what the operator recovered, though nobody answers."""
COMING_UP = frozenset({RehearsalState.ASKED, RehearsalState.BRINGING_UP})
NAME_LENGTH = 120
UNCLEARED = "What was made in another cluster was perhaps not cleared away."


class DrillRun:
    """The workflow `drill`: order the job, follow its phases, record what it was answered and its verdict."""

    name = NAME
    model = Drill

    def due(self) -> Q:
        return Q(state__in=sorted(ACTIVE))

    def find(self, at: datetime) -> None:
        """Begin drills that are due by cadence, of the newest time that can be restored; ask after what was mended."""
        ask_to_close(at=at)
        for policy in _due(at):
            target_at = coverage_of(policy.environment).last_safe_before(at)
            if target_at is not None:
                plan_drill(policy=policy, level=_level(policy), target_at=target_at, actor=system_actor(), at=at)

    def lock(self, pk: int) -> Drill:
        return locked(Drill, pk, "point__policy", "asked_by")

    def advance(self, row: Drill, at: datetime) -> Settlement[Drill]:
        if row.level >= 2 and cluster_recovery.is_by_operator(row):
            return self._by_operator(row, at)
        job = ordered(key_of(row), kind="drill", order=lambda: {"drill": row.pk}, at=at, within=WITHIN)
        if is_clearing(job, at):
            return waiting()
        if row.level >= ELSEWHERE and job.state != JobState.OPEN:
            return _go_elsewhere(row, job, at)
        is_open = job.state == JobState.OPEN
        return settled(
            lambda drill, actor: _follow(drill, job, actor=actor, at=at), name=NAME, due_in=WATCH if is_open else None
        )

    def _by_operator(self, row: Drill, at: datetime) -> Settlement[Drill]:
        """Have the operator recover a cluster, a job question it, and the operator remove it again."""
        if row.state == DrillState.TEARING_DOWN:
            return self._clear(row, at)
        if CLUSTER not in row.data:
            return settled(lambda drill, actor: _begin_cluster(drill, actor, at), name=NAME, due_in=NOW)
        recovering = cluster_recovery.recover(row, at=at, within=WITHIN)
        if (more := recovering.order) is None:
            return settled(
                lambda drill, actor: _wait_for_cluster(drill, recovering, actor, at),
                name=NAME,
                due_in=cluster_recovery.LOOK,
            )
        job = ordered(key_of(row), kind="drill", order=lambda: {"drill": row.pk} | more, at=at, within=WITHIN)
        if is_clearing(job, at):
            return waiting()
        return settled(
            lambda drill, actor: _follow_to_the_end(drill, job, actor=actor, at=at),
            name=NAME,
            due_in=WATCH if job.state == JobState.OPEN else NOW,
        )

    def _clear(self, row: Drill, at: datetime) -> Settlement[Drill]:
        left = _remaining(row)
        # Since it was first asked to go, not since the job ended: nobody may have answered in between.
        if left and at - (going_since(row) or at) <= cluster_recovery.GONE_WITHIN:
            return settled(lambda drill, _: note_going(drill, left, at=at), name=NAME, due_in=cluster_recovery.LOOK)
        return _cleared(row, left, at)

    def is_waiting(self, row: Drill, at: datetime) -> bool:
        """What the operator recovers, and what it removes, goes on while its cluster does not answer."""
        if row.state != DrillState.TEARING_DOWN:
            return at - row.decided_at <= WITHIN
        job = Job.objects.filter(key=key_of(row)).first()
        return at - ((job.ended_at if job else None) or row.decided_at) <= REMOVED_WITHIN

    def refused(self, row: Drill, reason: str, at: datetime) -> Settlement[Drill]:
        return settled(lambda drill, actor: _give_up(drill, reason, actor=actor, at=at), name=NAME, due_in=None)

    def exhausted(self, row: Drill, reason: str, at: datetime) -> Settlement[Drill]:
        if row.state == DrillState.TEARING_DOWN and CLUSTER in row.data:
            # Upkeep goes on to remove it; what the copy was answered stands.
            return _cleared(row, f"{UNREMOVED} {reason}", at)
        return self.refused(row, reason, at)


def _remaining(row: Drill) -> str:
    """Return what is there of the operator's cluster. That it may not be removed is what is left of it, too."""
    try:
        return cluster_recovery.remaining(row)
    except Permanent as refusal:
        return f"{UNREMOVED} {refusal.reason}"


def _cleared(row: Drill, left: str, at: datetime) -> Settlement[Drill]:
    """Give the verdict once the operator's cluster is gone, or stays."""
    job = Job.objects.get(key=key_of(row))

    def write(drill: Drill, actor: Actor) -> None:
        if not left:
            forget_cluster(drill)
        trouble, leftovers = job.result.get("trouble", job.reason), leftovers_of(job)
        _end(drill, trouble=trouble, leftovers=f"{leftovers} {left}".strip(), actor=actor, at=at)

    return settled(write, name=NAME, due_in=None)


def _give_up(drill: Drill, reason: str, *, actor: Actor, at: datetime) -> None:
    ask_teardown(key=drill.key, actor=actor, at=at)
    _end(drill, trouble=reason, leftovers=UNCLEARED if drill.level >= ELSEWHERE else "", actor=actor, at=at)


def _due(at: datetime) -> list[BackupPolicy]:
    """Return the policies of which a point is to be restored and questioned again, in two statements.

    What proves no way back, such as a drill of a sabotaged copy, puts off none.
    """
    policies = BackupPolicy.objects.active().filter(engine__in=RECOVERED).select_related("environment")
    idle = policies.exclude(environment__in=Drill.objects.filter(state__in=sorted(ACTIVE)).values("environment"))
    ended = Drill.objects.proving().filter(state__in=sorted(ENDED), finished_at__isnull=False)
    newest = ended.order_by("environment_id", "-finished_at").distinct("environment_id")
    last = {one.environment_id: one for one in newest}
    return [one for one in idle if _is_due(one, last=last.get(one.environment_id), at=at)]


def _is_due(policy: BackupPolicy, *, last: Drill | None, at: datetime) -> bool:
    if last is None or last.finished_at is None:
        return True
    cadence = timedelta(days=min(policy.verify_days, policy.drill_days))
    return last.finished_at + (cadence if last.state == DrillState.PASSED else AFTER_FAILURE) <= at


def _level(policy: BackupPolicy) -> int:
    """Return how far a drill by schedule goes: as far as the environment and this installation allow."""
    if not policy.filestore:
        return 2
    return 4 if settings.ODOO_COMMAND else 3


def _begin_cluster(drill: Drill, actor: Actor, at: datetime) -> None:
    if drill.state not in ACTIVE:
        return
    note_cluster(drill, run=cluster_recovery.run_of(drill), namespace=cluster_recovery.namespace_of(drill.point))
    move_drill(drill, "provision", sentence="It asks the operator for a cluster.", actor=actor, at=at)


def _wait_for_cluster(drill: Drill, recovering: Recovering, actor: Actor, at: datetime) -> None:
    if drill.state not in ACTIVE:
        return
    if recovering.has_begun and DRILL.allows("restore", drill.state):
        move_drill(drill, "restore", sentence=SENTENCES["restore"], actor=actor, at=at)
    say_cluster(drill, recovering.sentence)


def _go_elsewhere(row: Drill, job: Job, at: datetime) -> Settlement[Drill]:
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
    _move_on(drill, job, actor=actor)
    _record_answers(drill, job, actor=actor)
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
    _move_on(drill, job, actor=actor)
    if job.state == JobState.DONE:
        _record(drill, job, actor=actor, at=phases_of(job).get("tearing_down", at))
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
        lambda drill, actor: _end(drill, **words, actor=actor, at=at),
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


def _follow(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    _follow_to_the_end(drill, job, actor=actor, at=at)
    if job.state == JobState.DONE:
        result = job.result
        words = {"trouble": result["trouble"], "leftovers": leftovers_of(job), "faulty": result.get("faulty", "")}
        _end(drill, **words, actor=actor, at=phases_of(job)["over"])
    elif job.state != JobState.OPEN:
        _end(drill, trouble=job.reason, leftovers=leftovers_of(job), actor=actor, at=at)


def _follow_to_the_end(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    """Note the phases of the job; once it is over, record what it was answered, and begin to tear down."""
    if drill.state not in ACTIVE:
        return
    _move_on(drill, job, actor=actor)
    phases = phases_of(job)
    if job.state == JobState.DONE:
        _record(drill, job, actor=actor, at=phases.get("tearing_down", at))
    elif job.state != JobState.OPEN:
        move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)


def _move_on(drill: Drill, job: Job, *, actor: Actor) -> None:
    """Move a drill through the phases that its job has reached."""
    phases = phases_of(job)
    for phase, verb in VERBS:
        if phase in phases and DRILL.allows(verb, drill.state):
            move_drill(drill, verb, sentence=SENTENCES[verb], actor=actor, at=phases[phase])


def _record(drill: Drill, job: Job, *, actor: Actor, at: datetime) -> None:
    _record_answers(drill, job, actor=actor)
    move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)


def _record_answers(drill: Drill, job: Job, *, actor: Actor) -> None:
    if drill.state != DrillState.QUEUED:
        for one in job.result["checks"]:
            record_check(drill, **{**one, "at": datetime.fromisoformat(one["at"])}, actor=actor)
    if newest := job.result["newest_sentinel_at"]:
        note_sentinel(drill, datetime.fromisoformat(newest))


def _end(drill: Drill, *, trouble: str, leftovers: str = "", faulty: str = "", actor: Actor, at: datetime) -> None:
    if drill.state not in ACTIVE:
        return
    if drill.state != DrillState.TEARING_DOWN:
        move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)
    finish_drill(drill, trouble=trouble, leftovers=leftovers, faulty=faulty, actor=actor, at=at)
