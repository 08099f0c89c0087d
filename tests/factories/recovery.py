"""Policies, points and drills of the small estate, by the same actions that people and workflows use."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from changecontrol.access import Actor, operator_actor, system_actor
from changecontrol.models import Environment, User
from changecontrol.rules.roles import Role
from recovery.actions.drills import finish_drill, move_drill, record_check, start_drill
from recovery.actions.points import NewPart, NewPoint, NewSegment, ask_backup, move_backup, record_point, record_segment
from recovery.actions.policies import publish_backup_policy
from recovery.models import BackupPolicy, Drill, RecoveryPoint
from recovery.models.policy import Engine
from recovery.rules.policies import PolicyContent
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
    recipients=("age1" + "q" * 58,),
    wal_seconds=10,
    filestore_seconds=60,
)


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
    """Ask for a backup, and let the worker make this point of it."""
    run = ask_backup(actor=actor(by), environment_id=environment.pk, reason="A point.", at=at)
    move_backup(run, "start", sentence="It runs.", actor=system_actor(), at=at)
    return record_point(run, point=new_point(key, at, **words), actor=system_actor(), at=at + timedelta(minutes=5))


def ship_wal(environment: Environment, start: datetime, end: datetime) -> None:
    """Record one piece of WAL that reaches from one time to another."""
    segment = NewSegment("7012", 1, int(start.timestamp()), int(end.timestamp()), end, f"wal/{start}", 16, "e" * 64)
    record_segment(environment=environment, segment=segment, actor=system_actor(), at=end)


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
