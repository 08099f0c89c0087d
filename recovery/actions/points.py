"""Backups and the points they make: asked for, recorded with every part, proved or disproved, held, let go.

Whoever calls `move_backup`, `record_point`, `record_copy`, `record_verification` or `remove_point` is a workflow that
holds the lock on the row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from changecontrol import access, audit, outbox, wiring
from changecontrol.access import Actor
from changecontrol.actions.locking import reason_of
from changecontrol.errors import Conflict, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import Environment, User
from changecontrol.rules.roles import Ability, Role
from changecontrol.rules.words import seen
from recovery.actions.locking import locked_environment, policy_of
from recovery.actions.refusals import audited
from recovery.lifecycles.point import ACTIVE_BACKUPS, BACKUP, POINT, BackupState, PointState
from recovery.models import (
    BackupPolicy,
    BackupRun,
    Drill,
    LegalHold,
    PointCopy,
    PointPart,
    RecoveryPoint,
    Verification,
    WalSegment,
)
from recovery.models.backup import BackupKind
from recovery.models.policy import Engine
from recovery.queries.points import retention_of
from recovery.rules.retention import Retention
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
    """A whole set, every part of it in the store already; see the columns of `RecoveryPoint`."""

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
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A piece of WAL in the store; see the columns of `WalSegment`."""

    system_identifier: str
    timeline: int
    start_lsn: int
    end_lsn: int
    ends_at: datetime
    key: str
    size: int
    sha256: str


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
        kind=BackupKind.BASE,
        asked_by=actor.person,
        reason=words[:500],
        created_at=at,
        next_due_at=at,
    )
    data = {"environment": environment.slug, "kind": run.kind, "policy": policy.version, "reason": words}
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


def record_point(run: BackupRun, *, point: NewPoint, actor: Actor, at: datetime) -> RecoveryPoint:
    """Record the point that a locked running backup has made, and with it end the backup."""
    found = _record(run.environment, run.policy, point, run=run, actor=actor, at=at)
    move_backup(run, "succeed", sentence=f"Point {found.key} is copied.", actor=actor, at=at)
    return found


@audited
@transaction.atomic
def register_point(*, actor: Actor, environment_id: int, point: NewPoint, at: datetime) -> RecoveryPoint:
    """Record a point that another tool has made, with its evidence as parts. It is copied, no more, like any other."""
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    policy = policy_of(environment)
    if policy.engine != Engine.EXTERNAL:
        raise Conflict("ChangeControl backs this environment up itself: only another tool's points are registered.")
    if point.finished_at > at:
        raise Invalid("This point would be finished later than now.", fields={"finished_at": ["This is to come."]})
    if RecoveryPoint.objects.filter(environment=environment, key=point.key).exists():
        raise Conflict(f"There is a point called {point.key} already.")
    return _record(environment, policy, point, run=None, actor=actor, at=at)


@transaction.atomic
def record_segment(*, environment: Environment, segment: NewSegment, actor: Actor, at: datetime) -> WalSegment:
    """Record a piece of WAL that is in the store now. A longer one takes the place of what was shipped of it before.

    A partial piece that grew under its own name, as it does every few seconds, is no event.
    """
    values = asdict(segment)
    place = {name: values.pop(name) for name in ("system_identifier", "timeline", "start_lsn")}
    before = WalSegment.objects.select_for_update().filter(environment=environment, **place).first()
    if before is not None and before.end_lsn >= segment.end_lsn:
        return before
    found, _ = WalSegment.objects.update_or_create(environment=environment, **place, defaults=values)
    if before is not None and before.key == segment.key:
        return found
    data = {"key": segment.key, "size": segment.size, "sha256": segment.sha256, "ends_at": segment.ends_at.isoformat()}
    audit.record(Tag.WAL_RECORDED, subject=found, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return found


def record_copy(point: RecoveryPoint, *, store: str, actor: Actor, at: datetime) -> PointCopy:
    """Record that another destination holds every part of a locked point."""
    found, is_new = PointCopy.objects.get_or_create(point=point, store=store, defaults={"stored_at": at})
    if is_new:
        data = {"store": store}
        audit.record(Tag.POINT_COPIED, subject=point, actor=actor, at=at, data=data, tenant=point.tenant_id)
    return found


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

    A level is never lowered in silence: a failed check breaks the point, and whoever looks after recovery is told.
    """
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
    if not is_passed:
        tell_owners(
            point.environment,
            tag=Tag.POINT_CHECKED,
            subject=f"Recovery point {point.key} is broken",
            text=sentence,
            at=at,
        )
    return checked


@audited
@transaction.atomic
def place_hold(
    *, actor: Actor, environment_id: int, name: str, reason: str, point_id: int | None = None, at: datetime
) -> LegalHold:
    """Keep one point, or without one all of an environment, until the hold is lifted. Undoes a removal asked for."""
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_HOLD, environment)
    if not seen(name) or len(name.strip()) > 120:
        raise Invalid("Name the case.", fields={"name": ["Name the case, in at most 120 characters."]})
    words = reason_of(reason, field="reason", sentence="Say why it must be kept.")
    points = RecoveryPoint.objects.kept().filter(environment=environment)
    if point_id is not None:
        points = points.filter(pk=point_id)
        if not points.exists():
            raise NotFound("There is no such recovery point.")
    points.filter(removal_asked_at__isnull=False).update(removal_asked_at=None, removal_asked_by=None)
    hold = LegalHold.objects.create(
        environment=environment,
        point_id=point_id,
        name=name.strip(),
        reason=words[:500],
        placed_at=at,
        placed_by=actor.person,
    )
    data = {"name": hold.name, "reason": words, "environment": environment.slug, "point": point_id}
    audit.record(Tag.HOLD_PLACED, subject=hold, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return hold


@audited
@transaction.atomic
def lift_hold(*, actor: Actor, hold_id: int, reason: str, at: datetime) -> LegalHold:
    """End a legal hold. What it kept goes by the policy from now on."""
    environment_id = LegalHold.objects.filter(pk=hold_id).values_list("environment_id", flat=True).first()
    if environment_id is None:
        raise NotFound("There is no such legal hold.")
    environment = locked_environment(actor, environment_id)
    hold = LegalHold.objects.select_for_update(of=("self",)).get(pk=hold_id)
    access.require(actor, Ability.RECOVERY_HOLD, environment)
    words = reason_of(reason, field="reason", sentence="Say why the hold ends.")
    if hold.lifted_at is not None:
        raise Conflict("This legal hold is lifted already.")
    hold.lifted_at, hold.lifted_by = at, actor.person
    hold.save(update_fields=["lifted_at", "lifted_by"])
    data = {"name": hold.name, "reason": words}
    audit.record(Tag.HOLD_LIFTED, subject=hold, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return hold


@audited
@transaction.atomic
def ask_retention(*, actor: Actor, environment_id: int, seen_goes: Iterable[str], at: datetime) -> Retention:
    """Ask for what the policy lets go to be removed: exactly what somebody was shown that would go.

    Raises `Conflict` where that is another set now; a workflow removes the bytes, and asks the plan again before each.
    """
    environment = locked_environment(actor, environment_id)
    access.require(actor, Ability.RECOVERY_EDIT, environment)
    plan = retention_of(policy_of(environment), at=at)
    if set(seen_goes) != set(plan.goes):
        raise Conflict(f"Something changed meanwhile: now {len(plan.goes)} points would go. Look again.")
    rows = RecoveryPoint.objects.kept().filter(environment=environment, key__in=plan.goes)
    for point in rows.select_for_update(of=("self",)).order_by("pk"):
        if point.removal_asked_at is not None:
            continue
        point.removal_asked_at, point.removal_asked_by = at, actor.person
        point.save(update_fields=["removal_asked_at", "removal_asked_by"])
        data = {"key": point.key}
        audit.record(
            Tag.POINT_REMOVAL_ASKED, subject=point, actor=actor, at=at, data=data, tenant=environment.tenant_id
        )
    wiring.nudge("backup")
    return plan


def remove_point(point: RecoveryPoint, *, actor: Actor, at: datetime) -> None:
    """Record that the bytes of a locked point are gone; what is known of it stays.

    Raises `Conflict` unless its removal was asked for and the plan still lets it go.
    """
    if point.removal_asked_at is None or point.key not in retention_of(policy_of(point.environment), at=at).goes:
        raise Conflict(f"Point {point.key} stays: it is not to go any more.")
    point.state = POINT.target("remove", point.state)
    point.removed_at = at
    point.save(update_fields=["state", "removed_at"])
    audit.record(Tag.POINT_REMOVED, subject=point, actor=actor, at=at, data={"key": point.key}, tenant=point.tenant_id)


def tell_owners(environment: Environment, *, tag: Tag, subject: str, text: str, at: datetime) -> None:
    """Tell whoever looks after an environment's recovery."""
    outbox.post(to=owners_of(environment, at=at), tag=str(tag), subject=f"{environment}: {subject}", text=text, at=at)


def owners_of(environment: Environment, *, at: datetime) -> list[User]:
    ids = [environment.pk]
    return access.holders(Role.RECOVERY_OWNER, tenant_id=environment.tenant_id, environment_ids=ids, at=at)


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
        if name not in {"parts", "store", "modules"}
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
    PointCopy.objects.create(point=found, store=point.store, stored_at=point.finished_at)
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
