"""The way back of one target: apply what was there before the run, delete what the run created, watch until it serves.

What is to be deleted is settled before it is deleted: a deletion leaves nothing by which a later worker could tell that
it was ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.actions.runs import POLL, move_target, write_log
from changecontrol.errors import Permanent, Transient
from changecontrol.events import Tag
from changecontrol.models import RunTarget
from changecontrol.ports import Kubernetes, ObjectRef
from changecontrol.rules.counting import counted
from changecontrol.workflow.engine import Settlement, confirm_lease
from deployments import doors
from deployments.actions.rollouts import can
from deployments.rendering import Manifests, name_of
from deployments.rules.health import Health
from deployments.rules.manifests import RenderedObject
from deployments.rules.rollback_class import RUNS_ONCE
from deployments.workflows.looking import health_of
from deployments.workflows.settling import NOW
from deployments.workflows.steps import (
    entry_of,
    give_up,
    in_time,
    manifests_before,
    new_manifests,
    ready_within,
    remember,
    settled_target,
    time_of,
)


def revert(row: RunTarget, at: datetime) -> Settlement[RunTarget]:
    # Where nothing is shared nothing was applied, and yet what was pruned has to come back.
    may_be_pruned = not row.workload and bool(row.run.data.get("finishing"))
    # What is there is settled before anything is applied: a target that failed before that has touched nothing.
    is_touched = any("existed" in entry for entry in row.applied)
    if not is_touched and not may_be_pruned:
        return _done("nothing was applied", at)
    new, previous = new_manifests(row), manifests_before(row)
    wanted = _wanted(row, new, previous)
    if left := [one for one in wanted if not entry_of(row, one.ref).get("reverted_at")]:
        return _bring_back(row, left, total=len(wanted), at=at)
    created = [
        one.ref
        for one in new.of(row.workload)
        # What a whole cluster shares is never deleted: others may have come to rely on it.
        if one.ref.namespace and not previous.holds(one.ref) and _was_created(row, one.ref)
    ]
    if unmarked := [ref for ref in created if not _is_decided(entry_of(row, ref))]:
        return _mark(row, unmarked, at)
    if marked := [ref for ref in created if entry_of(row, ref).get("deleting")]:
        return _delete(row, marked, at)
    if not row.workload:
        return _done("as before", at)
    if not previous.of(row.workload):
        return _await_gone(row, created, at)
    return _watch(row, previous, at)


def _wanted(row: RunTarget, new: Manifests, previous: Manifests) -> list[RenderedObject]:
    if row.workload:
        return list(previous.of(row.workload))
    # A Job of the version before has done its work: bringing it back would run it again. Workloads that the new version
    # no longer has were pruned, and no other target brings them back.
    shared = [one for one in previous.shared if one.ref.kind not in RUNS_ONCE]
    return [*shared, *(one for one in previous.workloads if not new.of(name_of(one.ref)))]


def _bring_back(row: RunTarget, left: Sequence[RenderedObject], *, total: int, at: datetime) -> Settlement[RunTarget]:
    """Apply what was there before the run; asking again changes nothing, and is found done."""
    cluster = doors.open_cluster(row.environment.cluster)
    confirm_lease(row)
    done: dict[str, dict[str, Any]] = {}
    for one in in_time(left, since=at):
        try:
            applied = cluster.ensure_applied(one.manifest)
        except (Transient, Permanent):
            if not done:
                raise
            break  # what was done is settled first; the next tick meets this again
        done[str(one.ref)] = {"reverted_at": at.isoformat(), "revert_generation": applied.generation}

    def write(target: RunTarget, actor: Actor) -> None:
        remember(target, done)
        target.save(update_fields=["applied"])
        for ref in done:
            _record(Tag.OBJECT_APPLIED, target, ref, actor=actor, at=at)
        count = total - len(left) + len(done)
        sentence = f"{target}: {count} of {counted(total, 'object')} as before."
        write_log(target.run, target=target, icon="arrow-back-up", sentence=sentence, at=at)

    return settled_target(write, due_in=NOW)


def _mark(row: RunTarget, refs: Sequence[ObjectRef], at: datetime) -> Settlement[RunTarget]:
    """Settle what is about to be deleted: what this run created, and not what took its place."""
    cluster = doors.open_cluster(row.environment.cluster)
    facts: dict[str, dict[str, Any]] = {}
    for ref in in_time(refs, since=at):
        is_ours = _is_ours(cluster, ref, entry_of(row, ref))
        facts[str(ref)] = {"deleting": True} if is_ours else {"reverted_at": at.isoformat()}

    def write(target: RunTarget, actor: Actor) -> None:
        remember(target, facts)
        target.save(update_fields=["applied"])

    return settled_target(write, due_in=NOW)


def _delete(row: RunTarget, refs: Sequence[ObjectRef], at: datetime) -> Settlement[RunTarget]:
    cluster = doors.open_cluster(row.environment.cluster)
    confirm_lease(row)
    done: dict[str, bool] = {}
    for ref in in_time(refs, since=at):
        try:
            done[str(ref)] = is_deleted(cluster, ref, inventory=row.environment.inventory)
        except (Transient, Permanent):
            if not done:
                raise
            break

    def write(target: RunTarget, actor: Actor) -> None:
        remember(target, {ref: {"deleting": False, "reverted_at": at.isoformat()} for ref in done})
        target.save(update_fields=["applied"])
        gone = [ref for ref, is_gone in done.items() if is_gone]
        for ref in gone:
            _record(Tag.OBJECT_PRUNED, target, ref, actor=actor, at=at)
        sentence = f"{target}: {counted(len(gone), 'object')} created by this run deleted."
        write_log(target.run, target=target, icon="trash", sentence=sentence, at=at)

    return settled_target(write, due_in=NOW)


def is_deleted(cluster: Kubernetes, ref: ObjectRef, *, inventory: str) -> bool:
    """Delete an object whose deletion is settled. True too where a worker that died, or somebody else, has done it."""
    if cluster.ensure_deleted(ref, inventory=inventory):
        return True
    live = cluster.observe_object(ref)
    return live is None or bool((live.get("metadata") or {}).get("deletionTimestamp"))


def _await_gone(row: RunTarget, created: Sequence[ObjectRef], at: datetime) -> Settlement[RunTarget]:
    cluster = doors.open_cluster(row.environment.cluster)
    left = next((ref for ref in created if _is_ours(cluster, ref, entry_of(row, ref))), None)
    if left is None:
        return _done("what this run created is gone", at)
    if at >= time_of(row, "reverted_at", at) + ready_within(row):
        return give_up(f"{left} is not gone.", at)
    return Settlement(write=None, due_in=POLL)


def _watch(row: RunTarget, previous: Manifests, at: datetime) -> Settlement[RunTarget]:
    found, ready, desired = health_of(
        row, previous, key="revert_generation", since=time_of(row, "reverted_at", at), deadline=ready_within(row), at=at
    )
    if found.health is Health.STUCK:
        return give_up(found.sentence, at)
    if found.health is Health.HEALTHY:
        return _done(f"{ready} of {desired} pods run the version from before", at)
    return Settlement(write=None, due_in=POLL)


def _done(words: str, at: datetime) -> Settlement[RunTarget]:
    def write(target: RunTarget, actor: Actor) -> None:
        target.is_reverting = False
        if can(target, "revert"):
            move_target(target, "revert", sentence=f"{target}: {words}.", actor=actor, at=at, is_reverting=False)
        else:
            target.save(update_fields=["is_reverting"])

    return settled_target(write, due_in=None, tells_run=True)


def _was_created(row: RunTarget, ref: ObjectRef) -> bool:
    return entry_of(row, ref).get("existed") is False


def _is_decided(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("deleting") or entry.get("reverted_at"))


def _is_ours(cluster: Kubernetes, ref: ObjectRef, entry: Mapping[str, Any]) -> bool:
    """Tell whether what is there is what this run created, and not what took its place."""
    live = cluster.observe_object(ref)
    if live is None:
        return False
    uid = str((live.get("metadata") or {}).get("uid", ""))
    return not entry.get("uid") or entry["uid"] == uid


def _record(tag: Tag, target: RunTarget, ref: str, *, actor: Actor, at: datetime) -> None:
    data = {"target": str(target), "object": ref, "reverting": True}
    audit.record(tag, subject=target, change=target.run.change, actor=actor, at=at, data=data)
