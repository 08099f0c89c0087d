"""Carries drills out, those a person asks for and those that a policy's cadence wants."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Max, Q

from changecontrol.access import Actor, system_actor
from changecontrol.actions.rehearsals import ask_teardown
from changecontrol.errors import Permanent
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from changecontrol.workflow.engine import Settlement
from recovery.actions.corrective_changes import ask_to_close
from recovery.actions.drills import move_drill, note_trouble, plan_drill, say_drill
from recovery.actions.recoveries import CLUSTER, forget_cluster, going_since, note_cluster, note_going, say_cluster
from recovery.lifecycles.drill import ACTIVE, DRILL, ENDED, JUDGED, UNDER_WAY, DrillState
from recovery.models import BackupPolicy, Drill
from recovery.models.policy import Engine
from recovery.queries.points import coverage_of
from recovery.queries.progress import is_sound, key_of
from recovery.rules.verification import ELSEWHERE, VERIFIED_FROM
from recovery.workflows import cluster_recovery, drill_elsewhere
from recovery.workflows.cluster_recovery import Recovering
from recovery.workflows.drill_phases import CLEARING, NAME, SENTENCES, end, follow, follow_to_the_end
from recovery.workflows.steps import (
    NOW,
    UNREMOVED,
    WATCH,
    is_clearing,
    left_of_place,
    leftovers_of,
    locked,
    ordered,
    settled,
    waiting,
)

WITHIN = timedelta(hours=24)
AFTER_FAILURE = timedelta(days=1)
"""How long after a drill that failed the next is tried by schedule."""
AFTER_CANCELED = timedelta(days=1)
"""How long after a drill that was canceled none begins by schedule: whoever canceled it would only meet the next."""
LOOKING = "It looks whether the copy may go to the other cluster."
REMOVED_WITHIN = timedelta(days=1)
"""How long a drill goes on to remove what the operator recovered, though nobody answers."""


class DrillRun:
    """The workflow `drill`: order the job, follow its phases, record what it was answered and its verdict."""

    name = NAME
    model = Drill

    def due(self) -> Q:
        return Q(state__in=sorted(ACTIVE)) | Q(state__in=sorted(ENDED), level__gte=ELSEWHERE)

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
        """Bring back and question, go elsewhere, take down: each begins once the one before it is over."""
        if row.state in ENDED:
            return drill_elsewhere.clear_again(row, at)
        job = Job.objects.filter(key=key_of(row)).first()
        if row.canceled_at is not None:
            return _clear_canceled(row, job, at)
        if job is None:
            return _begin(row, at)
        if job.state == JobState.OPEN:
            return _followed(job, at, due_in=WATCH)
        if is_clearing(job, at):
            return waiting()
        if row.state == DrillState.TEARING_DOWN:
            return _tear_down(row, job, at)
        if row.level >= ELSEWHERE and is_sound(job):
            return drill_elsewhere.go_elsewhere(row, job, at)
        if row.level >= ELSEWHERE or CLUSTER in row.data:
            return _followed(job, at, due_in=NOW)
        return settled(lambda drill, actor: follow(drill, job, actor=actor, at=at), name=NAME, due_in=None)

    def is_waiting(self, row: Drill, at: datetime) -> bool:
        """What the operator recovers, and what it removes, goes on while its cluster does not answer."""
        if row.state != DrillState.TEARING_DOWN:
            return at - row.decided_at <= WITHIN
        jobs = Job.objects.filter(key__in=(key_of(row), drill_elsewhere.clearing_key_of(row)))
        last = jobs.aggregate(last=Max("ended_at"))["last"]
        return at - (last or row.canceled_at or row.decided_at) <= REMOVED_WITHIN

    def refused(self, row: Drill, reason: str, at: datetime) -> Settlement[Drill]:
        if row.state in ENDED:
            return Settlement(write=None, due_in=drill_elsewhere.CLEARED_EVERY)
        if row.state in UNDER_WAY and drill_elsewhere.is_going(row):
            return settled(lambda drill, actor: _break_off(drill, reason, actor=actor, at=at), name=NAME, due_in=NOW)
        due_in = drill_elsewhere.again_in(row)
        return settled(
            lambda drill, actor: _give_up(drill, reason, seen=row, actor=actor, at=at), name=NAME, due_in=due_in
        )

    def exhausted(self, row: Drill, reason: str, at: datetime) -> Settlement[Drill]:
        if row.state == DrillState.TEARING_DOWN and CLUSTER in row.data and not drill_elsewhere.is_going(row):
            # Upkeep goes on to remove it; what the copy was answered stands.
            return _judged(row, Job.objects.filter(key=key_of(row)).first(), f"{UNREMOVED} {reason}", at)
        return self.refused(row, reason, at)


def _begin(row: Drill, at: datetime) -> Settlement[Drill]:
    """Order the job; before that, where an operator keeps the base backup, have it recover the cluster to question."""
    more: dict[str, Any] = {}
    if row.level >= VERIFIED_FROM and cluster_recovery.is_by_operator(row):
        if CLUSTER not in row.data:
            return _ask_for_cluster(row, at)
        recovering = cluster_recovery.recover(row, at=at, within=WITHIN)
        if recovering.order is None:
            return settled(
                lambda drill, actor: _wait_for_cluster(drill, recovering, actor, at),
                name=NAME,
                due_in=cluster_recovery.LOOK,
            )
        more = recovering.order
    job = ordered(key_of(row), kind="drill", order=lambda: {"drill": row.pk} | more, at=at, within=WITHIN)
    return _followed(job, at, due_in=WATCH)


def _ask_for_cluster(row: Drill, at: datetime) -> Settlement[Drill]:
    """Note that a cluster is asked for, of level 5 only where the copy may go to the other one: it takes hours."""
    if row.level >= ELSEWHERE:
        checked = drill_elsewhere.checked_place(row, at)
        if checked.state == JobState.OPEN:
            return settled(lambda drill, _: say_drill(drill, LOOKING), name=NAME, due_in=WATCH)
        if checked.state != JobState.DONE:
            raise Permanent(checked.reason)
    return settled(lambda drill, actor: _begin_cluster(drill, actor, at), name=NAME, due_in=NOW)


def _begin_cluster(drill: Drill, actor: Actor, at: datetime) -> None:
    if drill.state not in UNDER_WAY:
        return
    note_cluster(drill, run=cluster_recovery.run_of(drill), namespace=cluster_recovery.namespace_of(drill.point))
    move_drill(drill, "provision", sentence="It asks the operator for a cluster.", actor=actor, at=at)


def _wait_for_cluster(drill: Drill, recovering: Recovering, actor: Actor, at: datetime) -> None:
    if drill.state not in UNDER_WAY:
        return
    if recovering.has_begun and DRILL.allows("restore", drill.state):
        move_drill(drill, "restore", sentence=SENTENCES["restore"], actor=actor, at=at)
    say_cluster(drill, recovering.sentence)


def _followed(job: Job, at: datetime, *, due_in: timedelta) -> Settlement[Drill]:
    return settled(lambda drill, actor: follow_to_the_end(drill, job, actor=actor, at=at), name=NAME, due_in=due_in)


def _clear_canceled(row: Drill, job: Job | None, at: datetime) -> Settlement[Drill]:
    """Wait until nothing is at work for a canceled drill any more; then take down what was made, as of any other."""
    # Whatever ordered it: a tick that was under way when it was canceled may have ordered it since.
    if drill_elsewhere.ask_to_stop(row, at=at) or (job is not None and is_clearing(job, at)):
        return waiting()
    return _tear_down(row, job, at)


def _tear_down(row: Drill, job: Job | None, at: datetime) -> Settlement[Drill]:
    """Wait until all that a drill made is gone, elsewhere and of the operator; then give the verdict.

    What was stopped may have been killed, and not have cleared away what it brought back: that goes, too.
    """
    was_stopped = row.canceled_at is not None and job is not None and job.started_at is not None
    if job is not None and (row.level >= ELSEWHERE or was_stopped):
        going = drill_elsewhere.take_down(row, at)
        if going is not None:
            return going
    left = _remaining(row)
    # Since it was first asked to go, not since the job ended: nobody may have answered in between.
    if left and at - (going_since(row) or at) <= cluster_recovery.GONE_WITHIN:
        return settled(lambda drill, _: note_going(drill, left, at=at), name=NAME, due_in=cluster_recovery.LOOK)
    return _judged(row, job, left, at)


def _remaining(row: Drill) -> str:
    """Return what is there of the operator's cluster. That it may not be removed is what is left of it, too."""
    try:
        return cluster_recovery.remaining(row)
    except Permanent as refusal:
        return f"{UNREMOVED} {refusal.reason}"


def _judged(row: Drill, job: Job | None, left: str, at: datetime) -> Settlement[Drill]:
    """Give the verdict; `left` is what is there of the operator's cluster. Only a canceled drill may have no job."""
    # What a canceled drill's job could not take away was tried once more.
    left_by = leftovers_of if row.canceled_at is None else left_of_place
    of_job = left_by(job) if job is not None else ""
    leftovers = " ".join(filter(None, [of_job, drill_elsewhere.left_elsewhere(row), left]))
    result, reason = (job.result, job.reason) if job is not None else ({}, "")
    trouble, faulty = row.trouble_found or result.get("trouble", reason), result.get("faulty", "")

    def write(drill: Drill, actor: Actor) -> None:
        # A tick that was under way when it was canceled may ask for the cluster yet: upkeep looks once more.
        if not left and drill.canceled_at is None:
            forget_cluster(drill)
        end(drill, trouble=trouble, leftovers=leftovers, faulty=faulty, actor=actor, at=at)

    return settled(write, name=NAME, due_in=drill_elsewhere.again_in(row))


def _break_off(drill: Drill, reason: str, *, actor: Actor, at: datetime) -> None:
    """Take down what a drill that cannot go on has made elsewhere; its verdict then says why it could not."""
    if drill.state not in UNDER_WAY:
        return
    note_trouble(drill, reason)
    if not drill_elsewhere.has_begun(drill):
        follow_to_the_end(drill, Job.objects.get(key=key_of(drill)), actor=actor, at=at)
    if drill.state in UNDER_WAY:
        move_drill(drill, "tear_down", sentence=CLEARING, actor=actor, at=at)
    ask_teardown(key=drill.key, actor=actor, at=at)


def _give_up(drill: Drill, reason: str, *, seen: Drill, actor: Actor, at: datetime) -> None:
    if drill.canceled_at != seen.canceled_at:
        return  # Meanwhile: it is due at once, and clears away.
    ask_teardown(key=drill.key, actor=actor, at=at)
    left = drill_elsewhere.left_elsewhere(drill)
    if drill.canceled_at is not None:
        left = f"{left} What it made is perhaps not all cleared away. {reason}".strip()
    end(drill, trouble=reason, leftovers=left, actor=actor, at=at)


def _due(at: datetime) -> list[BackupPolicy]:
    """Return the policies of which a point is to be restored and questioned again, in two statements.

    What proves no way back, such as a drill of a sabotaged copy, puts off none. One that was canceled puts off the next
    for a day, and stands for none.
    """
    policies = BackupPolicy.objects.active().select_related("environment")
    active = Drill.objects.filter(state__in=sorted(ACTIVE)).values("environment")
    canceled = Drill.objects.proving().filter(state=DrillState.CANCELED, finished_at__gt=at - AFTER_CANCELED)
    idle = policies.exclude(environment__in=active).exclude(environment__in=canceled.values("environment"))
    judged = Drill.objects.proving().filter(state__in=sorted(JUDGED), finished_at__isnull=False)
    newest = judged.order_by("environment_id", "-finished_at").distinct("environment_id")
    last = {one.environment_id: one for one in newest}
    return [one for one in idle if _is_due(one, last=last.get(one.environment_id), at=at)]


def _is_due(policy: BackupPolicy, *, last: Drill | None, at: datetime) -> bool:
    if last is None or last.finished_at is None:
        return True
    cadence = timedelta(days=min(policy.verify_days, policy.drill_days))
    return last.finished_at + (cadence if last.state == DrillState.PASSED else AFTER_FAILURE) <= at


def _level(policy: BackupPolicy) -> int:
    """Return how far a drill by schedule goes: as far as the environment and this installation allow."""
    # Of attachments that another tool keeps nothing tells.
    if policy.engine == Engine.EXTERNAL or not policy.filestore:
        return VERIFIED_FROM
    return 4 if settings.ODOO_COMMAND else 3
