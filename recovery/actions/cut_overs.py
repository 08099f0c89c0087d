"""Every write of a restore into production: prepared for a run, and what follows once its rollout has ended (BCK-4).

The rollout is not called from here: it waits for what it asks by query, and what became of it is read from its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.forms.models import model_to_dict

from changecontrol import audit, wiring
from changecontrol.access import Actor
from changecontrol.actions.jobs import ask_stop
from changecontrol.events import Tag
from changecontrol.lifecycles.run import RunState
from changecontrol.models import Environment, Run
from recovery.actions.backups import plan_safety_backup
from recovery.actions.owners import tell_owners
from recovery.actions.restores import ask_production_restore, move_restore
from recovery.lifecycles.cut_over import CUT_OVER, PREPARING, CutOverState
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.models import BackupPolicy, CutOver
from recovery.queries.cut_overs import PREPARING_STEP, filestore_for, is_to_prepare
from recovery.rules.times import moment

NOT_VERSIONED = ("id", "environment", "version", "is_active", "reason", "created_at", "created_by")
"""Columns of a policy that its next version says for itself."""


@transaction.atomic
def begin_cut_over(*, run_id: int, actor: Actor, at: datetime) -> CutOver | None:
    """Begin to prepare what a waiting run brings back; None where it does not wait for that, or somebody has begun."""
    run = Run.objects.select_related("change", "plan").get(pk=run_id)
    assert run.plan is not None, "a rollout carries out a plan"
    asked: Mapping[str, Any] = run.plan.content["restore"]
    # The root of recovery is locked before what it decides on is read again: two sweeps begin it once.
    environment = Environment.objects.select_for_update(of=("self",), no_key=True).get(
        tenant=run.change.tenant_id, slug=asked["environment"]
    )
    run.refresh_from_db(fields=["state", "step", "data"])
    if run.state != RunState.PREFLIGHT or run.step != PREPARING_STEP or not is_to_prepare(run):
        return None
    cut_over = CutOver.objects.create(
        environment=environment,
        change=run.change,
        run=run,
        sentence="The safety backup comes first.",
        target_at=datetime.fromisoformat(asked["to"]),
        target_database=asked["to_database"],
        old_database=asked["from_database"],
        keep_hours=asked["keep_hours"],
        created_at=at,
        next_due_at=at,
    )
    audit.record(Tag.CUT_OVER_BEGUN, subject=cut_over, change=run.change, actor=actor, at=at, data=dict(asked))
    return cut_over


def begin_safety_backup(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Take a backup of a locked cut-over's environment as it is now; where another is under way, after that one."""
    reason = f"Safety backup before {cut_over.change.number} puts “{cut_over.target_database}” in its place."
    cut_over.backup = plan_safety_backup(cut_over.environment, reason=reason, actor=actor, at=at)
    cut_over.sentence = (
        "The safety backup is under way." if cut_over.backup else "Another backup is under way; the safety one follows."
    )
    cut_over.save(update_fields=["backup", "sentence"])


def begin_restore(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Bring the database back beside the one in use. Raises `Conflict` or `Invalid` where that is not possible now."""
    cut_over.restore = ask_production_restore(
        cut_over.environment,
        target_at=cut_over.target_at,
        target_database=cut_over.target_database,
        change=cut_over.change,
        declared_at=cut_over.created_at,
        actor=actor,
        at=at,
    )
    cut_over.save(update_fields=["restore"])
    sentence = f"“{cut_over.target_database}” is brought back beside “{cut_over.old_database}”."
    move_cut_over(cut_over, "restore", sentence=sentence, actor=actor, at=at)


def keep_old(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Record that the new database is in use: later backups and drills are of it, and the old one is kept for a while.

    The estate and the policy follow what was approved: its database, and the folder of its attachments.
    """
    environment = cut_over.environment
    environment.database = cut_over.target_database
    environment.save(update_fields=["database"])
    differences = {"database": [cut_over.old_database, cut_over.target_database]}
    data = {"kind": "environment", "key": environment.slug, "is_new": False, "differences": differences}
    audit.record(Tag.ESTATE_CHANGED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    _follow_attachments(cut_over, actor=actor, at=at)
    cut_over.in_place_at = at
    cut_over.save(update_fields=["in_place_at"])
    kept_until = at + timedelta(hours=cut_over.keep_hours)
    sentence = f"“{cut_over.target_database}” is in use. “{cut_over.old_database}” is kept until {moment(kept_until)}."
    move_cut_over(cut_over, "keep", sentence=sentence, actor=actor, at=at, kept_until=kept_until)


def release_old(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Say that the old database has been kept for as long as was promised. Removing it is a person's to do."""
    sentence = (
        f"“{cut_over.old_database}” was kept until {moment(at)}, as {cut_over.change.number} says, and nothing here "
        "uses it. Whoever runs the server may remove it."
    )
    move_cut_over(cut_over, "release", sentence=sentence, actor=actor, at=at)
    tell_owners(
        cut_over.environment, tag=Tag.CUT_OVER_MOVED, subject="An old database may be removed", text=sentence, at=at
    )


def abandon_cut_over(cut_over: CutOver, *, why: str, actor: Actor, at: datetime) -> None:
    """End a locked cut-over whose run will not put it in place. What is under way is stopped; what is done stays.

    A run that was ended in the middle may have left workloads on the new database: then somebody has to say which one
    is in use, for backups go on with the one that the estate names.
    """
    restore = cut_over.restore
    if restore is not None and restore.state in ACTIVE_RESTORES:
        move_restore(restore, "cancel", sentence=why, actor=actor, at=at)
        ask_stop(key=f"restore/{restore.pk}", at=at)
    run, left = cut_over.run, ""
    may_be_in_use = run.wave_opened_at is not None and run.state != RunState.ROLLED_BACK
    if may_be_in_use:
        left = (
            f" “{cut_over.target_database}” may be in use, and backups go on with “{cut_over.old_database}”: look what"
            " the workloads are on, and name that in the estate and in the backup policy before anything is removed."
        )
    elif cut_over.state not in PREPARING:
        left = f" “{cut_over.target_database}” stays, and nothing uses it."
    move_cut_over(cut_over, "abandon", sentence=f"{why}{left}", actor=actor, at=at)
    if may_be_in_use:
        tell_owners(
            cut_over.environment,
            tag=Tag.CUT_OVER_MOVED,
            subject="Nobody knows which database is in use",
            text=f"{why}{left}",
            at=at,
        )


def move_cut_over(
    cut_over: CutOver, verb: str, *, sentence: str, actor: Actor, at: datetime, kept_until: datetime | None = None
) -> None:
    """Move a locked cut-over by a verb of its lifecycle."""
    before = str(cut_over.state)
    cut_over.state = CUT_OVER.target(verb, cut_over.state)
    cut_over.sentence = sentence
    cut_over.kept_until = kept_until or cut_over.kept_until
    if cut_over.state in (CutOverState.OVER, CutOverState.FAILED, CutOverState.ABANDONED):
        cut_over.finished_at, cut_over.next_due_at = at, None
    cut_over.save(update_fields=["state", "sentence", "kept_until", "finished_at", "next_due_at"])
    data = {"verb": verb, "from": before, "to": str(cut_over.state), "sentence": sentence}
    audit.record(Tag.CUT_OVER_MOVED, subject=cut_over, change=cut_over.change, actor=actor, at=at, data=data)
    if cut_over.state in (CutOverState.READY, CutOverState.FAILED):
        # The run waits for this word.
        wiring.nudge("rollout")


def _follow_attachments(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Publish the policy's next version where attachments are now in another folder than backups read them from."""
    environment = cut_over.environment
    policy = BackupPolicy.objects.select_for_update().active().filter(environment=environment).first()
    if policy is None or not policy.filestore:
        return
    filestore = filestore_for(policy, database=cut_over.target_database)
    if not filestore or filestore == policy.filestore:
        return
    columns = {**model_to_dict(policy, exclude=NOT_VERSIONED), "filestore": filestore}
    BackupPolicy.objects.filter(pk=policy.pk).update(is_active=False)
    reason = f"{cut_over.change.number} put “{cut_over.target_database}” with its attachments in place."
    following = BackupPolicy.objects.create(
        environment=environment,
        version=policy.version + 1,
        reason=reason,
        created_at=at,
        created_by=cut_over.change.requester,
        **columns,
    )
    data = {
        "version": following.version,
        "reason": reason,
        "differences": {"filestore": [policy.filestore, filestore]},
    }
    audit.record(
        Tag.BACKUP_POLICY_PUBLISHED, subject=following, actor=actor, at=at, data=data, tenant=environment.tenant_id
    )
