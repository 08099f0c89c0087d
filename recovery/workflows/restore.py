"""Carries restores out: the work in a job, each part of the time to recover noted when it ended (BCK-6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from changecontrol.access import Actor
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Job
from changecontrol.workflow.engine import Settlement
from recovery.actions.recoveries import CLUSTER, note_cluster, say_cluster
from recovery.actions.restores import move_restore
from recovery.lifecycles.restore import ACTIVE, RESTORE
from recovery.models import Restore
from recovery.queries.progress import key_of
from recovery.workflows import cluster_recovery
from recovery.workflows.cluster_recovery import Recovering
from recovery.workflows.steps import NOW, WATCH, locked, ordered, phases_of, settled

WITHIN = timedelta(hours=24)
"""How long a cluster may take, and a job; and how long a restore goes on though nobody answers."""
NAME = "restore"
VERBS = (("provisioning", "provision"), ("restoring", "restore"), ("validating", "validate"))
"""Which verb a phase of the job begins with."""
SENTENCES = {
    "provision": "It makes room beside what is in use.",
    "restore": "It brings the database back to the time.",
    "validate": "It compares what arrived with what was restored.",
}


class RestoreRun:
    """The workflow `restore`: order the job, follow its phases, record how it ended."""

    name = NAME
    model = Restore

    def due(self) -> Q:
        return Q(state__in=sorted(ACTIVE))

    def find(self, at: datetime) -> None:
        """Nothing to find: a person asks for each."""

    def lock(self, pk: int) -> Restore:
        return locked(Restore, pk, "point__policy")

    def advance(self, row: Restore, at: datetime) -> Settlement[Restore]:
        more: dict[str, Any] = {}
        if cluster_recovery.is_by_operator(row):
            if CLUSTER not in row.data:
                return settled(lambda restore, actor: _begin_cluster(restore, actor, at), name=NAME, due_in=NOW)
            recovering = cluster_recovery.recover(row, at=at, within=WITHIN)
            if recovering.order is None:
                return settled(
                    lambda restore, actor: _wait_for_cluster(restore, recovering, actor, at),
                    name=NAME,
                    due_in=cluster_recovery.LOOK,
                )
            more = recovering.order
        job = ordered(key_of(row), kind="restore", order=lambda: {"restore": row.pk} | more, at=at, within=WITHIN)
        is_open = job.state == JobState.OPEN
        return settled(
            lambda restore, actor: _follow(restore, job, actor=actor, at=at),
            name=NAME,
            due_in=WATCH if is_open else None,
        )

    def is_waiting(self, row: Restore, at: datetime) -> bool:
        """What the operator recovers goes on while its cluster does not answer: hours of it are not thrown away."""
        return at - row.decided_at <= WITHIN

    def refused(self, row: Restore, reason: str, at: datetime) -> Settlement[Restore]:
        return settled(lambda restore, actor: _fail(restore, reason, actor=actor, at=at), name=NAME, due_in=None)

    def exhausted(self, row: Restore, reason: str, at: datetime) -> Settlement[Restore]:
        return self.refused(row, reason, at)


def _begin_cluster(restore: Restore, actor: Actor, at: datetime) -> None:
    if restore.state not in ACTIVE:
        return
    note_cluster(restore, run=cluster_recovery.run_of(restore), namespace=cluster_recovery.namespace_of(restore.point))
    move_restore(restore, "provision", sentence="It asks the operator for a cluster.", actor=actor, at=at)


def _wait_for_cluster(restore: Restore, recovering: Recovering, actor: Actor, at: datetime) -> None:
    if restore.state not in ACTIVE:
        return
    if recovering.has_begun and RESTORE.allows("restore", restore.state):
        move_restore(restore, "restore", sentence=SENTENCES["restore"], actor=actor, at=at)
    say_cluster(restore, recovering.sentence)


def _follow(restore: Restore, job: Job, *, actor: Actor, at: datetime) -> None:
    if restore.state not in ACTIVE:
        return
    phases = phases_of(job)
    for phase, verb in VERBS:
        if phase in phases and RESTORE.allows(verb, restore.state):
            move_restore(restore, verb, sentence=SENTENCES[verb], actor=actor, at=phases[phase])
    if job.state == JobState.DONE:
        move_restore(restore, "succeed", sentence=job.result["sentence"], actor=actor, at=phases["over"])
    elif job.state != JobState.OPEN:
        _fail(restore, job.reason, actor=actor, at=at)


def _fail(restore: Restore, reason: str, *, actor: Actor, at: datetime) -> None:
    if restore.state in ACTIVE:
        move_restore(restore, "fail", sentence=reason, actor=actor, at=at)
