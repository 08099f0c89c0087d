"""What every job that makes a point does at its end: write down what belongs together, and copy it elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from changecontrol import clock
from changecontrol.errors import Hindered, Permanent, Transient
from changecontrol.ports import ObjectLock, ObjectStore, StoredObject
from recovery import doors
from recovery.adapters.odoo import observe_odoo
from recovery.adapters.postgres.packing import packed
from recovery.adapters.postgres.programs import connected
from recovery.adapters.streams import observe_stream_keys
from recovery.jobs import attachments
from recovery.jobs.saying import CountedStore, Saying
from recovery.lifecycles.point import ACTIVE_BACKUPS
from recovery.models import BackupPolicy, BackupRun
from recovery.models.point import PartKind
from recovery.queries.copies import digests_recorded

SET_FORMAT = "changecontrol.set/1"
COPIED_AT_ONCE = 4

log = structlog.get_logger(__name__)


def run_of(order: Mapping[str, Any]) -> BackupRun:
    """Return the backup run that an order is of. Raises `Hindered` where it is over: no point would be made of it."""
    run = BackupRun.objects.select_related("policy__environment__tenant").get(pk=order["run"])
    if run.state not in ACTIVE_BACKUPS:
        # A tick that was under way when somebody canceled it has ordered this afterwards.
        raise Hindered("Its backup is over.")
    return run


def part(kind: PartKind, key: str, *, size: int, sha256: str, since: datetime, until: datetime) -> dict[str, Any]:
    """Return one object of a point as JSON values."""
    times = {"started_at": since.isoformat(), "finished_at": until.isoformat()}
    return {"kind": str(kind), "key": key, "size": size, "sha256": sha256, **times}


def take_attachments(
    policy: BackupPolicy, *, store: ObjectStore, label: str, saying: Saying
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Copy what is new of the attachments; return what was copied and its parts, both empty where there are none."""
    if not policy.filestore:
        return {}, []
    saying.begin("attachments", "Copying attachments that are new.")
    since = clock.now()
    copied = attachments.as_json(attachments.take_copy(policy, store=store, name=label))
    facts = {name: copied[name] for name in ("size", "sha256")}
    return copied, [part(PartKind.FILESTORE_MANIFEST, copied["key"], **facts, since=since, until=clock.now())]


def what_runs_there(policy: BackupPolicy, order: Mapping[str, Any]) -> dict[str, Any]:
    """Return the code that runs on a database, as its order tells, and the modules as the database does."""
    return {"commit": order.get("commit", ""), "image": order.get("image", ""), "modules": _modules(policy)}


def _modules(policy: BackupPolicy) -> dict[str, str]:
    """Return the modules installed in Odoo's database, by name with their version; none where it is no Odoo."""
    url = doors.source_of(policy)
    database = policy.environment.database
    with connected(url) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datallowconn AND datname = %s", [database]).fetchone()
    facts = observe_odoo(doors.url_of(url, database=database)) if found is not None else None
    return dict(facts.installed) if facts is not None else {}


def write_set(
    policy: BackupPolicy,
    *,
    store: ObjectStore,
    label: str,
    database: Mapping[str, Any],
    filestore: Mapping[str, Any],
    runs_there: Mapping[str, Any],
    saying: Saying,
) -> dict[str, Any]:
    """Write what one point consists of, so that the set can be told together again without our database."""
    saying.begin("set", "Writing down what belongs together.")
    since, prefix = clock.now(), doors.prefix_of(policy.environment)
    document = {
        "format": SET_FORMAT,
        "prefix": prefix,
        "point": label,
        "database": dict(database),
        "filestore": {name: filestore[name] for name in ("key", "sha256", "taken_at")} if filestore else None,
        **runs_there,
    }
    text = json.dumps(document, sort_keys=True).encode()
    # Encrypted anew it would be other bytes: what an earlier attempt wrote of the same set stays.
    key = f"{prefix}/sets/{label}-{hashlib.sha256(text).hexdigest()[:12]}.json.zst.age"
    data = store.observe_object(key)
    if data is None:
        data = packed(text, recipients=policy.recipients)
        store.ensure_object(key, data)
    digest = hashlib.sha256(data).hexdigest()
    return part(PartKind.CONFIGURATION, key, size=len(data), sha256=digest, since=since, until=clock.now())


def copy_elsewhere(policy: BackupPolicy, *, store: ObjectStore, saying: Saying) -> dict[str, str]:
    """Copy to the other destination what it lacks; return when it was done, or what kept it, as JSON values.

    A point in one place is better than none: upkeep copies what is missing there.
    """
    if not policy.copy_store:
        return {"copied_at": "", "trouble": ""}
    saying.begin("copy", "Copying to the other destination.")
    try:
        other = CountedStore(doors.open_copy_store(policy), saying)
        copy_missing(store, other, below=doors.prefix_of(policy.environment), recorded=digests_recorded(policy))
    except (Permanent, Transient) as problem:
        return {"copied_at": "", "trouble": f"It is not at the other destination: {problem.reason}"}
    return {"copied_at": clock.now().isoformat(), "trouble": ""}


def observe_locks(
    policy: BackupPolicy, *, parts: Iterable[Mapping[str, Any]], copied_at: str, saying: Saying
) -> dict[str, dict[str, Any]]:
    """Ask the stores that hold what a run wrote until when they lock it, where the policy promises a lock.

    Return it by the store's address, as JSON values; what is not told is left out.
    """
    if not policy.lock_days:
        return {}
    saying.begin("lock", "Asking until when the stores lock it.")
    stores = [(policy.store, doors.open_store)]
    if copied_at:
        stores.append((policy.copy_store, doors.open_copy_store))
    told = {address: told_lock(partial(opened, policy), parts, address=address) for address, opened in stores}
    return {address: lock for address, lock in told.items() if lock is not None}


def told_lock(
    opened: Callable[[], ObjectStore], parts: Iterable[Mapping[str, Any]], *, address: str
) -> dict[str, Any] | None:
    """Ask a store until when it locks what a backup wrote, as JSON values; None where it does not say, or cannot now.

    A point whose lock nobody knows is better than none.
    """
    try:
        lock = _soonest_lock(opened(), parts)
    except (Permanent, Transient) as problem:
        log.warning("lock.not_told", store=address, reason=problem.reason)
        return None
    if lock is None:
        return None
    return {"told_at": clock.now().isoformat(), "until": lock.until and lock.until.isoformat()}


def _soonest_lock(store: ObjectStore, parts: Iterable[Mapping[str, Any]]) -> ObjectLock | None:
    """Return the lock on the parts of a point that ends first, none being the first; None where it is not told."""
    ends = []
    for one in parts:
        # A stream may have many objects: its head is the last that was written, and the first is named after it.
        is_stream = one["kind"] in (PartKind.DATABASE, PartKind.DATABASE_MANIFEST)
        for key in observe_stream_keys(store, one["key"])[:2] if is_stream else (one["key"],):
            lock = store.observe_lock(key)
            if lock is None or lock.until is None:
                return lock
            ends.append(lock.until)
    return ObjectLock(min(ends)) if ends else None


def copy_missing(
    store: ObjectStore,
    other: ObjectStore,
    *,
    below: str,
    recorded: Mapping[str, str],
    choose: Callable[[list[StoredObject]], Iterable[StoredObject]] = lambda rows: rows,
) -> None:
    """Copy what lies below a prefix and is not at the other destination, each read back there.

    `recorded` are the digests that the catalogue has, by key. Raises `Permanent` where an object of another size or
    with other bytes has its place, for nothing is overwritten; and in the end for what is not as recorded, which is not
    copied.
    """
    changed: list[str] = []
    there = {one.key: one.size for one in other.observe_objects(below)}

    def copy(one: StoredObject) -> None:
        data = store.observe_object(one.key)
        if data is None:
            return  # removed meanwhile by retention
        if recorded.get(one.key, digest := hashlib.sha256(data).hexdigest()) != digest:
            changed.append(one.key)
            return
        other.ensure_object(one.key, data)
        if other.observe_object(one.key) != data:
            raise Transient(f"The copy of {one.key} at the other destination is not what was written.")

    here = list(choose(list(store.observe_objects(below))))
    if wrong := [one.key for one in here if there.get(one.key, one.size) != one.size]:
        raise Permanent(f"The copy of {wrong[0]} at the other destination has another size.")
    missing = [one for one in here if one.key not in there]
    # Heads of streams and facts come last: what they name is there before them.
    missing.sort(key=lambda one: (one.key.endswith((".age", ".json")), one.key))
    with ThreadPoolExecutor(COPIED_AT_ONCE) as pool:
        for start in range(0, len(missing), COPIED_AT_ONCE):
            list(pool.map(copy, missing[start : start + COPIED_AT_ONCE]))
    if changed:
        raise Permanent(f"{min(changed)} is not copied: it is not the one that was recorded, its digest is another.")
