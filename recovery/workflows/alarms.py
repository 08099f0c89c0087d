"""Watches every environment with a backup policy: is something wrong, and do its stores answer (BCK-1)?

A dead man's switch: what is not heard of alarms. Stores are asked rarely and within bounds, outside a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db.models import Q

from changecontrol.access import Actor
from changecontrol.errors import Permanent, Transient
from changecontrol.models import Environment
from changecontrol.workflow.engine import Settlement
from recovery import doors
from recovery.actions.alarms import ensure_watch, note_stores, tell_alarms
from recovery.models import AlarmWatch, BackupPolicy
from recovery.models.policy import Engine
from recovery.queries.alarms import OPERATOR, alarms_of
from recovery.workflows import cluster_backup
from recovery.workflows.steps import locked, settled

NAME = "alarms"
LOOK_EVERY = timedelta(minutes=1)
ASK_STORES_EVERY = timedelta(minutes=5)
ANSWER_SECONDS = 10.0
"""How long a store may take to answer: far below the limit of a tick."""

log = structlog.get_logger(__name__)


class AlarmWork:
    """The workflow `alarms`: look, tell, and look again in a minute."""

    name = NAME
    model = AlarmWatch

    def due(self) -> Q:
        return Q(environment__isnull=False)

    def find(self, at: datetime) -> None:
        """Watch every environment that has got a policy."""
        watched = AlarmWatch.objects.filter(next_due_at__isnull=False).values("environment")
        policies = BackupPolicy.objects.active().exclude(environment__in=watched)
        for environment in Environment.objects.filter(pk__in=policies.values("environment")).order_by("pk"):
            ensure_watch(environment, at=at)

    def lock(self, pk: int) -> AlarmWatch:
        return locked(AlarmWatch, pk)

    def advance(self, row: AlarmWatch, at: datetime) -> Settlement[AlarmWatch]:
        # With the cluster: whoever asks the operator in a thread of its own finds no database there.
        policies = BackupPolicy.objects.active().select_related("environment__cluster")
        policy = policies.filter(environment=row.environment_id).first()
        is_due = row.stores_asked_at is None or at - row.stores_asked_at >= ASK_STORES_EVERY
        silent = _silent_stores(policy, before=row.silent_stores, at=at) if policy is not None and is_due else None

        def write(watch: AlarmWatch, actor: Actor) -> None:
            if silent is not None:
                note_stores(watch, silent=silent, at=at)
            found = alarms_of(policy, at=at) if policy is not None else ()
            tell_alarms(watch, found=found, actor=actor, at=at)

        return settled(write, name=NAME, due_in=LOOK_EVERY)

    def refused(self, row: AlarmWatch, reason: str, at: datetime) -> Settlement[AlarmWatch]:
        return Settlement(write=None, due_in=ASK_STORES_EVERY, failed=True, trouble=reason)

    def exhausted(self, row: AlarmWatch, reason: str, at: datetime) -> Settlement[AlarmWatch]:
        """Begin afresh, slowly: a watch that gave up would be silent itself."""
        return Settlement(write=None, due_in=ASK_STORES_EVERY)


def _silent_stores(policy: BackupPolicy, *, before: Mapping[str, str], at: datetime) -> dict[str, str]:
    """Ask the stores of a policy, and the operator that archives; return since when each that is not well is not."""
    calls = {policy.store: partial(_ask, policy.store, policy.store_credential)}
    if policy.copy_store:
        calls[policy.copy_store] = partial(_ask, policy.copy_store, policy.copy_credential)
    if policy.engine == Engine.CLOUDNATIVEPG:
        calls[OPERATOR] = partial(_ask_operator, policy.environment)
    pool = ThreadPoolExecutor(max_workers=len(calls))
    try:
        asked = {address: pool.submit(call) for address, call in calls.items()}
        wait(asked.values(), timeout=ANSWER_SECONDS)
    finally:
        # One that answers later than this is as good as silent, and nobody waits for it.
        pool.shutdown(wait=False, cancel_futures=True)
    silent = [address for address, call in asked.items() if not _answered(address, call)]
    return {address: before.get(address, at.isoformat()) for address in silent}


def _ask(address: str, credential: str) -> None:
    """Ask in a thread of its own: no database here."""
    doors.store_at(address, credential=credential).observe_reachable()


def _ask_operator(environment: Environment) -> None:
    """Ask in a thread of its own, with a credential that may not be readable: no database here either."""
    clusters = doors.open_database_clusters(environment)
    cluster_backup.check_archiving(clusters, namespace=environment.namespace, inventory=environment.inventory)


def _answered(address: str, call: Future[None]) -> bool:
    """Tell whether a far side answered. One that refuses the credential keeps nothing for us either.

    One that cannot be asked for a fault of ours is silent, too: it must not keep the other alarms from being judged.
    """
    if not call.done() or call.cancelled():
        return False
    trouble = call.exception()
    if trouble is not None and not isinstance(trouble, Transient | Permanent):
        log.error("alarms.fault", asked=address, exc_info=trouble)
    return trouble is None
