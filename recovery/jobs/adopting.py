"""The job that reads a whole point from a store whose catalogue does not name it, before it is taken in.

What is told of it is what the store tells: the description of its set, the facts of its backup, the list of its
attachments. Whoever can write there may have written anything, so it has to be such as this program writes it, every
object is read and held against its digest (level 1), and the server it is of has to be known here as one of the
environment. What an operator keeps is told by the operator alone. `Permanent` says why it is not taken in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from changecontrol import clock
from changecontrol.errors import Permanent
from changecontrol.ports import ObjectStore, StoredObject
from changecontrol.workflows.jobs import Report
from recovery import doors
from recovery.adapters.postgres.base import MANIFEST, observe_base_backup
from recovery.adapters.postgres.dumping import observe_dump, verify_dump
from recovery.adapters.postgres.packing import unpacked
from recovery.adapters.postgres.programs import find_programs, observe_server
from recovery.adapters.postgres.verifying import verify_stored
from recovery.adapters.postgres.wal import check_covered, observe_archive
from recovery.adapters.streams import observe_stream
from recovery.jobs import attachments, points
from recovery.jobs.backup import parts_of
from recovery.jobs.chains import recorded_chain
from recovery.jobs.copies import SET_BYTES
from recovery.jobs.saying import CountedStore, Saying
from recovery.models import BackupPolicy, RecoveryPoint
from recovery.models.backup import BackupKind
from recovery.models.point import PartKind
from recovery.models.policy import Engine
from recovery.ports.clusters import ClusterBackupStanding, facts_of
from recovery.ports.postgres import BaseBackup, DatabaseDump
from recovery.queries.comparison import policy_made_under, servers_known
from recovery.queries.cut_overs import databases_known
from recovery.queries.running import has_run
from recovery.rules.adoption import (
    BYTES_LIMIT,
    COMMIT,
    LSN_LIMIT,
    NAME,
    SEGMENTS,
    SHA256,
    TIMELINE_LIMIT,
    are_modules,
    is_count,
    is_past,
    is_text,
)

FINDINGS_TOLD = 3
PACKED = ".zst.age"


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

    Returns what the job of a backup does, and the `policy` under which it can have been made.
    """
    policy = BackupPolicy.objects.select_related("environment__tenant").get(pk=order["policy"])
    saying = Saying(report)
    if not NAME.fullmatch(str(order["name"])):
        raise Permanent("Its name is not one that this program gives.")
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
        # A drill of level 5 brings that up: what only the store tells is no code that ever ran here.
        "commit": chosen.says["commit"] if has_run(policy.environment, chosen.says["commit"]) else "",
        **{name: chosen.says[name] for name in ("image", "modules")},
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
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise Permanent(f"The description {stored.key} is not one that this program writes.")
    if whose != (found.prefix, found.name):
        raise Permanent(f"The description {stored.key} is of the point {whose[1]} of {whose[0]}.")
    return Set(stored, hashlib.sha256(data).hexdigest(), says)


def _check_shape(says: Mapping[str, Any]) -> None:
    """Raise `TypeError` or the like where what the rest reads is not there, or is nothing that a backup writes."""
    texts = [says["prefix"], says["point"], says["image"]]
    is_sound = COMMIT.fullmatch(says["commit"]) is not None and are_modules(says["modules"])
    if says["filestore"] is not None:
        texts += [says["filestore"]["key"], says["filestore"]["sha256"]]
        is_sound &= is_past(datetime.fromisoformat(says["filestore"]["taken_at"]), now=clock.now())
    if not is_sound or not isinstance(says["database"], dict) or not all(is_text(one) for one in texts):
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
    _check_base(found, base)
    _check_server(found.policy, base.system_identifier)
    policy = _made_under(found, Engine.POSTGRES, began_at=base.started_at)
    rows = RecoveryPoint.objects.restorable().filter(environment=found.policy.environment_id)
    parent = rows.filter(key=base.parent).first() if base.parent else None
    if base.parent and parent is None:
        raise Permanent(f"It builds upon {base.parent}, which the catalogue does not have whole: take that in first.")
    for member in recorded_chain(found.store, base, parent=parent):
        _check_base(found, member)
    archive = observe_archive(
        found.store,
        prefix=found.prefix,
        system_identifier=base.system_identifier,
        segment_bytes=base.segment_bytes,
    )
    covered = verify_stored(store=found.store, base=base, archive=archive, identities=found.identities)
    check_covered(covered, at=base.finished_at)
    columns = {
        "policy": policy.pk,
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
        "parts": parts_of(base, store=found.store),
    }
    return columns, chosen


def _check_base(found: Found, base: BaseBackup) -> None:
    """Raise `Permanent` for facts that a base backup never has: its streams lie below its own folder alone."""
    _check_facts(
        base,
        is_sound=NAME.fullmatch(base.label) is not None
        and base.manifest_key == f"{found.prefix}/base/{base.label}/{MANIFEST}{PACKED}"
        and base.segment_bytes in SEGMENTS
        and is_count(base.timeline, limit=TIMELINE_LIMIT)
        and 0 <= base.start_lsn <= base.stop_lsn <= LSN_LIMIT
        and SHA256.fullmatch(base.manifest_sha256) is not None
        and is_text(base.system_identifier, limit=20)
        and is_text(base.parent)
        and is_text(base.superuser),
    )
    sizes = (observe_stream(found.store, key).size for key in (base.key, base.manifest_key))
    _check_size(base, size=sum(sizes))


def _check_facts(backup: BaseBackup | DatabaseDump, *, is_sound: bool) -> None:
    """Raise `Permanent` unless the facts are sound by themselves, and by what they have in common."""
    now = clock.now()
    is_whole = (
        SHA256.fullmatch(backup.sha256) is not None
        and is_text(backup.server_version, limit=40)
        and is_count(backup.content_bytes, limit=BYTES_LIMIT)
        and is_count(backup.stored_bytes, limit=BYTES_LIMIT)
        and is_past(backup.started_at, now=now)
        and is_past(backup.finished_at, now=now)
        and backup.started_at <= backup.finished_at
    )
    if not is_sound or not is_whole:
        raise Permanent(f"The facts of {backup.label} are not such as this program writes.")


def _check_size(backup: BaseBackup | DatabaseDump, *, size: int) -> None:
    if size != backup.stored_bytes:
        raise Permanent(
            f"The facts of {backup.label} tell of {backup.stored_bytes:,} bytes in the store, where there are {size:,}."
        )


def _made_under(found: Found, engine: Engine, *, began_at: datetime) -> BackupPolicy:
    """Return the version of the policy that a point can have been made under. Raises `Permanent` for none."""
    policy = found.policy
    words: dict[str, Any] = {"store": policy.store, "engine": engine, "began_at": began_at}
    if (made_under := policy_made_under(policy.environment_id, **words)) is None:
        raise Permanent(
            f"It was taken with the engine {engine}, and no version of the backup policy names its store with that "
            "engine and the attachments where they were when it was taken: publish one that does."
        )
    return made_under


def _of_dump(found: Found, described: list[Set]) -> tuple[dict[str, Any], Set]:
    dump = observe_dump(found.store, prefix=found.prefix, label=found.name)
    chosen = _naming(found, described, key=dump.key, sha256=dump.sha256)
    if dump.database not in (known := databases_known(found.policy.environment)):
        names = ", ".join(f"“{one}”" for one in known)
        raise Permanent(f"It is a dump of “{dump.database}”, and {found.policy.environment} has had {names} alone.")
    _check_facts(
        dump,
        is_sound=is_count(dump.database_bytes, limit=BYTES_LIMIT)
        and all(is_text(one) for one in (dump.encoding, dump.collation, dump.character_type)),
    )
    _check_size(dump, size=observe_stream(found.store, dump.key).size)
    policy = _made_under(found, Engine.PG_DUMP, began_at=dump.started_at)
    programs = find_programs(major=dump.server_major, folders=doors.programs_folders())
    verify_dump(store=found.store, dump=dump, identities=found.identities, programs=programs)
    times = {"since": dump.started_at, "until": dump.finished_at}
    columns = {
        "policy": policy.pk,
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
    """Ask the operator for the base backup that it keeps, and for its cluster: what is recorded is what they say now.

    The set has to tell the same. What a recovered cluster is made like is no store's to say.
    """
    told, environment = described.database, found.policy.environment
    if not all(is_text(told.get(name)) for name in ("name", "backup", "backup_id", "system_identifier")):
        raise Permanent(f"The description {described.stored.key} does not tell which backup the operator has.")
    _check_server(found.policy, told["system_identifier"])
    clusters = doors.open_database_clusters(environment)
    backup = clusters.observe_backup(run=told["backup"], namespace=environment.namespace)
    if backup is None:
        raise Permanent(f"The operator says nothing of the backup {told['backup']} any more.")
    if backup.standing is not ClusterBackupStanding.COMPLETED:
        raise Permanent(backup.sentence)
    if told["name"] != str(backup.cluster):
        raise Permanent(f"The backup {backup.name} is of {backup.cluster}, and its description says {told['name']}.")
    if told["backup_id"] != backup.backup_id:
        raise Permanent(
            f"The backup {backup.name} is not the one that the description names: it is {backup.backup_id}."
        )
    state = clusters.observe_cluster(backup.cluster)
    if state is None:
        raise Permanent(f"The database cluster {backup.cluster} is gone: nothing proves any more what ran there.")
    facts = facts_of(backup, state)
    # Where the operator does not say it of the backup, the cluster may have been promoted since.
    if backup.timeline is None and is_count(told.get("timeline"), limit=facts["timeline"]):
        facts["timeline"] = told["timeline"]
    proved = ("system_identifier", "timeline", "start_lsn", "stop_lsn", "started_at", "stopped_at")
    if other := [name for name in proved if told.get(name) != facts[name]]:
        raise Permanent(f"Of {other[0]} the operator says {facts[other[0]]} now, and the description something else.")
    assert backup.started_at is not None, "a completed backup says when it began"
    policy = _made_under(found, Engine.CLOUDNATIVEPG, began_at=backup.started_at)
    columns = {
        name: facts[name]
        for name in ("system_identifier", "server_version", "timeline", "start_lsn", "stop_lsn", "started_at")
    }
    times = dict.fromkeys(("consistent_at", "finished_at"), facts["stopped_at"])
    return {
        "policy": policy.pk,
        **columns,
        **times,
        "kind": str(BackupKind.BASE),
        "cluster_facts": facts,
        "parts": [],
    }


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
