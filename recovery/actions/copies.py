"""Copies of attachments: each recorded once it is whole in the store, and let go by retention.

Whoever calls these is a workflow that holds the lock on the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.events import Tag
from recovery.models import BackupPolicy, FilestoreCopy, RecoveryPoint


@dataclass(frozen=True, slots=True)
class NewFilestoreCopy:
    """A copy that is whole in the store; see the columns of `FilestoreCopy`."""

    name: str
    key: str
    size: int
    sha256: str
    taken_at: datetime
    file_count: int
    byte_count: int
    stored_bytes: int


def record_filestore_copy(
    policy: BackupPolicy, *, copy: NewFilestoreCopy, point: RecoveryPoint | None = None, actor: Actor, at: datetime
) -> FilestoreCopy:
    """Record a copy of the attachments. One that only follows another, as every minute does, is no event."""
    environment = policy.environment
    is_first = not FilestoreCopy.objects.filter(environment=environment).exists()
    found, is_new = FilestoreCopy.objects.get_or_create(
        environment=environment,
        name=copy.name,
        defaults={
            "policy": policy,
            "point": point,
            **{name: getattr(copy, name) for name in NewFilestoreCopy.__dataclass_fields__ if name != "name"},
        },
    )
    if is_new and (is_first or point is not None):
        data = {"name": found.name, "key": found.key, "sha256": found.sha256, "files": found.file_count}
        audit.record(Tag.FILESTORE_COPIED, subject=found, actor=actor, at=at, data=data, tenant=environment.tenant_id)
    return found


def remove_filestore_copy(copy: FilestoreCopy, *, actor: Actor, at: datetime) -> None:
    """Record that a copy's manifest is gone from the store; what is known of it stays."""
    copy.removed_at = at
    copy.save(update_fields=["removed_at"])
    data = {"name": copy.name, "key": copy.key}
    audit.record(Tag.FILESTORE_REMOVED, subject=copy, actor=actor, at=at, data=data, tenant=copy.tenant_id)
