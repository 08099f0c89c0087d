"""Takes recovery points: by schedule or because somebody asked, the work itself in a job, the whole set recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Max, Q

from changecontrol.access import Actor, system_actor
from changecontrol.lifecycles.job import JobState
from changecontrol.workflow.engine import Settlement
from recovery.actions.backups import move_backup, plan_backup, say_backup
from recovery.actions.copies import NewFilestoreCopy, record_filestore_copy
from recovery.actions.points import NewPart, NewPoint, record_copy, record_point
from recovery.lifecycles.point import ACTIVE_BACKUPS, BackupState
from recovery.models import BackupPolicy, BackupRun, RecoveryPoint
from recovery.models.backup import BackupKind, full_kind
from recovery.models.policy import Engine
from recovery.queries.points import schedule_of
from recovery.queries.progress import key_of
from recovery.queries.running import running_in
from recovery.rules.locks import PromisedLock, ToldLock, lock_problem
from recovery.rules.schedule import last_due, next_due
from recovery.workflows import cluster_backup
from recovery.workflows.steps import NOW, locked, ordered, settled, waiting

WITHIN = timedelta(hours=24)
"""How long a backup may take."""
NAME = "backup"
DUMP = "dump"
"""Which job takes a point by `pg_dump`."""


class Backup:
    """The workflow `backup`: begin, watch the job, record the point."""

    name = NAME
    model = BackupRun

    def due(self) -> Q:
        return Q(state__in=sorted(ACTIVE_BACKUPS))

    def find(self, at: datetime) -> None:
        """Begin what a schedule wants. What was missed while nobody looked is made up for once."""
        last = dict(BackupRun.objects.order_by().values_list("environment").annotate(Max("due_at")))
        for policy in BackupPolicy.objects.active().exclude(engine=Engine.EXTERNAL):
            if (due_at := _wanted(policy, last_due_at=last.get(policy.environment_id), at=at)) is not None:
                plan_backup(policy=policy, kind=_kind(policy), due_at=due_at, actor=system_actor(), at=at)

    def lock(self, pk: int) -> BackupRun:
        return locked(BackupRun, pk, "policy__environment__tenant")

    def advance(self, row: BackupRun, at: datetime) -> Settlement[BackupRun]:
        if row.state == BackupState.QUEUED:
            return settled(
                lambda run, actor: _move(run, "start", "Its job is ordered.", actor, at), name=NAME, due_in=NOW
            )
        kind, more = NAME, {}
        if row.policy.engine == Engine.CLOUDNATIVEPG:
            taking = cluster_backup.take(row, at=at, within=WITHIN)
            if taking.order is None:
                return settled(lambda run, _: say_backup(run, taking.sentence), name=NAME, due_in=cluster_backup.LOOK)
            kind, more = cluster_backup.KIND, taking.order
        elif row.policy.engine == Engine.PG_DUMP:
            kind = DUMP
        job = ordered(key_of(row), kind=kind, order=lambda: _order(row) | more, at=at, within=WITHIN)
        if job.state == JobState.OPEN:
            return waiting()
        if job.state != JobState.DONE:
            return self.refused(row, job.reason, at)
        result = job.result
        return settled(lambda run, actor: _record(run, result, actor=actor, at=at), name=NAME, due_in=None)

    def is_waiting(self, row: BackupRun, at: datetime) -> bool:
        """What the operator takes goes on while its cluster does not answer, and becomes a point afterwards."""
        return at - (row.started_at or row.created_at) <= WITHIN

    def refused(self, row: BackupRun, reason: str, at: datetime) -> Settlement[BackupRun]:
        return settled(lambda run, actor: _move(run, "fail", reason, actor, at), name=NAME, due_in=None)

    def exhausted(self, row: BackupRun, reason: str, at: datetime) -> Settlement[BackupRun]:
        return self.refused(row, reason, at)


def _wanted(policy: BackupPolicy, *, last_due_at: datetime | None, at: datetime) -> datetime | None:
    """Return the newest start of the schedule that nobody has begun; None where there is none."""
    # The policy's own beginning counts too: what was due before it was another's.
    since = max(last_due_at or policy.created_at, policy.created_at)
    following = next_due(schedule_of(policy), after=since)
    if following is None or following > at:
        return None
    return last_due(schedule_of(policy), at=at)


def _kind(policy: BackupPolicy) -> BackupKind:
    """Return what the next backup is: incremental until as many follow the last full one as the policy says."""
    rows = RecoveryPoint.objects.restorable().filter(environment=policy.environment_id)
    last_full = rows.filter(kind=BackupKind.BASE).first()
    if not policy.incrementals or last_full is None:
        return full_kind(policy)
    since = rows.filter(kind=BackupKind.INCREMENTAL, consistent_at__gt=last_full.consistent_at).count()
    return BackupKind.INCREMENTAL if since < policy.incrementals else BackupKind.BASE


def _order(run: BackupRun) -> dict[str, Any]:
    running = running_in(run.environment)
    restorable = RecoveryPoint.objects.restorable().filter(environment=run.environment_id)
    parent = restorable.first() if run.kind == BackupKind.INCREMENTAL else None
    newest = RecoveryPoint.objects.filter(environment=run.environment_id, kind=full_kind(run.policy)).first()
    return {
        "run": run.pk,
        "label": run.label,
        "parent": parent.key if parent else "",
        "commit": running.commit,
        "image": running.image,
        "expected_bytes": newest.size if newest else None,
    }


def _move(run: BackupRun, verb: str, sentence: str, actor: Actor, at: datetime) -> None:
    if run.state in ACTIVE_BACKUPS:
        move_backup(run, verb, sentence=sentence, actor=actor, at=at)


def _record(run: BackupRun, result: Mapping[str, Any], *, actor: Actor, at: datetime) -> None:
    if run.state != BackupState.RUNNING:
        return
    filestore = result["filestore"]
    remarks = " ".join([*_remarks(result), *_lock_remarks(run, result)])
    made = new_point(run.policy, key=run.label, kind=str(run.kind), result=result)
    point = record_point(run, point=made, remarks=remarks, actor=actor, at=at)
    if filestore:
        copy = new_filestore_copy(filestore)
        record_filestore_copy(run.policy, copy=copy, point=point, actor=actor, at=at)
    if result["copied_at"]:
        store, copied_at = run.policy.copy_store, datetime.fromisoformat(result["copied_at"])
        record_copy(point, store=store, lock=told_locks(result).get(store), actor=actor, at=copied_at)


def _remarks(result: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with a point that was made all the same."""
    remarks = [result[name] for name in ("remark", "trouble") if result.get(name)]
    if count := result["filestore"].get("wrong_count"):
        which = " ".join(result["filestore"]["wrong"][:2])
        remarks.append(f"{count} attachments could not be copied as they are damaged at their source: {which}")
    return remarks


def _lock_remarks(run: BackupRun, result: Mapping[str, Any]) -> list[str]:
    """Say which stores do not lock a point as the policy promises, so far as they tell."""
    started_at, days = datetime.fromisoformat(result["started_at"]), run.policy.lock_days
    told = told_locks(result).items()
    locks = [PromisedLock(run.label, store, started_at, days, lock.until) for store, lock in told]
    return [sentence for lock in locks if (sentence := lock_problem(lock))]


def told_locks(result: Mapping[str, Any]) -> dict[str, ToldLock]:
    """Return what stores told a job of their locks, by its names; a result of before they were asked tells nothing."""
    return {
        store: ToldLock(
            datetime.fromisoformat(one["told_at"]), datetime.fromisoformat(one["until"]) if one["until"] else None
        )
        for store, one in result.get("locks", {}).items()
    }


def new_filestore_copy(said: Mapping[str, Any]) -> NewFilestoreCopy:
    """Return what a job said of a copy of attachments."""
    columns = {name: said[name] for name in NewFilestoreCopy.__dataclass_fields__ if name != "taken_at"}
    return NewFilestoreCopy(**columns, taken_at=datetime.fromisoformat(said["taken_at"]))


def _parent(policy: BackupPolicy, key: str) -> int | None:
    """Return the point that an incremental one builds upon."""
    rows = (
        RecoveryPoint.objects.filter(environment=policy.environment_id, key=key)
        if key
        else RecoveryPoint.objects.none()
    )
    return rows.values_list("pk", flat=True).first()


def new_point(policy: BackupPolicy, *, key: str, kind: str, result: Mapping[str, Any]) -> NewPoint:
    """Return what a job said of a point in the store of a policy. `kind` is what it is where the job does not say."""
    filestore = result["filestore"]
    finished_at = datetime.fromisoformat(result["finished_at"])
    return NewPoint(
        key=key,
        kind=result.get("kind", kind),
        parent_id=_parent(policy, result.get("parent", "")),
        started_at=datetime.fromisoformat(result["started_at"]),
        consistent_at=datetime.fromisoformat(result["consistent_at"]),
        finished_at=finished_at,
        parts=tuple(
            NewPart(
                **{name: one[name] for name in ("kind", "key", "size", "sha256")},
                started_at=datetime.fromisoformat(one["started_at"]),
                finished_at=datetime.fromisoformat(one["finished_at"]),
            )
            for one in result["parts"]
        ),
        store=policy.store,
        system_identifier=result["system_identifier"],
        server_version=result["server_version"],
        timeline=result["timeline"],
        start_lsn=result["start_lsn"],
        stop_lsn=result["stop_lsn"],
        filestore_at=datetime.fromisoformat(filestore["taken_at"]) if filestore else None,
        git_commit=result["commit"],
        image=result["image"],
        modules=result["modules"],
        cluster_facts=result.get("cluster_facts"),
        locked_until=finished_at + timedelta(days=policy.lock_days) if policy.lock_days else None,
        lock=told_locks(result).get(policy.store),
    )
