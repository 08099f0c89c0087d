"""The job that reads a whole point from a store whose catalogue does not name it, before it is taken in.

What is told of it is what the store tells: the description of its set, the facts of its backup, the list of its
attachments. Every object is read and held against its digest (level 1), and the server it is of has to be known here as
one of the environment. `Permanent` says why it is not taken in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore, StoredObject
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.postgres.base import observe_base_backup
from recovery.adapters.postgres.dumping import observe_dump, verify_dump
from recovery.adapters.postgres.packing import unpacked
from recovery.adapters.postgres.programs import find_programs, observe_server
from recovery.adapters.postgres.verifying import verify_stored
from recovery.adapters.postgres.wal import check_covered, observe_archive
from recovery.jobs import attachments, points
from recovery.jobs.backup import parts_of
from recovery.jobs.copies import SET_BYTES
from recovery.jobs.saying import CountedStore, Saying
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.models.backup import BackupKind
from recovery.models.point import PartKind
from recovery.ports.clusters import ClusterBackupStanding, DatabaseCluster
from recovery.queries.comparison import servers_known
from recovery.queries.cut_overs import databases_known

FINDINGS_TOLD = 3


@dataclass(frozen=True, slots=True)
class Set:
    """What a set says that it consists of, and the object in which it says so."""

    stored: StoredObject
    sha256: str
    says: Mapping[str, Any]

    @property
    def database(self) -> Mapping[str, Any]:
        return dict(self.says["database"])


@dataclass(frozen=True, slots=True)
class Found:
    """Where a point lies that is read, and what opens it. Secrets are not shown."""

    policy: BackupPolicy
    store: ObjectStore
    name: str
    identities: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Found({self.name})"

    @property
    def prefix(self) -> str:
        return doors.prefix_of(self.policy.environment)


def adopt(order: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
    """Read a point. The order: the `policy` in whose store it lies, and its `name`.

    Returns what the job of a backup does.
    """
    policy = BackupPolicy.objects.select_related("environment__tenant").get(pk=order["policy"])
    saying = Saying(report)
    saying.begin("set", "Reading what belongs together.")
    store = CountedStore(doors.open_store_to_read(policy), saying)
    found = Found(policy, store, str(order["name"]), tuple(doors.identities_of(policy)))
    described = _described(found)
    saying.begin("database", "Reading every object of the database.")
    database, chosen = _database(found, described)
    saying.begin("attachments", "Reading every object of the attachments.")
    filestore, parts = _filestore(found, chosen)
    finished_at = max(datetime.fromisoformat(one) for one in (database["finished_at"], *_ends(parts)))
    stored_at = chosen.stored.modified_at or finished_at
    finished_at = max(finished_at, stored_at)
    facts: dict[str, Any] = {
        "size": chosen.stored.size,
        "sha256": chosen.sha256,
        "since": finished_at,
        "until": finished_at,
    }
    saying.begin("over", "It is read.")
    return {
        **database,
        "finished_at": finished_at.isoformat(),
        "parts": [*database["parts"], *parts, points.part(PartKind.CONFIGURATION, chosen.stored.key, **facts)],
        "filestore": filestore,
        **{name: chosen.says[name] for name in ("commit", "image", "modules")},
    }


def _ends(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    return [one["finished_at"] for one in parts]


def _described(found: Found) -> list[Set]:
    """Return what sets of this name say, the newest first: an attempt that was killed may have left one."""
    pattern = re.compile(rf"{re.escape(found.prefix)}/sets/{re.escape(found.name)}-([0-9a-f]{{12}})\.json\.zst\.age")
    rows = [one for one in found.store.observe_objects(f"{found.prefix}/sets") if pattern.fullmatch(one.key)]
    if not rows:
        raise Permanent(f"Nothing in the store describes {found.name} any more.")
    newest = sorted(rows, key=lambda one: (one.modified_at is not None and one.modified_at.timestamp(), one.key))
    return [_opened(found, one, digest=pattern.sub(r"\1", one.key)) for one in reversed(newest)]


def _opened(found: Found, stored: StoredObject, *, digest: str) -> Set:
    data = found.store.observe_object(stored.key)
    if data is None:
        raise Permanent(f"The description {stored.key} was there and is gone again.")
    text = unpacked(data, identities=found.identities, limit=SET_BYTES)
    if not hashlib.sha256(text).hexdigest().startswith(digest):
        raise Permanent(f"The description {stored.key} is not the one that was written: its digest is another.")
    try:
        says = json.loads(text)
        is_ours = says["format"] == points.SET_FORMAT
        whose = (says["prefix"], says["point"])
        _check_shape(says)
    except (ValueError, TypeError, KeyError, AttributeError):
        is_ours = False
    if not is_ours:
        raise Permanent(f"The description {stored.key} is not one that this program writes.")
    if whose != (found.prefix, found.name):
        raise Permanent(f"The description {stored.key} is of the point {whose[1]} of {whose[0]}.")
    return Set(stored, hashlib.sha256(data).hexdigest(), says)


def _check_shape(says: Mapping[str, Any]) -> None:
    """Raise `TypeError` or the like where what the rest reads is not there."""
    modules = says["modules"]
    texts = [says["commit"], says["image"], *modules.keys(), *modules.values()]
    if says["filestore"] is not None:
        datetime.fromisoformat(says["filestore"]["taken_at"])
        texts += [says["filestore"]["key"], says["filestore"]["sha256"]]
    if not isinstance(says["database"], dict) or not all(isinstance(one, str) for one in texts):
        raise TypeError


def _database(found: Found, described: list[Set]) -> tuple[dict[str, Any], Set]:
    """Hold the database to level 1; return the columns it gives the point, and the set that names it."""
    if "operator" in described[0].database:
        return _of_operator(found, described[0]), described[0]
    if found.store.observe_object(f"{found.prefix}/dump/{found.name}/facts.json") is not None:
        return _of_dump(found, described)
    return _of_base(found, described)


def _of_base(found: Found, described: list[Set]) -> tuple[dict[str, Any], Set]:
    base = observe_base_backup(found.store, prefix=found.prefix, label=found.name)
    chosen = _naming(found, described, key=base.key, sha256=base.sha256)
    _check_server(found.policy, base.system_identifier)
    rows = RecoveryPoint.objects.restorable().filter(environment=found.policy.environment_id)
    if base.parent and not rows.filter(key=base.parent).exists():
        raise Permanent(f"It builds upon {base.parent}, which the catalogue does not have whole: take that in first.")
    archive = observe_archive(
        found.store,
        prefix=found.prefix,
        system_identifier=base.system_identifier,
        segment_bytes=base.segment_bytes,
    )
    covered = verify_stored(store=found.store, base=base, archive=archive, identities=found.identities)
    check_covered(covered, at=base.finished_at)
    columns = {
        "kind": str(BackupKind.INCREMENTAL if base.parent else BackupKind.BASE),
        "parent": base.parent,
        "started_at": base.started_at.isoformat(),
        "consistent_at": base.finished_at.isoformat(),
        "finished_at": base.finished_at.isoformat(),
        "system_identifier": base.system_identifier,
        "server_version": base.server_version,
        "timeline": base.timeline,
        "start_lsn": base.start_lsn,
        "stop_lsn": base.stop_lsn,
        "parts": parts_of(base),
    }
    return columns, chosen


def _of_dump(found: Found, described: list[Set]) -> tuple[dict[str, Any], Set]:
    dump = observe_dump(found.store, prefix=found.prefix, label=found.name)
    chosen = _naming(found, described, key=dump.key, sha256=dump.sha256)
    if dump.database not in (known := databases_known(found.policy.environment)):
        names = ", ".join(f"“{one}”" for one in known)
        raise Permanent(f"It is a dump of “{dump.database}”, and {found.policy.environment} has had {names} alone.")
    programs = find_programs(major=dump.server_major, folders=doors.programs_folders())
    verify_dump(store=found.store, dump=dump, identities=found.identities, programs=programs)
    times = {"since": dump.started_at, "until": dump.finished_at}
    columns = {
        "kind": str(BackupKind.DUMP),
        "started_at": dump.started_at.isoformat(),
        "consistent_at": dump.started_at.isoformat(),
        "finished_at": dump.finished_at.isoformat(),
        # No WAL leads on from a dump, so it has no place in any.
        "system_identifier": "",
        "timeline": 0,
        "start_lsn": 0,
        "stop_lsn": 0,
        "server_version": dump.server_version,
        "parts": [points.part(PartKind.DATABASE, dump.key, size=dump.stored_bytes, sha256=dump.sha256, **times)],
    }
    return columns, chosen


def _of_operator(found: Found, described: Set) -> dict[str, Any]:
    """Ask the operator for the base backup that it keeps: it has to tell of it what the set does."""
    cluster = {name: value for name, value in described.database.items() if name != "operator"}
    try:
        place = DatabaseCluster(*str(cluster["name"]).split("/", 1))
        told = ("system_identifier", "server_version", "timeline", "start_lsn", "stop_lsn", "started_at")
        columns = {name: cluster[name] for name in told}
        stopped_at = datetime.fromisoformat(cluster["stopped_at"])
        expected = (cluster["backup_id"], cluster["start_lsn"], cluster["stop_lsn"])
        run = str(cluster["backup"])
    except (KeyError, TypeError, ValueError):
        raise Permanent(
            f"The description {described.stored.key} does not tell which backup the operator has."
        ) from None
    _check_server(found.policy, str(cluster["system_identifier"]))
    backup = doors.open_database_clusters(found.policy.environment).observe_backup(run=run, namespace=place.namespace)
    if backup is None:
        raise Permanent(f"The operator says nothing of the backup {run} any more.")
    if backup.standing is not ClusterBackupStanding.COMPLETED:
        raise Permanent(backup.sentence)
    if (backup.backup_id, backup.begin_lsn, backup.end_lsn) != expected:
        raise Permanent(
            f"The backup {backup.name} is not the one that the description names: it is {backup.backup_id}."
        )
    times = {"consistent_at": stopped_at.isoformat(), "finished_at": stopped_at.isoformat()}
    return {**columns, **times, "kind": str(BackupKind.BASE), "cluster_facts": cluster, "parts": []}


def _naming(found: Found, described: list[Set], *, key: str, sha256: str) -> Set:
    for one in described:
        if (one.database.get("key"), one.database.get("sha256")) == (key, sha256):
            return one
    raise Permanent(f"The database below {found.name} is not the one that its description names.")


def _check_server(policy: BackupPolicy, system_identifier: str) -> None:
    """Raise `Permanent` unless a server is known as the environment's: by another point of it, or as it answers now.

    WAL that lies below its name in the store is no proof: who could lay a point there could lay that beside it.
    """
    known = servers_known(policy.environment_id)
    if system_identifier in known:
        return
    in_force = BackupPolicy.objects.active().get(environment=policy.environment_id)
    if in_force.source:
        known |= {observe_server(doors.read_secret(in_force.source, what="database")).system_identifier}
    if system_identifier not in known:
        others = f" It has had {', '.join(sorted(known))}." if known else ""
        raise Permanent(
            f"It is of the server {system_identifier}, and nothing here proves that {policy.environment} ever ran on "
            f"that.{others}"
        )


def _filestore(found: Found, described: Set) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Hold the attachments to level 1; return their copy and its part, both empty where the set has none."""
    said = described.says["filestore"]
    if said is None:
        return {}, []
    archive = attachments.archive_of(found.policy, found.store)
    copy = archive.observe_point(found.name)
    taken_at = datetime.fromisoformat(said["taken_at"])
    if copy is None or (copy.key, copy.sha256, copy.taken_at) != (said["key"], said["sha256"], taken_at):
        raise Permanent(f"The attachments of {found.name} are not those that its description names.")
    if findings := archive.observe_damage(copy):
        raise Permanent(" ".join(one.sentence for one in findings[:FINDINGS_TOLD]))
    columns = ("name", "key", "size", "sha256", "file_count", "byte_count")
    # What it had added to the store is told nowhere there.
    facts = {name: getattr(copy, name) for name in columns} | {"taken_at": said["taken_at"], "stored_bytes": 0}
    times = {"since": taken_at, "until": taken_at}
    kind = PartKind.FILESTORE_MANIFEST
    return facts, [points.part(kind, copy.key, size=copy.size, sha256=copy.sha256, **times)]
