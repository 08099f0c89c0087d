"""What is done for an environment again and again: attachments copied, what may go removed, the stores compared.

The work is a job; a job that fails is trouble of the row, tried again, and seen by the age of what it should have made.
An operator is asked in the tick itself which times it can restore, and to remove what it recovered for what is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from changecontrol.access import Actor
from changecontrol.errors import Conflict, Permanent, Transient
from changecontrol.lifecycles.job import JobState
from changecontrol.models import Environment, Job
from changecontrol.workflow import engine
from changecontrol.workflow.engine import Settlement
from recovery.actions.adoptions import record_adoption, refuse_adoption
from recovery.actions.comparisons import ComparedStore, ListedWal, record_comparison
from recovery.actions.copies import record_filestore_copy, remove_filestore_copy
from recovery.actions.points import record_copy, remove_point
from recovery.actions.recoveries import CLUSTER, forget_cluster, tell_leftovers
from recovery.actions.upkeep import end_round, ensure_upkeep, note_done, note_reached
from recovery.actions.wal import NewSegment, record_cluster_coverage
from recovery.models import BackupPolicy, Disagreement, Drill, FilestoreCopy, RecoveryPoint, Restore, Upkeep
from recovery.models.point import UpkeepKind
from recovery.models.policy import Engine
from recovery.queries.comparison import (
    WalRecorded,
    adoption_due,
    due_to_go,
    place_of_adoption,
    waiting_for_adoption,
)
from recovery.queries.progress import key_of
from recovery.queries.upkeep import leaving
from recovery.rules.comparison import Difference, DifferenceKind, WalSpan
from recovery.rules.verification import ELSEWHERE
from recovery.workflows import cluster_backup, cluster_recovery
from recovery.workflows.backup import new_filestore_copy, new_point, told_locks
from recovery.workflows.steps import NOW, UNREMOVED, is_clearing, locked, ordered, settled, waiting

WITHIN = timedelta(hours=12)
RETENTION_EVERY = timedelta(days=1)
COMPARISON_EVERY = timedelta(hours=6)
COPIES_EVERY = timedelta(minutes=5)
OPERATOR_EVERY = timedelta(minutes=1)
AGAIN = {
    UpkeepKind.ATTACHMENTS: timedelta(minutes=1),
    UpkeepKind.RETENTION: timedelta(hours=1),
    UpkeepKind.COMPARISON: timedelta(minutes=15),
    UpkeepKind.COPIES: COPIES_EVERY,
    UpkeepKind.COVERAGE: OPERATOR_EVERY,
    UpkeepKind.CLUSTERS: OPERATOR_EVERY,
    UpkeepKind.ADOPTION: timedelta(minutes=1),
}
"""How long after what failed the next is tried; removal also after a look that met somebody at work.

A daily look that took it for done would meet a daily backup again for as long as that takes, for months.
"""
NAME = "upkeep"


class UpkeepWork:
    """The workflow `upkeep`: order a job, watch it, record what it did, and be due again."""

    name = NAME
    model = Upkeep

    def due(self) -> Q:
        return Q()

    def find(self, at: datetime) -> None:
        """Give every environment with a policy its rows."""
        policies = BackupPolicy.objects.active().exclude(engine=Engine.EXTERNAL).select_related("environment")
        for kind, rows in (
            (UpkeepKind.ATTACHMENTS, policies.filter(filestore_seconds__isnull=False)),
            (UpkeepKind.RETENTION, policies),
            (UpkeepKind.COMPARISON, policies),
            (UpkeepKind.COPIES, policies.exclude(copy_store="")),
            (UpkeepKind.COVERAGE, policies.filter(engine=Engine.CLOUDNATIVEPG)),
            (UpkeepKind.CLUSTERS, policies.filter(engine=Engine.CLOUDNATIVEPG)),
        ):
            known = Upkeep.objects.filter(kind=kind, next_due_at__isnull=False).values("environment")
            for policy in rows.exclude(environment__in=known):
                ensure_upkeep(policy.environment, kind=kind, at=at)
        for environment in _with_clusters():
            # Whatever takes its backups by now: what an operator recovered for it goes all the same.
            ensure_upkeep(environment, kind=UpkeepKind.CLUSTERS, at=at)
        known = Upkeep.objects.filter(kind=UpkeepKind.ADOPTION, next_due_at__isnull=False).values("environment")
        for environment in waiting_for_adoption().exclude(pk__in=known):
            ensure_upkeep(environment, kind=UpkeepKind.ADOPTION, at=at)

    def lock(self, pk: int) -> Upkeep:
        return locked(Upkeep, pk)

    def advance(self, row: Upkeep, at: datetime) -> Settlement[Upkeep]:
        policy = BackupPolicy.objects.active().filter(environment=row.environment_id).first()
        if row.kind == UpkeepKind.CLUSTERS:
            return self._clear(row, policy, at)
        if row.kind == UpkeepKind.ADOPTION:
            # Whatever takes its backups by now: who waits for a point is told.
            return self._adopt(row, at)
        if policy is None or policy.engine == Engine.EXTERNAL:
            return Settlement(write=None, due_in=None)
        if row.kind == UpkeepKind.ATTACHMENTS:
            return self._copy(row, policy, at)
        if row.kind == UpkeepKind.COMPARISON:
            return self._compare(row, policy, at)
        if row.kind == UpkeepKind.COPIES:
            return self._copy_onward(row, policy, at)
        if row.kind == UpkeepKind.COVERAGE:
            return self._ask_operator(row, policy, at)
        return self._let_go(row, policy, at)

    def refused(self, row: Upkeep, reason: str, at: datetime) -> Settlement[Upkeep]:
        return _again(row, reason)

    def exhausted(self, row: Upkeep, reason: str, at: datetime) -> Settlement[Upkeep]:
        """Begin afresh: an alarm tells that nothing comes, and nobody need wake this up."""
        return Settlement(write=None, due_in=AGAIN[UpkeepKind(row.kind)])

    def _copy(self, row: Upkeep, policy: BackupPolicy, at: datetime) -> Settlement[Upkeep]:
        if policy.filestore_seconds is None:
            return Settlement(write=None, due_in=None)
        # With its time: an older copy of our own database must not meet a name that it has given once more.
        order = {"policy": policy.pk, "name": f"between-{at:%Y%m%dT%H%M%SZ}-{row.pk}-{row.count}"}
        job = ordered(row.job_key, kind="attachments", order=lambda: order, at=at, within=WITHIN)
        if job.state == JobState.OPEN:
            return waiting()
        result, reason = job.result, job.reason

        def write(one: Upkeep, actor: Actor) -> None:
            if job.state == JobState.DONE:
                record_filestore_copy(policy, copy=new_filestore_copy(result), actor=actor, at=at)
            end_round(one, job, at=at)

        if job.state != JobState.DONE:
            return _again(row, reason, job=job)
        return settled(write, name=NAME, due_in=timedelta(seconds=policy.filestore_seconds))

    def _ask_operator(self, row: Upkeep, policy: BackupPolicy, at: datetime) -> Settlement[Upkeep]:
        if policy.engine != Engine.CLOUDNATIVEPG:
            return Settlement(write=None, due_in=None)
        told = cluster_backup.told_coverage(policy.environment, at=at)

        def write(one: Upkeep, actor: Actor) -> None:
            if told is not None:
                record_cluster_coverage(environment=one.environment, **asdict(told), actor=actor, at=at)
            note_done(one, at=at)

        return settled(write, name=NAME, due_in=OPERATOR_EVERY)

    def _clear(self, row: Upkeep, policy: BackupPolicy | None, at: datetime) -> Settlement[Upkeep]:
        is_by_operator = policy is not None and policy.engine == Engine.CLOUDNATIVEPG
        if not is_by_operator and not any(_with_cluster(model, row).exists() for model in (Restore, Drill)):
            return Settlement(write=None, due_in=None)
        over = [*_over_with_cluster(Restore, row, at), *_over_with_cluster(Drill, row, at), *_done_reading(row, at)]
        left, trouble = _removed(over)

        def write(one: Upkeep) -> None:
            for gone, leftovers in left:
                _note_remaining(locked(type(gone), gone.pk), leftovers, at=at)
            if trouble:
                engine.uncounted(one)
            else:
                note_done(one, at=at)

        return Settlement(write=write, due_in=OPERATOR_EVERY, failed=bool(trouble), trouble=trouble)

    def _let_go(self, row: Upkeep, policy: BackupPolicy, at: datetime) -> Settlement[Upkeep]:
        # What was ordered is followed to its end, whatever may go by now.
        job = Job.objects.filter(key=row.job_key).first()
        if job is None:
            leave = leaving(policy, at=at)
            if leave.is_empty and leave.is_busy:
                return Settlement(write=None, due_in=AGAIN[UpkeepKind.RETENTION])
            if leave.is_empty:
                return settled(lambda one, actor: note_done(one, at=at), name=NAME, due_in=RETENTION_EVERY)
            job = ordered(row.job_key, kind="remove", order=lambda: leave.to_order(policy), at=at, within=WITHIN)
        if job.state == JobState.OPEN:
            return waiting()
        if job.state != JobState.DONE:
            return _again(row, job.reason, job=job)
        result = job.result
        # Results of before this was said do not name it.
        is_busy = result.get("is_busy", False)

        def write(one: Upkeep, actor: Actor) -> None:
            of_points = Q(point__in=result["points"])
            gone = FilestoreCopy.objects.filter(Q(pk__in=result["copies"]) | of_points, removed_at=None)
            for copy in gone:
                remove_filestore_copy(copy, actor=actor, at=at)
            points = RecoveryPoint.objects.kept().filter(pk__in=result["points"])
            # Dependants first, as they were removed.
            for point in points.select_for_update(of=("self",)).order_by("-consistent_at", "-pk"):
                remove_point(point, actor=actor, at=at)
            end_round(one, job, at=None if is_busy else at)

        return settled(write, name=NAME, due_in=AGAIN[UpkeepKind.RETENTION] if is_busy else RETENTION_EVERY)

    def _adopt(self, row: Upkeep, at: datetime) -> Settlement[Upkeep]:
        # What was ordered is followed to its end, whatever is wished by now.
        job = Job.objects.filter(key=row.job_key).first()
        if job is None:
            if (wish := adoption_due(row.environment_id)) is None:
                return Settlement(write=None, due_in=None)
            try:
                place = place_of_adoption(row.environment_id, store=wish.store)
            except Conflict as refusal:
                return _not_adopted(wish, refusal.sentence, at)
            order = {"policy": place.policy.pk, "name": wish.name}
            job = ordered(row.job_key, kind="adopt", order=lambda: order, at=at, within=WITHIN)
        if job.state == JobState.OPEN:
            return waiting()
        name, result = job.order["name"], job.result
        # Results of before it was said under which policy a point was made do not name it.
        policy = BackupPolicy.objects.get(pk=result.get("policy", job.order["policy"]))

        def write(one: Upkeep, actor: Actor) -> None:
            words: dict[str, Any] = {"actor": actor, "at": at}
            if job.state == JobState.DONE:
                copy = new_filestore_copy(result["filestore"]) if result["filestore"] else None
                point = new_point(policy, key=name, kind=result["kind"], result=result)
                record_adoption(one.environment, policy=policy, point=point, filestore=copy, **words)
            else:
                refuse_adoption(one.environment, store=policy.store, name=name, sentence=job.reason, **words)
            end_round(one, job, at=at)

        return settled(write, name=NAME, due_in=NOW)

    def _copy_onward(self, row: Upkeep, policy: BackupPolicy, at: datetime) -> Settlement[Upkeep]:
        if not policy.copy_store:
            return Settlement(write=None, due_in=None)
        job = ordered(row.job_key, kind="copy", order=lambda: {"policy": policy.pk}, at=at, within=WITHIN)
        if job.state == JobState.OPEN:
            return waiting()
        if job.state != JobState.DONE:
            return _again(row, job.reason, job=job)
        result, locks = job.result, told_locks(job.result)

        def write(one: Upkeep, actor: Actor) -> None:
            copied = RecoveryPoint.objects.restorable().filter(pk__in=result["points"])
            for point in copied.select_for_update(of=("self",)).order_by("pk"):
                record_copy(point, store=policy.copy_store, lock=locks.get(str(point.pk)), actor=actor, at=at)
            note_reached(one, datetime.fromisoformat(result["reached_at"]) if result["reached_at"] else None)
            end_round(one, job, at=at)

        return settled(write, name=NAME, due_in=COPIES_EVERY)

    def _compare(self, row: Upkeep, policy: BackupPolicy, at: datetime) -> Settlement[Upkeep]:
        def order() -> dict[str, Any]:
            return {"policy": policy.pk, "goes": due_to_go(row.environment_id, at=at)}

        job = ordered(row.job_key, kind="compare", order=order, at=at, within=WITHIN)
        if job.state == JobState.OPEN:
            return waiting()
        if job.state != JobState.DONE:
            return _again(row, job.reason, job=job)
        compared = [_compared(one) for one in job.result["stores"]]

        def write(one: Upkeep, actor: Actor) -> None:
            record_comparison(one.environment, compared=compared, actor=actor, at=at)
            end_round(one, job, at=at)

        return settled(write, name=NAME, due_in=COMPARISON_EVERY)


def _compared(said: Mapping[str, Any]) -> ComparedStore:
    """Return what a job said of one store."""
    found = [
        {
            **one,
            "kind": DifferenceKind(one["kind"]),
            "stored_at": datetime.fromisoformat(one["stored_at"]) if one["stored_at"] else None,
        }
        for one in said["found"]
    ]
    return ComparedStore(
        store=said["store"],
        found=tuple(Difference(**one) for one in found),
        lost_lists=tuple(said["lost_lists"]),
        collected=tuple(said["collected"]),
        wal=_listed_wal(said["wal"], store=said["store"]) if said["wal"] is not None else None,
    )


def _listed_wal(said: Mapping[str, Any], *, store: str) -> ListedWal:
    listed = tuple(
        NewSegment(
            **{name: one[name] for name in ("system_identifier", "timeline", "key", "size", "sha256", "parent")},
            start_lsn=one["start"],
            end_lsn=one["end"],
            ends_at=datetime.fromisoformat(one["reached_at"]),
            forked_lsn=one["forked_at"],
            store=store,
        )
        for one in said["listed"]
    )
    return ListedWal(listed, WalRecorded(frozenset(WalSpan(**one) for one in said["recorded"]), said["removals"]))


def _with_clusters() -> Iterable[Environment]:
    """Return the environments of which something an operator recovered may be there, and nobody looks after it."""
    known = Upkeep.objects.filter(kind=UpkeepKind.CLUSTERS, next_due_at__isnull=False).values("environment")
    noted = [model._default_manager.filter(data__has_key=CLUSTER).values("environment") for model in (Restore, Drill)]
    found = Environment.objects.filter(Q(pk__in=noted[0]) | Q(pk__in=noted[1]))
    return found.exclude(pk__in=known).order_by("pk")


def _with_cluster(model: type[Restore] | type[Drill], row: Upkeep) -> QuerySet[Any]:
    return model._default_manager.filter(environment=row.environment_id, data__has_key=CLUSTER)


def _removed(over: Iterable[Restore | Drill]) -> tuple[list[tuple[Restore | Drill, str]], str]:
    """Remove the clusters of rows, all in one Kubernetes cluster; return what is left of each, and what went wrong.

    What may not be removed, or cannot be asked for, is left as well, and keeps no other from being removed.
    """
    left, trouble, is_silent = [], "", False
    for one in over:
        try:
            leftovers = f"{UNREMOVED} {trouble}" if is_silent else cluster_recovery.remaining(one)
        except (Permanent, Transient) as wrong:
            # Each that asks one that does not answer waits for as long, and a step has seconds.
            is_silent = isinstance(wrong, Transient)
            trouble = wrong.reason
            leftovers = f"{UNREMOVED} {trouble}"
        left.append((one, leftovers))
    return left, trouble


def _over_with_cluster(model: type[Restore] | type[Drill], row: Upkeep, at: datetime) -> Iterable[Restore | Drill]:
    """Return what is over, however it ended, of which the cluster that an operator recovered may still be there.

    Not before a tick that was under way when it ended is over, too: it may have asked for the cluster since.
    """
    rows = _with_cluster(model, row).filter(finished_at__lte=at - engine.lease_for())
    return rows.select_related("environment__cluster").order_by("pk")


def _done_reading(row: Upkeep, at: datetime) -> Iterator[Drill]:
    """Yield the drill that has gone on to another cluster and reads no more what an operator recovered for it.

    What is there at its end it removes itself. Until then it goes on, though the operator's cluster does not answer.
    """
    drills = _with_cluster(Drill, row).filter(level__gte=ELSEWHERE, finished_at=None)
    for one in drills.select_related("environment__cluster"):
        # As above: a tick that was under way when the job was ordered may have asked for the cluster since.
        job = Job.objects.filter(key=key_of(one), ended_at__lte=at - engine.lease_for()).first()
        if job is not None and not is_clearing(job, at):
            yield one


def _note_remaining(row: Restore | Drill, leftovers: str, *, at: datetime) -> None:
    if not leftovers:
        forget_cluster(row)
    elif row.finished_at is not None and at - row.finished_at > cluster_recovery.GONE_WITHIN:
        tell_leftovers(row, leftovers, at=at)


def _not_adopted(wish: Disagreement, sentence: str, at: datetime) -> Settlement[Upkeep]:
    """Refuse what cannot even be read, and go on to whoever waits behind it."""

    def write(one: Upkeep, actor: Actor) -> None:
        words: dict[str, Any] = {"actor": actor, "at": at}
        refuse_adoption(one.environment, store=wish.store, name=wish.name, sentence=sentence, **words)

    return settled(write, name=NAME, due_in=NOW)


def _again(row: Upkeep, reason: str, *, job: Job | None = None) -> Settlement[Upkeep]:
    def write(one: Upkeep) -> None:
        if job is not None:
            end_round(one, job, at=one.done_at or job.created_at)

    return Settlement(write=write, due_in=AGAIN[UpkeepKind(row.kind)], failed=True, trouble=reason)
