"""The attachments of an environment: where they lie, where their copies go, and the job that copies them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.filestore import BucketSource, FolderSource, StoredFilestores
from recovery.adapters.postgres.programs import connected, one_row
from recovery.jobs.saying import CountedStore, Saying
from recovery.models import BackupPolicy, FilestoreCopy
from recovery.models.policy import Engine
from recovery.ports.filestore import FilestoreCopied, FilestorePoint, FilestoreSource

MARK = ".changecontrol-run"
"""The file by which a folder of attachments is known to be of a run. It is no attachment, neither here nor to Odoo."""


def archive_of(policy: BackupPolicy, store: ObjectStore) -> StoredFilestores:
    """Return the copies of an environment's attachments in a store."""
    return StoredFilestores(
        store,
        prefix=doors.prefix_of(policy.environment),
        recipients=policy.recipients,
        index_identity=doors.read_secret(policy.index_identity, what="identity that opens the lists of attachments"),
    )


def source_of(policy: BackupPolicy) -> FilestoreSource:
    """Return the attachments in use: a folder, or a bucket, where the last part of the address is the prefix."""
    if urlsplit(policy.filestore).scheme == "file":
        return FolderSource(doors.folder_at(policy.filestore))
    address, options, query = policy.filestore.partition("?")
    base, _, prefix = address.rstrip("/").rpartition("/")
    if base.endswith("/"):
        raise Permanent("Name the folder of the bucket in which the attachments lie.")
    store = doors.store_at(f"{base}{options}{query}", credential=policy.filestore_credential)
    return BucketSource(store, prefix=prefix)


def point_of(copy: FilestoreCopy) -> FilestorePoint:
    """Return a copy as its archive knows it."""
    return FilestorePoint(
        name=copy.name,
        key=copy.key,
        size=copy.size,
        sha256=copy.sha256,
        taken_at=copy.taken_at,
        file_count=copy.file_count,
        byte_count=copy.byte_count,
    )


def copy_attachments(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Copy what is new of the attachments between two backups. The order: `policy`, and the `name` of the copy."""
    policy = BackupPolicy.objects.select_related("environment__tenant").get(pk=order["policy"])
    saying = Saying(report)
    saying.begin("copying", "Copying new attachments.")
    store = CountedStore(doors.open_store(policy), saying)
    return as_json(take_copy(policy, store=store, name=order["name"]))


def take_copy(policy: BackupPolicy, *, store: ObjectStore, name: str) -> FilestoreCopied:
    """Copy the attachments that the archive lacks, and name the copy.

    Raises `Transient` where none are there and there were some before: a disk that is not mounted looks like that.
    """
    source = source_of(policy)
    last = FilestoreCopy.objects.filter(environment=policy.environment_id, removed_at__isnull=True).first()
    if last is not None and last.file_count and next(iter(source.observe_names()), None) is None:
        raise Transient(f"The attachments are gone from {policy.filestore}, where there were some: is it mounted?")
    return archive_of(policy, store).ensure_copy(point=name, source=source, at=_now_at(policy))


def _now_at(policy: BackupPolicy) -> datetime:
    """Return the time by the clock that the database's own times are told by: copies are compared with them."""
    if policy.engine not in (Engine.POSTGRES, Engine.PG_DUMP):
        return clock.now()
    with connected(doors.source_of(policy)) as connection:
        at: datetime = one_row(connection, "SELECT clock_timestamp()")[0]
    return at.astimezone(UTC)


def as_json(copied: FilestoreCopied) -> dict[str, Any]:
    """Return what a workflow records of a copy, as JSON values."""
    point = copied.point
    return {
        "name": point.name,
        "key": point.key,
        "size": point.size,
        "sha256": point.sha256,
        "taken_at": point.taken_at.isoformat(),
        "file_count": point.file_count,
        "byte_count": point.byte_count,
        "stored_bytes": copied.stored_bytes,
        "wrong_count": len(copied.wrong),
        "wrong": [one.sentence for one in copied.wrong[:5]],
    }
