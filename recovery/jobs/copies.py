"""A point brought back in a sandbox: what restores and drills share.

A sandbox carries the run's id, and is torn down by it whatever happens: what a killed process left is removed before
the next attempt begins.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from changecontrol.errors import Hindered, Permanent
from changecontrol.ports import ObjectStore
from changecontrol.workflows.jobs import taking_room_in
from recovery import doors
from recovery.adapters.encryption import recipient_of
from recovery.adapters.postgres.packing import unpacked
from recovery.adapters.postgres.programs import Programs, connected, find_programs
from recovery.adapters.postgres.sandbox import tear_down
from recovery.jobs.chains import is_recorded
from recovery.jobs.saying import CountedStore, Saying
from recovery.lifecycles.drill import ENDED as DRILL_ENDED
from recovery.lifecycles.restore import ENDED as RESTORE_ENDED
from recovery.models import BackupPolicy, Drill, RecoveryPoint, Restore
from recovery.models.point import PartKind
from recovery.models.policy import Engine

SET_BYTES = 64 * 1024 * 1024
RESTORE_RUN = re.compile(r"restore-(\d{1,18})-\d{1,18}")

log = structlog.get_logger(__name__)


class Leftover(Hindered):
    """What was made for a run could not be cleared away."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a point is brought back with: where it lies, what opens it, where its copy goes. Secrets are not shown."""

    point: RecoveryPoint
    policy: BackupPolicy
    store: ObjectStore
    identities: tuple[str, ...]
    folder: Path
    run_id: str
    saying: Saying

    def __repr__(self) -> str:
        return f"Bench({self.point}, {self.run_id})"

    @property
    def prefix(self) -> str:
        return doors.prefix_of(self.policy.environment)

    def programs(self, *, major: int) -> Programs:
        """Return the programs of a backup's major version. Where there are none, nothing can be tried."""
        try:
            return find_programs(major=major, folders=doors.programs_folders())
        except Permanent as trouble:
            raise Hindered(trouble.reason) from None

    def check_recorded(self, found: Mapping[PartKind, tuple[str, str]], *, name: str) -> None:
        """Raise `Permanent` unless these keys and digests, by kind of part, are those that were recorded."""
        if not is_recorded(self.point, found):
            raise Permanent(f"The {name} {self.point.key} in the store is not the one that was recorded.")

    def check_identity(self) -> None:
        """Raise `Hindered` unless what was written can be read by the key we hold: another says nothing of it."""
        if self.policy.engine == Engine.EXTERNAL:
            return  # Whom another tool encrypts to, if it does, each of its files says.
        if not {recipient_of(one) for one in self.identities} & set(self.policy.recipients):
            raise Hindered("The identity of the backup policy is none of its recipients: it opens nothing here.")

    def recorded_set(self) -> dict[str, Any]:
        """Return what the point says it consists of. Raises `Permanent` where it is not what was recorded."""
        part = self.point.parts.filter(kind=PartKind.CONFIGURATION).first()
        if part is None:
            raise Permanent("The point has no description of what belongs together.")
        data = self.store.observe_object(part.key)
        if data is None:
            raise Permanent(f"The description {part.key} of the point is missing from the store.")
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise Permanent(f"The description {part.key} is not the one that was recorded: its digest is another.")
        found: dict[str, Any] = json.loads(unpacked(data, identities=self.identities, limit=SET_BYTES))
        if (found["prefix"], found["point"]) != (self.prefix, self.point.key):
            raise Permanent(f"The description {part.key} is of the point {found['point']} of {found['prefix']}.")
        return found


@contextmanager
def bench_of(point: RecoveryPoint, *, run_id: str, store: ObjectStore | None = None, saying: Saying) -> Iterator[Bench]:
    """Set a bench up, and clear it away whatever happens. `store` stands in for the policy's."""
    # The policy it was made under: where it lies and who can read it has perhaps changed since.
    policy = point.policy
    folder = doors.sandboxes()
    bench = Bench(
        point=point,
        policy=policy,
        store=CountedStore(store or doors.open_store_to_read(policy), saying),
        identities=_identities_of(policy),
        folder=folder,
        run_id=run_id,
        saying=saying,
    )
    clear_ended(folder)
    tear_down(folder, run_id=run_id)
    try:
        with taking_room_in(folder / run_id):
            yield bench
    finally:
        try:
            tear_down(folder, run_id=run_id)
        except (Permanent, Hindered, OSError) as trouble:
            raise Leftover(getattr(trouble, "reason", str(trouble))) from None


def _identities_of(policy: BackupPolicy) -> tuple[str, ...]:
    """Return what opens the backups of a policy: nothing where another tool does not encrypt them."""
    if policy.engine == Engine.EXTERNAL and not policy.identity:
        return ()
    return tuple(doors.identities_of(policy))


def run_id_of(restore: Restore) -> str:
    """Return the name of a restore's sandbox: no other installation on the same host has one of the same."""
    return f"restore-{restore.pk}-{int(restore.declared_at.timestamp())}"


def restore_of(run_id: str) -> Restore | None:
    """Return the restore whose run this is; None where it is not one of ours."""
    found = RESTORE_RUN.fullmatch(run_id)
    restore = Restore.objects.filter(pk=int(found[1])).first() if found else None
    return restore if restore is not None and run_id_of(restore) == run_id else None


def clear_ended(folder: Path) -> None:
    """Clear away what runs left that are over: their process was killed for good, or went on at another host."""
    for path in folder.iterdir():
        if is_over(path.name):
            try:
                tear_down(folder, run_id=path.name)
            except (Permanent, OSError) as trouble:
                log.error("sandbox.left", run=path.name, problem=getattr(trouble, "reason", str(trouble)))


def is_over(run_id: str) -> bool:
    """Tell whether a run of ours is over. What is not known here may be somebody else's, and stays."""
    if RESTORE_RUN.fullmatch(run_id):
        restore = restore_of(run_id)
        return restore is not None and restore.state in RESTORE_ENDED
    try:
        drill = Drill.objects.filter(key=uuid.UUID(run_id)).first()
    except ValueError:
        return False
    return drill is not None and drill.state in DRILL_ENDED


def database_of(url: str, *, wanted: str) -> str:
    """Return the database of an environment on a restored server. Raises `Permanent` naming what is there instead."""
    with connected(url) as connection:
        rows = connection.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
        ).fetchall()
    names = [str(name) for (name,) in rows]
    if not wanted:
        raise Permanent("The environment names no database: say in the estate which one is its.")
    if wanted in names:
        return wanted
    raise Permanent(f"The restored server has no database “{wanted}”; it has: {', '.join(names)}.")
