"""The job that makes a recovery point: database first, attachments after it, then what ran there, then the copy.

Killed and begun again it goes on: what is whole in the store under the run's label is taken as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.postgres.base import observe_base_backup, take_base_backup
from recovery.adapters.postgres.incremental import take_incremental_backup
from recovery.adapters.postgres.programs import find_programs, observe_server
from recovery.adapters.postgres.wal import coverage_of, observe_archive
from recovery.adapters.streams import observe_stream
from recovery.jobs import points
from recovery.jobs.saying import CountedStore, Saying
from recovery.models import BackupPolicy
from recovery.models.backup import BackupKind
from recovery.models.point import PartKind
from recovery.ports.postgres import BaseBackup

WAL_WAIT_SECONDS = 300.0
LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


def back_up(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Make the point of a backup run. The order: `run`, `label`, the `parent` it may build upon, and what runs there.

    Returns the columns of the new point as JSON values, its `parts`, its attachments' `filestore`, and what to tell.
    """
    run = points.run_of(order)
    policy, label = run.policy, order["label"]
    saying = Saying(report)
    store = CountedStore(doors.open_store(policy), saying)
    began = clock.now()
    saying.begin("database", "Copying the database.", total_bytes=order.get("expected_bytes"))
    base, remark = _base_backup(policy, store=store, label=label, parent=order.get("parent", ""))
    # At once: what is installed later is not what was copied.
    runs_there = points.what_runs_there(policy, order)
    filestore, parts = points.take_attachments(policy, store=store, label=label, saying=saying)
    database = {"key": base.key, "sha256": base.sha256, "timeline": base.timeline, "stop_lsn": base.stop_lsn}
    together = {"database": database, "filestore": filestore, "runs_there": runs_there}
    described = points.write_set(policy, store=store, label=label, **together, saying=saying)
    saying.begin("wal", "Waiting until the WAL that makes it consistent is in the store.")
    _wait_for_wal(store, doors.prefix_of(policy.environment), base=base)
    copied = points.copy_elsewhere(policy, store=store, saying=saying)
    parts = [*parts_of(base, store=store), *parts, described]
    locks = points.observe_locks(policy, parts=parts, copied_at=copied["copied_at"], saying=saying)
    return {
        "kind": str(BackupKind.INCREMENTAL if base.parent else BackupKind.BASE),
        "parent": base.parent,
        "started_at": min(began, base.started_at).isoformat(),
        "consistent_at": base.finished_at.isoformat(),
        "finished_at": max(clock.now(), base.finished_at).isoformat(),
        "system_identifier": base.system_identifier,
        "server_version": base.server_version,
        "timeline": base.timeline,
        "start_lsn": base.start_lsn,
        "stop_lsn": base.stop_lsn,
        "parts": parts,
        "filestore": filestore,
        "remark": remark,
        "locks": locks,
        **copied,
        **runs_there,
    }


def parts_of(base: BaseBackup, *, store: ObjectStore) -> list[dict[str, Any]]:
    """Return the streams of a base backup as parts of its point, as JSON values. The facts tell of both as one size."""
    times = {"since": base.started_at, "until": base.finished_at}
    listed = observe_stream(store, base.manifest_key, sha256=base.manifest_sha256)
    size = base.stored_bytes - listed.size
    return [
        points.part(PartKind.DATABASE, base.key, size=size, sha256=base.sha256, **times),
        points.part(PartKind.DATABASE_MANIFEST, listed.key, size=listed.size, sha256=listed.sha256, **times),
    ]


def _base_backup(policy: BackupPolicy, *, store: ObjectStore, label: str, parent: str) -> tuple[BaseBackup, str]:
    """Take the backup; where it cannot be built upon the parent, a full one, with why."""
    prefix = doors.prefix_of(policy.environment)
    if store.observe_object(f"{prefix}/base/{label}/facts.json") is not None:
        return observe_base_backup(store, prefix=prefix, label=label), ""
    url = doors.source_of(policy)
    words: dict[str, Any] = {
        "url": url,
        "programs": find_programs(major=observe_server(url).major, folders=doors.programs_folders()),
        "store": store,
        "prefix": prefix,
        "label": label,
        "recipients": policy.recipients,
        "index_identity": doors.read_secret(policy.index_identity, what="index key") if policy.index_identity else "",
    }
    if parent:
        try:
            return take_incremental_backup(**words, parent=parent), ""
        except Permanent as refusal:
            log.warning("backup.full_instead", parent=parent, reason=refusal.reason)
            remark = f"It is a full one, for nothing could be built upon {parent}: {refusal.reason}"
            return take_base_backup(**words), remark
    return take_base_backup(**words), ""


def _wait_for_wal(store: ObjectStore, prefix: str, *, base: BaseBackup) -> None:
    """Wait until archiving has shipped the WAL that the backup needs. Raises `Transient` where it does not come."""
    until = time.monotonic() + WAL_WAIT_SECONDS
    while True:
        archive = observe_archive(
            store, prefix=prefix, system_identifier=base.system_identifier, segment_bytes=base.segment_bytes
        )
        if coverage_of(base, archive=archive).start_at is not None:
            return
        if time.monotonic() > until:
            raise Transient(
                "The database is copied, and the WAL that makes it consistent has not come: is archive_wal running?"
            )
        time.sleep(LOOK_SECONDS)
