"""Backups: asked for by a person, by schedule or before a cut-over, canceled by a person, and moved by their workflow.

The workflow holds the lock.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from changecontrol import access, audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.jobs import ask_stop
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict, IllegalTransition
from changecontrol.events import Tag
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Environment
from changecontrol.rules.roles import Ability
from recovery.actions.locking import locked_environment, locked_root, policy_of
from recovery.actions.owners import tell_owners
from recovery.actions.refusals import audited
from recovery.lifecycles.point import ACTIVE_BACKUPS, BACKUP, BackupState
from recovery.models import BackupPolicy, BackupRun
from recovery.models.backup import BackupKind, full_kind
from recovery.models.policy import Engine
from recovery.queries.progress import key_of


@audited
@transaction.atomic
def ask_backup(*, actor: Actor, environment_id: int, reason: str, at: datetime) -> BackupRun:
    """Ask for a full backup now, beside the schedule. Raises `Conflict` where one is under way."""
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_BACK_UP, environment)
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the record.")
    policy = policy_of(environment)
    if policy.engine == Engine.EXTERNAL:
        raise Conflict("Another tool backs this environment up: ask there, and register the point here.")
    if BackupRun.objects.filter(environment=environment, state__in=sorted(ACTIVE_BACKUPS)).exists():
        raise Conflict("A backup of this environment is under way already.")
    run = BackupRun.objects.create(
        environment=environment,
        policy=policy,
        kind=full_kind(policy),
        asked_by=actor.person,
        reason=words[:500],
        created_at=at,
        next_due_at=at,
    )
    data = {"environment": environment.slug, "kind": run.kind, "policy": policy.version, "reason": words}
    audit.record(Tag.BACKUP_ASKED, subject=run, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    wiring.nudge("backup")
    return run


@audited
@transaction.atomic
def cancel_backup(*, actor: Actor, run_id: int, reason: str, at: datetime) -> BackupRun:
    """End a backup before it is done: its job is asked to stop, and no point is made of what it copied.

    Raises `IllegalTransition` where it has ended, and where its work has: what came of it is about to be recorded.
    Whoever may ask for a backup may cancel one, that of a schedule too.
    """
    found = BackupRun.objects.filter(pk=run_id).values_list("environment_id", flat=True)
    environment = locked_root(actor, found.first(), missing="There is no such backup.")
    run = BackupRun.objects.select_for_update(of=("self",)).get(pk=run_id)
    access.require(actor, Ability.RECOVERY_BACK_UP, environment)
    words = reason_of(reason, field="reason", sentence="Say why: it stays in the record.")
    move_backup(run, "cancel", sentence=f"{actor.person} canceled it: {words[:500]}", actor=actor, at=at)
    job = ask_stop(key=key_of(run), at=at)
    if job is not None and job.state in (JobState.DONE, JobState.FAILED):
        raise IllegalTransition("Its work is over, and what came of it is being recorded.")
    return run


@transaction.atomic
def plan_backup(
    *, policy: BackupPolicy, kind: BackupKind, due_at: datetime, actor: Actor, at: datetime
) -> BackupRun | None:
    """Begin the backup that a policy's schedule wants; None where one is under way, or this one was begun before."""
    environment = Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=policy.environment_id)
    runs = BackupRun.objects.filter(environment=environment)
    if runs.filter(Q(state__in=sorted(ACTIVE_BACKUPS)) | Q(due_at__gte=due_at)).exists():
        return None
    run = BackupRun.objects.create(
        environment=environment, policy=policy, kind=kind, due_at=due_at, created_at=at, next_due_at=at
    )
    data = {"environment": environment.slug, "kind": run.kind, "policy": policy.version, "due_at": due_at.isoformat()}
    audit.record(Tag.BACKUP_ASKED, subject=run, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return run


def plan_safety_backup(environment: Environment, *, reason: str, actor: Actor, at: datetime) -> BackupRun | None:
    """Begin a full backup of a locked environment for a change that needs one first; None where one is under way."""
    if BackupRun.objects.filter(environment=environment, state__in=sorted(ACTIVE_BACKUPS)).exists():
        return None
    policy = policy_of(environment)
    run = BackupRun.objects.create(
        environment=environment,
        policy=policy,
        kind=full_kind(policy),
        reason=reason[:500],
        created_at=at,
        next_due_at=at,
    )
    data = {"environment": environment.slug, "kind": run.kind, "policy": policy.version, "reason": reason}
    audit.record(Tag.BACKUP_ASKED, subject=run, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    wiring.nudge("backup")
    return run


def move_backup(run: BackupRun, verb: str, *, sentence: str, actor: Actor, at: datetime) -> None:
    """Move a locked backup by a verb of its lifecycle. Whoever looks after recovery is told of a failure."""
    before = str(run.state)
    run.state = BACKUP.target(verb, run.state)
    run.sentence = sentence
    if run.state == BackupState.RUNNING:
        run.started_at = at
    elif run.state not in ACTIVE_BACKUPS:
        run.finished_at, run.next_due_at = at, None
    run.save(update_fields=["state", "sentence", "started_at", "finished_at", "next_due_at"])
    data = {"verb": verb, "from": before, "to": str(run.state), "sentence": sentence}
    audit.record(Tag.BACKUP_MOVED, subject=run, actor=actor, at=at, data=data, tenant=run.tenant_id)
    if run.state == BackupState.FAILED:
        tell_owners(run.environment, tag=Tag.BACKUP_MOVED, subject="A backup failed", text=sentence, at=at)


def say_backup(run: BackupRun, sentence: str) -> None:
    """Write down how far a locked running backup is. It is no event: the moves around it are."""
    if run.state == BackupState.RUNNING and run.sentence != sentence:
        run.sentence = sentence
        run.save(update_fields=["sentence"])
