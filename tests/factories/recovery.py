"""Policies, points and drills of the small estate, by the same actions that people and workflows use."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from changecontrol.access import Actor, operator_actor, system_actor
from changecontrol.models import ChangeRequest, Environment, Revision, Run, User
from changecontrol.rules.roles import Role
from recovery.actions.backups import ask_backup, move_backup
from recovery.actions.copies import NewFilestoreCopy, record_filestore_copy
from recovery.actions.cut_overs import begin_restore
from recovery.actions.drills import cancel_drill, finish_drill, move_drill, record_check, start_drill
from recovery.actions.points import NewPart, NewPoint, record_point, register_point
from recovery.actions.policies import publish_backup_policy
from recovery.actions.restores import ask_restore, move_restore
from recovery.actions.wal import NewSegment, record_segment
from recovery.forms.policies import initial_of
from recovery.models import BackupPolicy, CutOver, Drill, RecoveryPoint, Restore, WalSegment
from recovery.models.policy import Engine
from recovery.queries.upkeep import removal_of
from recovery.rules.policies import PolicyContent
from tests.factories.changes import draft_change
from tests.factories.estate import NOW, SmallEstate, actor, add_person, grant

HOUR = timedelta(hours=1)
POLICY = PolicyContent(
    engine=Engine.POSTGRES,
    rrule="FREQ=DAILY",
    starts_local=datetime(2026, 11, 1, 2, 0),  # noqa: DTZ001 - wall-clock time
    zone="Europe/Lisbon",
    source="file:/run/secrets/northwind",
    filestore="s3://attachments/northwind",
    store="s3://points/northwind",
    copy_store="s3://copies/northwind",
    restore_credential="file:/run/secrets/northwind-reader",
    identity="file:/run/secrets/northwind-identity",
    index_identity="file:/run/secrets/northwind-index",
    restore_target="file:/run/secrets/northwind-restores",
    restore_filestore="file:///var/lib/restored/northwind",
    recipients=("age1" + "q" * 58,),
    wal_seconds=10,
    filestore_seconds=60,
)

DUMPS: dict[str, Any] = {
    "engine": Engine.PG_DUMP,
    "rrule": "FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))),
    "zone": "UTC",
    "wal_seconds": None,
    "filestore_seconds": None,
}
"""What makes of that policy one whose database is dumped each hour."""
ELSEWHERE: dict[str, Any] = {"engine": Engine.EXTERNAL, "source": "", "filestore": "", "has_sentinel": False}
"""What makes of that policy one whose environment another tool backs up."""
DUMP: dict[str, Any] = {"kind": "dump", "system_identifier": "", "timeline": 0, "start_lsn": 0, "stop_lsn": 0}
"""What makes of a point one that was dumped."""


def recovery_owner(estate: SmallEstate, name: str = "rio") -> User:
    """Rio looks after recovery."""
    person = add_person(name)
    grant(person, Role.RECOVERY_OWNER, estate.tenant)
    return person


def backup_policy(environment: Environment, *, at: datetime = NOW - timedelta(days=100), **words: Any) -> BackupPolicy:
    """Publish the first policy of an environment, as whoever sets an installation up."""
    content = replace(POLICY, **words)
    return publish_backup_policy(
        actor=operator_actor(), environment_id=environment.pk, content=content, seen_version=0, at=at
    )


def policy_answers(policy: BackupPolicy | None, **words: Any) -> dict[str, Any]:
    """Return what a browser sends back of the form of a policy that nobody touched, but for these answers."""
    shown = {**initial_of(policy, starts=POLICY.starts_local, zone="UTC"), "reason": "It is time.", **words}
    shown["starts_local"] = f"{shown['starts_local']:%Y-%m-%dT%H:%M}"
    return {name: value for name, value in shown.items() if not (value is None or value is False or value == [])}


def new_point(key: str, at: datetime, **words: Any) -> NewPoint:
    """Return a base backup of two parts, consistent at that time; its WAL position is in seconds of the epoch."""
    lsn = int(at.timestamp())
    values: dict[str, Any] = {
        "kind": "base",
        "started_at": at - timedelta(minutes=10),
        "consistent_at": at,
        "finished_at": at + timedelta(minutes=5),
        "store": POLICY.store,
        "parts": (
            NewPart("database", f"{key}/base.tar.zst.age", 900, "a" * 64, at - timedelta(minutes=10), at),
            NewPart("filestore_manifest", f"{key}/filestore.json", 100, "b" * 64, at, at + timedelta(minutes=5)),
        ),
        "system_identifier": "7012",
        "server_version": "17.2",
        "timeline": 1,
        "start_lsn": lsn - 600,
        "stop_lsn": lsn,
        "filestore_at": at + timedelta(minutes=5),
        "git_commit": "c" * 40,
        "image": "sha256:" + "d" * 64,
        "modules": {"base": "19.0.1.0"},
    }
    return NewPoint(key=key, **{**values, **words})


def recorded_point(environment: Environment, key: str, at: datetime, *, by: User, **words: Any) -> RecoveryPoint:
    """Ask for a backup, and let the worker make this point of it, with the WAL that makes it consistent."""
    run = ask_backup(actor=actor(by), environment_id=environment.pk, reason="A point.", at=at)
    move_backup(run, "start", sentence="It runs.", actor=system_actor(), at=at)
    made = record_point(run, point=new_point(key, at, **words), actor=system_actor(), at=at + timedelta(minutes=5))
    if made.policy.engine == Engine.POSTGRES:
        place = (made.system_identifier, made.timeline, made.start_lsn, made.stop_lsn)
        segment = NewSegment(*place, at, f"wal/{key}", 16, "e" * 64)
        record_segment(environment=environment, segment=segment, actor=system_actor(), at=at)
    return made


def put_in_force(environment: Environment, **words: Any) -> BackupPolicy:
    """Put another version of a policy in force, whatever the objectives of the environment allow."""
    before = BackupPolicy.objects.active().get(environment=environment)
    BackupPolicy.objects.filter(pk=before.pk).update(is_active=False)
    values = {one.attname: getattr(before, one.attname) for one in BackupPolicy._meta.concrete_fields}
    return BackupPolicy.objects.create(**{**values, "id": None, "version": before.version + 1, **words})


def registered_point(environment: Environment, key: str, at: datetime, *, by: User, **words: Any) -> RecoveryPoint:
    """Let another tool back an environment up from now on, and register this point of it."""
    if not BackupPolicy.objects.active().filter(environment=environment, engine=Engine.EXTERNAL).exists():
        put_in_force(environment, **ELSEWHERE)
    point = new_point(key, at, filestore_at=None, **words)
    return register_point(actor=actor(by), environment_id=environment.pk, point=point, at=at + HOUR)


def seen_removal(environment: Environment, *, at: datetime = NOW) -> dict[str, Any]:
    """Return what somebody sees that retention would let go, points and times, as they ask for it."""
    plan = removal_of(BackupPolicy.objects.active().get(environment=environment), at=at)
    return {"seen_goes": list(plan.goes), "seen_lost": [(one.start, one.end) for one in plan.lost]}


def ship_wal(environment: Environment, start: datetime, end: datetime) -> None:
    """Record one piece of WAL that reaches from one time to another."""
    segment = NewSegment("7012", 1, int(start.timestamp()), int(end.timestamp()), end, f"wal/{start}", 16, "e" * 64)
    place = {"system_identifier": "7012", "timeline": 1, "start_lsn__gte": segment.start_lsn}
    # What points brought of it is a part of this one.
    WalSegment.objects.filter(environment=environment, end_lsn__lte=segment.end_lsn, **place).delete()
    record_segment(environment=environment, segment=segment, actor=system_actor(), at=end)


def copy_attachments(environment: Environment, at: datetime) -> None:
    """Record a copy of the attachments as they were at a time, beside any point."""
    policy = BackupPolicy.objects.active().get(environment=environment)
    copy = NewFilestoreCopy(f"between-{at:%Y%m%dT%H%M%S}", f"filestore/{at}", 100, "b" * 64, at, 4, 4000, 400)
    with transaction.atomic():
        record_filestore_copy(policy, copy=copy, actor=system_actor(), at=at)


def started_drill(
    environment: Environment, *, by: User, target_at: datetime, level: int = 2, at: datetime = NOW, **words: Any
) -> Drill:
    """Begin a drill, as a person does."""
    person = actor(by, at=at)
    return start_drill(actor=person, environment_id=environment.pk, level=level, target_at=target_at, at=at, **words)


def finished_drill(
    environment: Environment,
    *,
    by: User,
    target_at: datetime,
    level: int = 2,
    is_passed: bool = True,
    at: datetime = NOW,
    sabotage: str = "",
    **words: Any,
) -> Drill:
    """Carry a drill out, with one check, to its verdict."""
    worker: Actor = system_actor()
    drill = start_drill(
        actor=actor(by), environment_id=environment.pk, level=level, target_at=target_at, sabotage=sabotage, at=at
    )
    for minutes, verb in ((1, "provision"), (2, "restore"), (12, "check")):
        move_drill(drill, verb, sentence="It goes on.", actor=worker, at=at + timedelta(minutes=minutes))
    ended = at + timedelta(minutes=15)
    record_check(
        drill,
        name="sentinel",
        level=level,
        is_passed=is_passed,
        sentence="The newest sentinel.",
        actor=worker,
        at=ended,
    )
    move_drill(drill, "tear_down", sentence="It cleans up.", actor=worker, at=ended)
    finish_drill(drill, actor=worker, at=ended, **words)
    return drill


def canceled_drill(
    environment: Environment, *, by: User, target_at: datetime, at: datetime = NOW, leftovers: str = "", **words: Any
) -> Drill:
    """Begin a drill, have the person cancel it a minute later, and clear away."""
    drill = started_drill(environment, by=by, target_at=target_at, at=at, **words)
    ended = at + timedelta(minutes=1)
    canceled = cancel_drill(actor=actor(by, at=ended), drill_id=drill.pk, reason="The wrong level.", at=ended)
    finish_drill(canceled, leftovers=leftovers, actor=system_actor(), at=ended + timedelta(minutes=1))
    return canceled


def asked_restore(
    environment: Environment, *, by: User, target_at: datetime, at: datetime = NOW, **words: Any
) -> Restore:
    """Ask for a copy of an environment, as a person does."""
    return ask_restore(
        **{
            "actor": actor(by, at=at),
            "environment_id": environment.pk,
            "target_at": target_at,
            "target_database": "a_look",
            "reason": "What was sold?",
            "at": at,
            **words,
        }
    )


def restored(restore: Restore, *, up_to: str = "succeed") -> Restore:
    """Carry a restore out, up to and with one verb of its lifecycle."""
    verbs = ["provision", "restore", "validate", "succeed"]
    for minutes, verb in zip((1, 2, 12, 15), verbs[: verbs.index(up_to) + 1], strict=False):
        at = restore.decided_at + timedelta(minutes=minutes)
        move_restore(restore, verb, sentence="It goes on.", actor=system_actor(), at=at)
    return restore


def begun_cut_over(estate: SmallEstate, *, target_at: datetime, at: datetime = NOW) -> CutOver:
    """Return what a run of an approved change waits for: the safety backup is taken, the restore has begun."""
    Environment.objects.filter(pk=estate.production.pk).update(database="northwind")
    change = draft_change(estate, at=at, kind="restore", restore_to=target_at.isoformat())
    run = Run.objects.create(change=change, revision=_revision(change, at=at), kind="rollout", created_at=at)
    with transaction.atomic():
        cut_over = CutOver.objects.create(
            environment=Environment.objects.get(pk=estate.production.pk),
            change=change,
            run=run,
            target_at=target_at,
            target_database="northwind_monday",
            old_database="northwind",
            keep_hours=72,
            created_at=at,
        )
        begin_restore(cut_over, actor=system_actor(), at=at)
    return cut_over


def _revision(change: ChangeRequest, *, at: datetime) -> Revision:
    return Revision.objects.create(
        change=change, number=1, author=change.requester, created_at=at, content=change.draft
    )
