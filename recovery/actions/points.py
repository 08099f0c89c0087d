"""Recovery points: recorded with every part, proved or disproved, let go.

Whoever calls `record_point`, `record_copy`, `record_verification` or `remove_point` is a workflow that holds the lock
on the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.errors import Conflict, Invalid
from changecontrol.events import Tag
from changecontrol.models import Environment
from changecontrol.rules.counting import counted
from changecontrol.rules.roles import Ability
from recovery.actions.backups import move_backup
from recovery.actions.locking import locked_environment, policy_of
from recovery.actions.owners import tell_owners
from recovery.actions.refusals import audited
from recovery.lifecycles.point import POINT, RESTORABLE, PointState
from recovery.models import BackupPolicy, BackupRun, Drill, PointCopy, PointPart, RecoveryPoint, Verification
from recovery.models.policy import Engine
from recovery.queries.points import retention_of
from recovery.rules.locks import ToldLock
from recovery.rules.points import point_problems
from recovery.rules.verification import Checked, stand


@dataclass(frozen=True, slots=True)
class NewPart:
    """One object as it was written. `size` is in bytes."""

    kind: str
    key: str
    size: int
    sha256: str
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A whole set, every part of it in the store already; see the columns of `RecoveryPoint`.

    `locked_until` is up to when it counts as locked, `lock` what the store itself told; None: it did not say.
    """

    key: str
    kind: str
    started_at: datetime
    consistent_at: datetime
    finished_at: datetime
    parts: tuple[NewPart, ...]
    store: str
    parent_id: int | None = None
    system_identifier: str = ""
    server_version: str = ""
    timeline: int = 0
    start_lsn: int = 0
    stop_lsn: int = 0
    filestore_at: datetime | None = None
    git_commit: str = ""
    image: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)
    cluster_facts: Mapping[str, Any] | None = None
    locked_until: datetime | None = None
    lock: ToldLock | None = None


def record_point(run: BackupRun, *, point: NewPoint, remarks: str = "", actor: Actor, at: datetime) -> RecoveryPoint:
    """Record the point that a locked running backup has made, and with it end the backup.

    `remarks` are what is wrong with it all the same: whoever looks after recovery is told.
    """
    found = _record(run.environment, run.policy, point, run=run, actor=actor, at=at)
    move_backup(run, "succeed", sentence=f"Point {found.key} is copied. {remarks}".strip(), actor=actor, at=at)
    if remarks:
        tell_owners(run.environment, tag=Tag.BACKUP_MOVED, subject="A backup with a flaw", text=remarks, at=at)
    return found


@audited
@transaction.atomic
def register_point(*, actor: Actor, environment_id: int, point: NewPoint, at: datetime) -> RecoveryPoint:
    """Record a point that another tool has made, with its evidence as parts. It is copied, no more, like any other.

    It lies where the policy says, whatever the point says: a key must not be read from somebody else's store.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    policy = policy_of(environment)
    if policy.engine != Engine.EXTERNAL:
        raise Conflict("ChangeControl backs this environment up itself: only another tool's points are registered.")
    if point.finished_at > at:
        raise Invalid("This point would be finished later than now.", fields={"finished_at": ["This is to come."]})
    if problems := problems_of(point):
        raise Invalid("The point does not hold together as it is told.", fields=problems)
    if RecoveryPoint.objects.filter(environment=environment, key=point.key).exists():
        raise Conflict(f"There is a point called {point.key} already.")
    return _record(environment, policy, replace(point, store=policy.store), run=None, actor=actor, at=at)


def problems_of(point: NewPoint) -> dict[str, list[str]]:
    """Return what does not hold together in what is told of a point, by field; empty where all of it does."""
    return point_problems(
        kind=point.kind,
        has_parent=point.parent_id is not None,
        started_at=point.started_at,
        consistent_at=point.consistent_at,
        finished_at=point.finished_at,
        filestore_at=point.filestore_at,
        locked_until=point.locked_until,
        start_lsn=point.start_lsn,
        stop_lsn=point.stop_lsn,
        key=point.key,
        parts=[(one.key, one.started_at, one.finished_at) for one in point.parts],
    )


def record_found(
    environment: Environment, policy: BackupPolicy, *, point: NewPoint, actor: Actor, at: datetime
) -> RecoveryPoint:
    """Record a point that was found whole in the store of a policy. It is copied, no more, like any other."""
    return _record(environment, policy, point, run=None, actor=actor, at=at)


def record_copy(
    point: RecoveryPoint, *, store: str, lock: ToldLock | None = None, actor: Actor, at: datetime
) -> PointCopy:
    """Record that another destination holds every part of a locked point, and what it told of its lock, if it did."""
    columns = {"stored_at": at, **_lock_columns(lock)}
    found, is_new = PointCopy.objects.get_or_create(point=point, store=store, defaults=columns)
    if is_new:
        data = {"store": store}
        audit.record(Tag.POINT_COPIED, subject=point, actor=actor, at=at, data=data, tenant=point.tenant_id)
    return found


def _lock_columns(lock: ToldLock | None) -> dict[str, datetime | None]:
    return {} if lock is None else {"locked_until": lock.until, "lock_told_at": lock.told_at}


def drop_copy(point: RecoveryPoint, *, store: str, sentence: str, actor: Actor, at: datetime) -> None:
    """Record that another destination no longer holds every part of a locked point, and tell its owners."""
    point.copies.filter(store=store).delete()
    data = {"store": store, "sentence": sentence}
    audit.record(Tag.POINT_COPY_LOST, subject=point, actor=actor, at=at, data=data, tenant=point.tenant_id)
    tell_owners(
        point.environment,
        tag=Tag.POINT_COPY_LOST,
        subject=f"A copy of recovery point {point.key} is lost",
        text=f"{store}: {sentence}",
        at=at,
    )


def record_verification(
    point: RecoveryPoint,
    *,
    level: int,
    is_passed: bool,
    sentence: str,
    drill: Drill | None = None,
    actor: Actor,
    at: datetime,
) -> Verification:
    """Record what one check of a locked point came to, and where the point stands after it.

    A level is never lowered in silence: a failed check breaks the point and all that build upon it, and whoever looks
    after recovery is told.
    """
    words: dict[str, Any] = {"level": level, "is_passed": is_passed, "drill": drill, "actor": actor, "at": at}
    checked = _checked(point, sentence=sentence, **words)
    if is_passed:
        return checked
    fallen = _building_upon(point)
    for one in fallen:
        _checked(one, sentence=f"It builds upon {point.key}, which is broken. {sentence}", **words)
    with_it = f" With it {counted(len(fallen), 'point')} broke that cannot be restored without it."
    tell_owners(
        point.environment,
        tag=Tag.POINT_CHECKED,
        subject=f"Recovery point {point.key} is broken",
        text=f"{sentence}{with_it if fallen else ''}",
        at=at,
    )
    return checked


def _building_upon(point: RecoveryPoint) -> list[RecoveryPoint]:
    """Lock and return the points that cannot be restored without one and stand yet, parents first."""
    found, waiting = [], [point.pk]
    while waiting:
        rows = RecoveryPoint.objects.select_for_update(of=("self",)).filter(parent__in=waiting, state__in=RESTORABLE)
        children = list(rows.order_by("pk"))
        found += children
        waiting = [one.pk for one in children]
    return found


def _checked(
    point: RecoveryPoint,
    *,
    level: int,
    is_passed: bool,
    sentence: str,
    drill: Drill | None,
    actor: Actor,
    at: datetime,
) -> Verification:
    checked = Verification.objects.create(
        point=point, drill=drill, level=level, is_passed=is_passed, sentence=sentence, at=at
    )
    standing = stand(Checked(*one) for one in point.verifications.values_list("level", "is_passed"))
    before = {"state": str(point.state), "level": point.level}
    if standing.is_broken:
        point.state = POINT.target("break", point.state)
    elif standing.is_verified:
        point.state = POINT.target("verify", point.state)
    elif point.state == PointState.BROKEN:
        point.state = POINT.target("mend", point.state)
    point.level, point.checked_at = standing.level, at
    point.save(update_fields=["state", "level", "checked_at"])
    data = {"level": level, "is_passed": is_passed, "sentence": sentence, "before": before}
    data["after"] = {"state": str(point.state), "level": point.level}
    audit.record(Tag.POINT_CHECKED, subject=point, actor=actor, at=at, data=data, tenant=point.tenant_id)
    return checked


@transaction.atomic
def begin_removal(*, point_id: int, actor: Actor, at: datetime) -> bool:
    """Write down that the bytes of a point go now; False where it stays after all, and is restorable again.

    From then on no hold keeps it and no restore begins on it. Once begun, it is gone on with.
    """
    environment_id = RecoveryPoint.objects.values_list("environment_id", flat=True).get(pk=point_id)
    environment = Environment.objects.select_for_update(of=("self",), no_key=True).get(pk=environment_id)
    point = RecoveryPoint.objects.select_for_update(of=("self",)).get(pk=point_id)
    if point.removing_at is not None:
        return point.state != PointState.REMOVED
    if point.removal_asked_at is None:
        return False
    plan = retention_of(policy_of(environment), at=at)
    if point.key not in plan.goes:
        keep_point(point, sentence=" ".join(plan.stays.get(point.key, ())), actor=actor, at=at)
        return False
    point.removing_at = at
    point.save(update_fields=["removing_at"])
    return True


def keep_point(point: RecoveryPoint, *, sentence: str, actor: Actor, at: datetime) -> None:
    """Undo the removal of a locked point that was asked for, and say why: a restore may begin on it again."""
    point.removal_asked_at, point.removal_asked_by = None, None
    point.save(update_fields=["removal_asked_at", "removal_asked_by"])
    data = {"key": point.key, "sentence": sentence}
    audit.record(Tag.POINT_KEPT, subject=point, actor=actor, at=at, data=data, tenant=point.tenant_id)


def chain_of(point: RecoveryPoint) -> list[RecoveryPoint]:
    """Return a point and all it builds upon."""
    found = [point]
    while (parent := found[-1].parent) is not None:
        found.append(parent)
    return found


def remove_point(point: RecoveryPoint, *, actor: Actor, at: datetime) -> None:
    """Record that the bytes of a locked point are gone; what is known of it stays.

    Raises `Conflict` unless `begin_removal` said that they go.
    """
    if point.removing_at is None:
        raise Conflict(f"Point {point.key} stays: nothing of it has begun to go.")
    point.state = POINT.target("remove", point.state)
    point.removed_at = at
    point.save(update_fields=["state", "removed_at"])
    audit.record(Tag.POINT_REMOVED, subject=point, actor=actor, at=at, data={"key": point.key}, tenant=point.tenant_id)


def _record(
    environment: Environment,
    policy: BackupPolicy,
    point: NewPoint,
    *,
    run: BackupRun | None,
    actor: Actor,
    at: datetime,
) -> RecoveryPoint:
    columns: dict[str, Any] = {
        name: getattr(point, name)
        for name in NewPoint.__dataclass_fields__
        if name not in {"parts", "store", "modules", "lock"}
    }
    if not point.parts:
        raise Invalid("A recovery point has parts.", fields={"parts": ["Name at least one part."]})
    parents = RecoveryPoint.objects.restorable().filter(environment=environment)
    if point.parent_id is not None and not parents.filter(pk=point.parent_id).exists():
        raise Conflict("What this point builds on is missing or broken: take a full backup.")
    found = RecoveryPoint.objects.create(
        environment=environment,
        policy=policy,
        run=run,
        modules=dict(point.modules),
        size=sum(one.size for one in point.parts),
        **columns,
    )
    PointPart.objects.bulk_create(PointPart(point=found, **asdict(one)) for one in point.parts)
    PointCopy.objects.create(point=found, store=point.store, stored_at=point.finished_at, **_lock_columns(point.lock))
    data = {
        "key": found.key,
        "kind": found.kind,
        "policy": policy.version,
        "consistent_at": found.consistent_at.isoformat(),
        "size": found.size,
        "parts": [{"key": one.key, "size": one.size, "sha256": one.sha256} for one in point.parts],
        "store": point.store,
    }
    audit.record(Tag.POINT_RECORDED, subject=found, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return found
