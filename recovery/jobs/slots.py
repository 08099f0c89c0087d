"""The replication slots that are ours, on the servers of policies in force and of those that were replaced.

One that no policy in force wants fills its server's disk while nobody looks: it is found, told, and dropped when asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from changecontrol import clock
from changecontrol.errors import Permanent, Transient
from recovery import doors
from recovery.actions.slots import SeenSlot, forget_slot, note_slot
from recovery.adapters.postgres.archiving import ensure_no_slot, find_slot
from recovery.models import BackupPolicy
from recovery.models.policy import Engine

LOOK_SECONDS = 30.0
SERVERS_AT_ONCE = 8

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A server that may have a slot of ours: the newest policy that names it, and whether it is the one in force."""

    policy: BackupPolicy
    is_wanted: bool


def places() -> list[Place]:
    """List where slots of ours may be: one place for each environment and server, those that are wanted first."""
    rows = BackupPolicy.objects.filter(engine=Engine.POSTGRES).exclude(source="")
    newest = rows.order_by("environment_id", "source", "-version").distinct("environment_id", "source")
    found = [Place(one, is_archived(one)) for one in newest.select_related("environment__tenant")]
    return sorted(found, key=lambda one: not one.is_wanted)


def is_archived(policy: BackupPolicy) -> bool:
    """Tell whether a policy has WAL archived by a slot."""
    return policy.is_active and policy.engine == Engine.POSTGRES and policy.wal_seconds is not None


@dataclass
class SlotWatch:
    """Asks the servers every so often, beside whoever calls `go_on` again and again."""

    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=SERVERS_AT_ONCE))
    _asked: list[tuple[Place, Future[SeenSlot]]] = field(default_factory=list)
    _asked_at: float = -LOOK_SECONDS

    def go_on(self) -> None:
        """Keep what every server has answered by now, or ask anew; nothing is waited for."""
        if self._asked and all(call.done() for _, call in self._asked):
            note_places([(place, _answer(place, call)) for place, call in self._asked], at=clock.now())
            self._asked = []
        elif not self._asked and time.monotonic() - self._asked_at >= LOOK_SECONDS:
            self._asked_at = time.monotonic()
            self._asked = [(one, self._pool.submit(observe, one.policy)) for one in places()]

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def observe(policy: BackupPolicy) -> SeenSlot:
    """Ask the server of a policy for the slot of ours. No database of ours is used: it may be a thread of its own."""
    url, name = doors.read_secret(policy.source, what="database to back up"), doors.slot_of(policy.environment)
    return SeenSlot(name, *find_slot(url, slot=name))


def note_places(seen: Sequence[tuple[Place, SeenSlot | None]], *, at: datetime) -> None:
    """Keep what the servers answered, None being one that is away.

    What is left behind is told only where it is sure not to be the slot in use: two references may lead to one server.
    """
    in_use = {place.policy.environment_id: found and found.server for place, found in seen if place.is_wanted}
    for place, found in seen:
        policy = place.policy
        server = in_use.get(policy.environment_id, "")
        if found is None or (server is None and not place.is_wanted):
            continue
        if not place.is_wanted and found.server == server:
            forget_slot(policy)
        else:
            note_slot(policy, seen=found, is_wanted=place.is_wanted, at=at)


def _answer(place: Place, call: Future[SeenSlot]) -> SeenSlot | None:
    try:
        return call.result()
    except (Permanent, Transient) as trouble:
        log.warning("slot.not_seen", policy=place.policy.pk, reason=trouble.reason)
        return None


def drop_slot(policies: Sequence[BackupPolicy]) -> tuple[int, ...]:
    """Drop the slot of an environment from every server that no policy in force archives; return their versions.

    Raises `Permanent` where the only server is one that is archived, or one could not be told apart from it.
    """
    in_use = next((observe(one).server for one in policies if is_archived(one)), None)
    dropped, trouble = [], ""
    for policy in policies:
        if is_archived(policy):
            continue
        try:
            if observe(policy).server == in_use:
                continue
            url = doors.read_secret(policy.source, what="database to back up")
            ensure_no_slot(url, slot=doors.slot_of(policy.environment))
        except (Permanent, Transient) as error:
            trouble = f"The server of version {policy.version}: {error.reason}"
            continue
        forget_slot(policy)
        dropped.append(policy.version)
    if trouble:
        raise Permanent(trouble)
    if not dropped and in_use is not None:
        raise Permanent("The policy in force archives by this slot: publish one without WAL, or of another server.")
    return tuple(dropped)


def servers_of(environment: str) -> list[BackupPolicy]:
    """Return the newest policy for each server of an environment that commands name TENANT/ENVIRONMENT."""
    tenant, _, slug = environment.partition("/")
    return [
        one.policy
        for one in places()
        if (one.policy.environment.tenant.slug, one.policy.environment.slug) == (tenant, slug)
    ]
