"""Loads what the demo shows of recovery, through the product's own actions: keys, policies, and a first backup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from changecontrol.access import Actor, operator_actor
from changecontrol.models import Environment, User
from recovery import doors
from recovery.actions.backups import ask_backup
from recovery.actions.policies import publish_backup_policy
from recovery.adapters.encryption import make_key_pair, recipient_of
from recovery.demo.shop import ensure_database
from recovery.models import BackupPolicy
from recovery.models.policy import Engine
from recovery.rules.policies import PolicyContent

TENANT = "northwind"
SHOP = "nw-shop"
"""What is backed up from the first minute on."""
UNPROVED = "nw-analytics"
"""What has a policy and no point: the gate stops its changes until somebody backs it up and holds a drill."""
DATABASES = {SHOP: "nw_shop", UNPROVED: "nw_analytics"}
STANDBY = "standby"
"""The cluster in which the shop comes up in a drill of level 5, on a database of its own name."""
OWNER = "rio"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the demo keeps what recovery needs: secrets, each in a file of its own, attachments, and the stores."""

    folder: Path

    def secret(self, name: str) -> Path:
        return self.folder / "secrets" / name

    def filestore(self, database: str) -> Path:
        return self.folder / "filestore" / database

    @property
    def server(self) -> str:
        return self.secret("server").read_text().strip()


def load(paths: Paths, *, at: datetime) -> None:
    """Bring keys, databases, policies and the first backup; what is there already is kept."""
    keys = {name: _key(paths, name) for name in ("owner", "index")}
    for slug, database in DATABASES.items():
        environment = Environment.objects.filter(tenant__slug=TENANT, slug=slug, database=database).first()
        if environment is None:
            continue
        ensure_database(paths.server, name=database)
        paths.filestore(database).mkdir(parents=True, exist_ok=True)
        if not BackupPolicy.objects.filter(environment=environment).exists():
            content = _content(paths, database, recipient=keys["owner"], at=at)
            if slug == SHOP:
                content = _rehearsed(content, paths, slug=slug, database=database)
            publish_backup_policy(
                actor=operator_actor(), environment_id=environment.pk, content=content, seen_version=0, at=at
            )
            if slug == SHOP:
                _first_backup(environment, at=at)


def in_use() -> tuple[str, Path]:
    """Return the shop's database and its folder of attachments, as estate and policy say now."""
    policy = BackupPolicy.objects.active().select_related("environment")
    found = policy.get(environment__tenant__slug=TENANT, environment__slug=SHOP)
    return found.environment.database, doors.folder_at(found.filestore)


def _first_backup(environment: Environment, *, at: datetime) -> None:
    owner = User.objects.get(username=OWNER)
    actor = Actor(user=owner, via="command", correlation_id="load_recovery")
    ask_backup(actor=actor, environment_id=environment.pk, reason="The demo's first point.", at=at)


def _content(paths: Paths, database: str, *, recipient: str, at: datetime) -> PolicyContent:
    night = at.replace(hour=2, minute=0, second=0, microsecond=0, tzinfo=None) - timedelta(days=1)
    return PolicyContent(
        engine=Engine.POSTGRES,
        rrule="FREQ=DAILY",
        starts_local=night,
        zone="Europe/Berlin",
        source=f"file:{paths.secret('server')}",
        filestore=paths.filestore(database).as_uri(),
        store=(paths.folder / "store").as_uri(),
        copy_store=(paths.folder / "copy").as_uri(),
        identity=f"file:{paths.secret('owner')}",
        index_identity=f"file:{paths.secret('index')}",
        restore_target=f"file:{paths.secret('server')}",
        restore_filestore=(paths.folder / "restored").as_uri(),
        recipients=(recipient,),
        has_sentinel=True,
        wal_seconds=10,
        filestore_seconds=30,
        keep_last=7,
        keep_weekly=4,
        verify_days=1,
        drill_days=30,
    )


def _rehearsed(content: PolicyContent, paths: Paths, *, slug: str, database: str) -> PolicyContent:
    return replace(
        content,
        rehearsal_cluster=STANDBY,
        rehearsal_path=f"rehearsals/{slug}",
        rehearsal_target=f"file:{paths.secret('server')}",
        rehearsal_database=f"{database}_standby",
        rehearsal_filestore=(paths.folder / "standby").as_uri(),
    )


def _key(paths: Paths, name: str) -> str:
    """Return the recipient of a key of this demo's own, made at its first start."""
    file = paths.secret(name)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(make_key_pair().identity + "\n")
    return recipient_of(file.read_text().strip())
