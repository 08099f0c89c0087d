"""The job that makes a recovery point by `pg_dump`: one database, its attachments, then what ran there, then the copy.

Killed and begun again it goes on: what is whole in the store under the run's label is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectStore
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.postgres.dumping import is_dumped, observe_dump, take_dump
from recovery.adapters.postgres.programs import connected, find_programs, observe_version
from recovery.adapters.postgres.sentinel import ensure_sentinel
from recovery.jobs import points
from recovery.jobs.saying import CountedStore, Saying
from recovery.models import BackupPolicy
from recovery.models.point import PartKind
from recovery.ports.postgres import DatabaseDump

log = structlog.get_logger(__name__)


def dump_point(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Make the point of a backup run by `pg_dump`. The order and what it returns are those of a backup."""
    run = points.run_of(order)
    policy, label = run.policy, str(order["label"])
    saying = Saying(report)
    store = CountedStore(doors.open_store(policy), saying)
    began = clock.now()
    saying.begin("database", "Dumping the database.", total_bytes=order.get("expected_bytes"))
    dump = _dump(policy, store=store, label=label)
    # At once: what is installed later is not what was copied.
    runs_there = points.what_runs_there(policy, order)
    filestore, parts = points.take_attachments(policy, store=store, label=label, saying=saying)
    database = {"key": dump.key, "sha256": dump.sha256}
    together = {"database": database, "filestore": filestore, "runs_there": runs_there}
    described = points.write_set(policy, store=store, label=label, **together, saying=saying)
    copied = points.copy_elsewhere(policy, store=store, saying=saying)
    times = {"since": dump.started_at, "until": dump.finished_at}
    whole = points.part(PartKind.DATABASE, dump.key, size=dump.stored_bytes, sha256=dump.sha256, **times)
    parts = [whole, *parts, described]
    locks = points.observe_locks(policy, parts=parts, copied_at=copied["copied_at"], saying=saying)
    return {
        "started_at": min(began, dump.started_at).isoformat(),
        "consistent_at": dump.started_at.isoformat(),
        "finished_at": max(clock.now(), dump.finished_at).isoformat(),
        # No WAL leads on from a dump, so it has no place in any.
        "system_identifier": "",
        "timeline": 0,
        "start_lsn": 0,
        "stop_lsn": 0,
        "server_version": dump.server_version,
        "parts": parts,
        "filestore": filestore,
        "locks": locks,
        **copied,
        **runs_there,
    }


def _dump(policy: BackupPolicy, *, store: ObjectStore, label: str) -> DatabaseDump:
    prefix = doors.prefix_of(policy.environment)
    if is_dumped(store, prefix=prefix, label=label):
        return observe_dump(store, prefix=prefix, label=label)
    url = doors.source_of(policy)
    with connected(url) as connection:
        major, _ = observe_version(connection)
    if policy.has_sentinel:
        _write_sentinel(url)
    return take_dump(
        url=url,
        programs=find_programs(major=major, folders=doors.programs_folders()),
        store=store,
        prefix=prefix,
        label=label,
        recipients=policy.recipients,
    )


def _write_sentinel(url: str) -> None:
    """Mark what the dump reaches. A drill tells that it is missing; a database without one is dumped all the same."""
    try:
        ensure_sentinel(url)
    except (Permanent, Transient) as problem:
        log.error("sentinel.not_written", reason=problem.reason)
