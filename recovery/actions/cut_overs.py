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
from recovery.actions.points import record_verification
from recovery.actions.restores import ask_production_restore, move_restore
from recovery.lifecycles.cut_over import CUT_OVER, PREPARING, CutOverState
from recovery.lifecycles.restore import ACTIVE as ACTIVE_RESTORES
from recovery.models import BackupPolicy, CutOver, RecoveryPoint
from recovery.models.backup import BackupKind
from recovery.queries.cut_overs import PREPARING_STEP, filestore_for, has_gone_back, is_to_prepare, uses_of
from recovery.rules.times import moment
from recovery.rules.verification import VERIFIED_FROM

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


def put_in_place(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Record that the rollout of a locked cut-over has begun: from then on the new database takes what is written.

    Estate and policy follow what was approved: its database, and the folder of its attachments. So sentinels, dumps,
    drills and what is brought back are of the database that takes orders, however long the rollout goes on. It counts
    from when the wave opened and not from when that was noticed.
    """
    opened_at = cut_over.run.wave_opened_at
    assert opened_at is not None, "a rollout begins with its first wave"
    cut_over.in_place_at = opened_at
    cut_over.save(update_fields=["in_place_at"])
    _name_database(cut_over.environment, cut_over.target_database, actor=actor, at=at)
    policy = _policy_with_attachments(cut_over)
    if policy is not None:
        filestore = filestore_for(policy, database=cut_over.target_database)
        reason = f"{cut_over.change.number} puts “{cut_over.target_database}” with its attachments in place."
        _publish_filestore(cut_over, policy, filestore, reason=reason, since=opened_at, actor=actor, at=at)
    sentence = (
        f"The rollout has begun: “{cut_over.target_database}” is the environment's since {moment(opened_at)}. "
        f"“{cut_over.old_database}” stays beside it."
    )
    move_cut_over(cut_over, "put_in_place", sentence=sentence, actor=actor, at=at)


def keep_old(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Record that the rollout has succeeded: the old database is kept for as long as was approved.

    Now it is known what is in use, whatever an estate file that was written before named meanwhile.
    """
    _name_database(cut_over.environment, cut_over.target_database, actor=actor, at=at)
    kept_until = at + timedelta(hours=cut_over.keep_hours)
    sentence = f"“{cut_over.target_database}” is in use. “{cut_over.old_database}” is kept until {moment(kept_until)}."
    move_cut_over(cut_over, "keep", sentence=sentence, actor=actor, at=at, kept_until=kept_until)


def release_old(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Say that the old database has been kept for as long as was promised. Removing it is a person's to do.

    Where the shop went back to it meanwhile it is said to be in use, for what is said here may be done.
    """
    old, new = cut_over.old_database, cut_over.target_database
    if uses := uses_of(old, beside=cut_over):
        subject = "The old database is in use again"
        sentence = f"“{old}” was kept until {moment(at)}, as {cut_over.change.number} says. Keep it: {', '.join(uses)}."
        if not uses_of(new, beside=cut_over):
            sentence += f" Nothing here names “{new}” any more. {_may_remove(new)}"
    else:
        subject = "An old database may be removed"
        sentence = (
            f"“{old}” was kept until {moment(at)}, as {cut_over.change.number} says, and nothing here names it. "
            f"{_may_remove(old)}"
        )
    move_cut_over(cut_over, "release", sentence=sentence, actor=actor, at=at)
    tell_owners(cut_over.environment, tag=Tag.CUT_OVER_MOVED, subject=subject, text=sentence, at=at)


def abandon_cut_over(cut_over: CutOver, *, why: str, actor: Actor, at: datetime) -> None:
    """End a locked cut-over whose run will not put it in place. What is under way is stopped; what is done stays.

    A run that was ended in the middle may have left workloads on either database: then somebody has to say which one
    is in use. Backups go on with the new one, which took what was written since the rollout began.
    """
    restore = cut_over.restore
    if restore is not None and restore.state in ACTIVE_RESTORES:
        move_restore(restore, "cancel", sentence=why, actor=actor, at=at)
        ask_stop(key=f"restore/{restore.pk}", at=at)
    left = ""
    if has_gone_back(cut_over.run):
        _name_what_ran_before(cut_over, actor=actor, at=at)
    is_unsure = cut_over.in_place_at is not None
    if is_unsure:
        left = (
            f" “{cut_over.target_database}” may be in use, and backups go on with it: look what the workloads are on,"
            f" and where that is “{cut_over.old_database}”, name it in the estate and its attachments in the backup"
            " policy before anything is removed."
        )
    elif cut_over.state not in PREPARING:
        left = f" “{cut_over.target_database}” stays, and nothing uses it."
    move_cut_over(cut_over, "abandon", sentence=f"{why}{left}", actor=actor, at=at)
    if is_unsure:
        tell_owners(
            cut_over.environment,
            tag=Tag.CUT_OVER_MOVED,
            subject="Nobody knows which database is in use",
            text=f"{why}{left}",
            at=at,
        )


@transaction.atomic
def take_back(*, cut_over_id: int, actor: Actor, at: datetime) -> None:
    """Follow a run that ended in the middle and was rolled back since; nothing where somebody has done so."""
    # The root of recovery first, then what is decided on: two sweeps take it back once.
    of = CutOver.objects.filter(pk=cut_over_id).values("environment_id")
    environment = Environment.objects.select_for_update(of=("self",), no_key=True).get(pk__in=of)
    rows = CutOver.objects.select_for_update(of=("self",), no_key=True).select_related("change__requester", "run")
    cut_over = rows.get(pk=cut_over_id)
    cut_over.environment = environment
    if cut_over.in_place_at is None or not has_gone_back(cut_over.run):
        return
    _name_what_ran_before(cut_over, actor=actor, at=at)
    sentence = (
        f"Its run was rolled back: “{cut_over.old_database}” is the environment's again. "
        f"“{cut_over.target_database}” stays, and nothing uses it."
    )
    move_cut_over(cut_over, "take_back", sentence=sentence, actor=actor, at=at)
    tell_owners(environment, tag=Tag.CUT_OVER_MOVED, subject="The old database is in use", text=sentence, at=at)


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


def _name_what_ran_before(cut_over: CutOver, *, actor: Actor, at: datetime) -> None:
    """Let estate and policy name what they named before the rollout began, but for what somebody changed since.

    The time goes, too: what was written to the new database is given up, and the old one holds every moment.
    """
    since = cut_over.in_place_at
    if since is None:
        return
    cut_over.in_place_at = None
    cut_over.save(update_fields=["in_place_at"])
    if cut_over.environment.database == cut_over.target_database:
        _name_database(cut_over.environment, cut_over.old_database, actor=actor, at=at)
    _give_up_dumps(cut_over, since=since, actor=actor, at=at)
    policy = _policy_with_attachments(cut_over)
    if policy is None or policy.filestore != filestore_for(policy, database=cut_over.target_database):
        return
    versions = BackupPolicy.objects.filter(environment=cut_over.environment, version__lt=policy.version)
    before = versions.exclude(filestore=policy.filestore).order_by("-version").first()
    if before is not None:
        reason = f"{cut_over.change.number} was taken back: “{cut_over.old_database}” and its attachments are in use."
        _publish_filestore(cut_over, policy, before.filestore, reason=reason, since=since, actor=actor, at=at)


def _give_up_dumps(cut_over: CutOver, *, since: datetime, actor: Actor, at: datetime) -> None:
    """Break the dumps of the database that was given up: each holds one alone, and is no way back to the other."""
    rows = RecoveryPoint.objects.restorable().filter(environment=cut_over.environment, kind=BackupKind.DUMP)
    points = list(rows.filter(consistent_at__gte=since).select_for_update(of=("self",)).order_by("pk"))
    sentence = f"It holds “{cut_over.target_database}”, which {cut_over.change.number} gave up again."
    for point in points:
        record_verification(point, level=VERIFIED_FROM, is_passed=False, sentence=sentence, actor=actor, at=at)
    if points:
        reason = f"{cut_over.change.number} was taken back: its dumps are of a database that was given up."
        plan_safety_backup(cut_over.environment, reason=reason, actor=actor, at=at)


def _name_database(environment: Environment, name: str, *, actor: Actor, at: datetime) -> None:
    """Let the estate name another database of a locked environment."""
    before = environment.database
    if before == name:
        return
    environment.database = name
    environment.save(update_fields=["database"])
    differences = {"database": [before, name]}
    data = {"kind": "environment", "key": environment.slug, "is_new": False, "differences": differences}
    audit.record(Tag.ESTATE_CHANGED, subject=environment, actor=actor, at=at, data=data, tenant=environment.tenant_id)


def _policy_with_attachments(cut_over: CutOver) -> BackupPolicy | None:
    """Return the policy in force where it has attachments, and a folder for those of a restored database."""
    policies = BackupPolicy.objects.select_for_update().active().filter(environment=cut_over.environment)
    return policies.exclude(filestore="").exclude(restore_filestore="").first()


def _publish_filestore(
    cut_over: CutOver,
    policy: BackupPolicy,
    filestore: str,
    *,
    reason: str,
    since: datetime,
    actor: Actor,
    at: datetime,
) -> None:
    """Publish the policy's next version, by which attachments lie in another folder since a time."""
    if filestore == policy.filestore:
        return
    environment = cut_over.environment
    columns = {**model_to_dict(policy, exclude=NOT_VERSIONED), "filestore": filestore}
    BackupPolicy.objects.filter(pk=policy.pk).update(is_active=False)
    following = BackupPolicy.objects.create(
        environment=environment,
        version=policy.version + 1,
        reason=reason,
        # After the version it follows, by as little as there is: where one is undone, its copies go with no moment.
        created_at=max(since, policy.created_at + timedelta.resolution),
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


def _may_remove(database: str) -> str:
    return f"Whoever runs the server may remove “{database}”, once nothing is connected to it."
