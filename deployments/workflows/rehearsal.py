"""Brings an environment up in another cluster for a while, and takes it down again: what a drill of level 5 asks for.

Everything goes into one namespace, made here and labelled with the run's id; nothing without that label is ever
deleted. What is rendered is what a rollout would render, at the commit and path that the rehearsal names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from changecontrol.access import Actor, system_actor
from changecontrol.actions.rehearsals import move_rehearsal, note_applied, note_health, note_leftovers
from changecontrol.actions.runs import POLL
from changecontrol.errors import Permanent, Transient
from changecontrol.lifecycles.rehearsal import ACTIVE, REHEARSAL, RehearsalState
from changecontrol.models import Rehearsal
from changecontrol.ports import RUN_LABEL, SUPPORTED_KINDS, Kubernetes, Manifest, ObjectRef, Right, rights_for
from changecontrol.rules.counting import counted
from changecontrol.rules.plan import digest_of
from changecontrol.rules.rehearsals import refusal_of_place
from changecontrol.workflow.engine import Settlement, confirm_lease
from changecontrol.workflow.rows import lock_row
from deployments import doors
from deployments.rendering import Manifests, Unresolvable, manifests_in, safe
from deployments.rules.health import Health, WorkloadHealth, judge_job, judge_target, judge_workload
from deployments.rules.manifests import Place, RenderedObject
from deployments.rules.rollback_class import RUNS_ONCE
from deployments.workflows.looking import digests_of
from deployments.workflows.settling import NOW
from deployments.workflows.steps import SOON, in_time

READY_WITHIN = timedelta(minutes=15)
"""How long workloads may take to become healthy: images are pulled where they never ran."""
GONE_WITHIN = timedelta(minutes=10)
"""How long a namespace may take to empty before what is left of it is a finding."""
TAKEN_DOWN_WITHIN = timedelta(days=1)
"""How long a rehearsal is being taken down though nobody answers. With production's data on it, it is not let be."""
LOOK_AGAIN = timedelta(hours=1)
"""How often what was left is looked at, and asked to go again."""
COMING_UP = frozenset({RehearsalState.ASKED, RehearsalState.BRINGING_UP})
GOING = frozenset({RehearsalState.TEARING_DOWN, RehearsalState.LEFT})
NAMESPACE_RIGHTS = tuple(Right(verb, "", "namespaces") for verb in ("create", "delete", "get", "patch"))
MAX_NAMED = 5

Write = Callable[[Rehearsal, Actor], None]


class RehearsalRun:
    """The workflow `rehearsal`: refuse what must not be, make the namespace, apply, watch; wait; take down.

    What it could not take down it goes on to, each hour, until nothing is left.
    """

    name = "rehearsal"
    model = Rehearsal

    def due(self) -> Q:
        return Q(state__in=sorted(ACTIVE | {RehearsalState.LEFT}))

    def find(self, at: datetime) -> None:
        """Make due what an earlier version left for good; whoever asks for a rehearsal makes it due."""
        Rehearsal.objects.filter(state=RehearsalState.LEFT, next_due_at=None, lease_token=None).update(next_due_at=at)

    def lock(self, pk: int) -> Rehearsal:
        return lock_row(Rehearsal, pk)

    def advance(self, row: Rehearsal, at: datetime) -> Settlement[Rehearsal]:
        if row.state in GOING:
            return _take_down(row, at)
        if row.teardown_asked_at is not None or at >= row.ends_at:
            # What kept it from coming up all the time is why it did not.
            problem = row.problem or (row.trouble if row.state in COMING_UP else "")
            return _moved("tear_down", "It is being taken down.", at, due_in=NOW, problem=problem)
        if row.state == RehearsalState.ASKED:
            return _prepare(row, at)
        if row.state == RehearsalState.BRINGING_UP:
            return _bring_up(row, at)
        return Settlement(write=None, due_in=row.ends_at - at)

    def is_waiting(self, row: Rehearsal, at: datetime) -> bool:
        """While its cluster does not answer it has as long to come up as it may stay, and a day to go."""
        if row.state == RehearsalState.TEARING_DOWN:
            return at < (row.teardown_at or at) + TAKEN_DOWN_WITHIN
        return row.state in COMING_UP and at < row.ends_at

    def refused(self, row: Rehearsal, reason: str, at: datetime) -> Settlement[Rehearsal]:
        if row.state in GOING:
            return _gave_up(row, reason, at)
        return _failed(row, reason, at)

    def exhausted(self, row: Rehearsal, reason: str, at: datetime) -> Settlement[Rehearsal]:
        if row.state == RehearsalState.LEFT:
            # That nobody answers says nothing new of what was left.
            return Settlement(write=None, due_in=LOOK_AGAIN)
        return self.refused(row, reason, at)


def _prepare(row: Rehearsal, at: datetime) -> Settlement[Rehearsal]:
    """Refuse what must not be begun. Nothing is written at the far side yet."""
    if refusal := refusal_of_place(cluster_id=row.cluster_id, own_cluster_id=row.environment.cluster_id):
        raise Permanent(refusal)
    manifests = _manifests_of(row)
    if not manifests.workloads:
        raise Unresolvable(f"There is no workload below {row.path} at {row.commit[:8]}: nothing could be brought up.")
    cluster = doors.open_cluster(row.cluster)
    _check_rights(row, cluster, manifests)
    if cluster.observe_object(_namespace_of(row)) is not None:
        raise Permanent(f"There is a namespace {row.namespace} in {row.cluster.name} already: it stays as it is.")
    count = counted(len(manifests.objects), "object")
    return _moved("begin", f"{count} are brought up in {row.cluster.name}.", at, due_in=NOW)


def _check_rights(row: Rehearsal, cluster: Kubernetes, manifests: Manifests) -> None:
    kinds = {(one.ref.api_version, one.ref.kind) for one in manifests.objects}
    lacking = [
        *cluster.observe_rights(namespace="", rights=NAMESPACE_RIGHTS),
        *cluster.observe_rights(namespace=row.namespace, rights=rights_for(written=kinds, listed=kinds)),
    ]
    if lacking:
        named = ", ".join(f"{one.verb} {one.resource}" for one in lacking[:MAX_NAMED])
        more = f" and {len(lacking) - MAX_NAMED} more" if len(lacking) > MAX_NAMED else ""
        raise Permanent(
            f"In {row.cluster.name} the executor may not {named}{more}. Grant it as deploy/rbac-rehearsal.yaml does."
        )


def _bring_up(row: Rehearsal, at: datetime) -> Settlement[Rehearsal]:
    """Make the namespace, then apply into it, then watch: a step of each at a time."""
    cluster = doors.open_cluster(row.cluster)
    namespace = _namespace_of(row)
    live = cluster.observe_object(namespace)
    if live is not None and not _is_ours(row, live):
        raise Permanent(f"The namespace {row.namespace} in {row.cluster.name} is not the one that was made for it.")
    if str(namespace) not in row.applied:
        confirm_lease(row)
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": row.namespace, "labels": _label(row)}}
        return _noted({str(namespace): _apply(cluster, manifest, at)}, f"The namespace {row.namespace} is there.", at)
    if live is None:
        raise Permanent(f"The namespace {row.namespace} in {row.cluster.name} was deleted by somebody else.")
    manifests = _manifests_of(row)
    left = [one for one in manifests.objects if str(one.ref) not in row.applied]
    if not left:
        return _watch(row, cluster, manifests, at)
    confirm_lease(row)
    return _apply_some(row, cluster, left, at, total=len(manifests.objects))


def _apply_some(
    row: Rehearsal, cluster: Kubernetes, left: list[RenderedObject], at: datetime, *, total: int
) -> Settlement[Rehearsal]:
    done: dict[str, dict[str, Any]] = {}
    for one in in_time(left, since=at):
        try:
            _check_place(row, cluster, one)
            done[str(one.ref)] = _apply(cluster, one.manifest, at)
        except (Transient, Permanent):
            if done:
                break  # what was done is settled first; the next tick meets this again
            raise
    count = total - len(left) + len(done)
    return _noted(done, f"{count} of {counted(total, 'object')} applied.", at)


def _check_place(row: Rehearsal, cluster: Kubernetes, one: RenderedObject) -> None:
    """Refuse a kind that we do not know and that the server keeps for the whole cluster: it would outlive the run."""
    if (one.ref.api_version, one.ref.kind) in SUPPORTED_KINDS:
        return
    seen = cluster.ensure_applied(one.manifest, dry_run=True).live.get("metadata") or {}
    if seen.get("namespace") != row.namespace:
        raise Permanent(f"{one.ref.kind} {one.ref.name} is cluster-scoped: a rehearsal stays in its own namespace.")


def _apply(cluster: Kubernetes, manifest: Manifest, at: datetime) -> dict[str, Any]:
    applied = cluster.ensure_applied(manifest)
    facts = {"uid": applied.uid, "generation": applied.generation}
    return {**facts, "sha256": digest_of(safe(manifest)), "at": at.isoformat()}


def _watch(row: Rehearsal, cluster: Kubernetes, manifests: Manifests, at: datetime) -> Settlement[Rehearsal]:
    since = row.applied_at or at
    judged = _judged(row, cluster, manifests)
    found = judge_target(judged.values(), updated_at=since, deadline=READY_WITHIN, at=at)
    workloads = [
        {
            "name": f"{one.ref.kind} {one.ref.name}",
            "is_healthy": health.health is Health.HEALTHY,
            "sentence": health.sentence,
            "digests": sorted(digests_of(one)),
        }
        for one in manifests.objects
        if (health := judged.get(one.ref)) is not None
    ]
    facts = {**row.facts, "workloads": workloads}
    if found.health is Health.HEALTHY:
        sentence = f"It is up in {row.cluster.name}. {found.sentence}"
        return _moved("confirm", sentence, at, due_in=row.ends_at - at, facts=facts)
    if found.health is Health.STUCK:
        return _failed(row, found.sentence, at, facts=facts)
    return _settled(
        lambda one, _: note_health(one, workloads, sentence=found.sentence),
        due_in=min(max((at - since) / 2, SOON), POLL),
    )


def _judged(row: Rehearsal, cluster: Kubernetes, manifests: Manifests) -> dict[ObjectRef, WorkloadHealth]:
    """Judge what has a health of its own: workloads by their pods, Jobs by how they end."""
    statuses = cluster.observe_workloads(namespace=row.namespace, inventory=row.namespace)
    judged = {}
    for one in manifests.objects:
        if one.ref.kind in RUNS_ONCE:
            is_short_lived = "ttlSecondsAfterFinished" in (one.manifest.get("spec") or {})
            judged[one.ref] = judge_job(one.ref, cluster.observe_object(one.ref), is_short_lived=is_short_lived)
        elif one in manifests.workloads:
            status = statuses.get(one.ref)
            judged[one.ref] = (
                WorkloadHealth(Health.PROGRESSING, "gone", f"{one.ref}: it is not there.")
                if status is None
                else judge_workload(
                    status,
                    applied_generation=int(row.applied[str(one.ref)]["generation"]),
                    planned_digests=digests_of(one),
                )
            )
    return judged


def _take_down(row: Rehearsal, at: datetime) -> Settlement[Rehearsal]:
    """Delete the namespace if it carries the run's label, and wait until it is gone with all that is in it."""
    if row.began_at is None:
        # A cluster that was refused, or never answered, has nothing of it: it is not asked again.
        return _finished(f"Nothing was made in {row.cluster.name}.", at)
    cluster = doors.open_cluster(row.cluster)
    namespace = _namespace_of(row)
    confirm_lease(row)
    cluster.ensure_deleted(namespace, inventory=str(row.key), label=RUN_LABEL)
    live = cluster.observe_object(namespace)
    uid = row.applied.get(str(namespace), {}).get("uid")
    if live is None or not (_is_ours(row, live) or live["metadata"].get("uid") == uid):
        return _finished(f"Nothing of it is left in {row.cluster.name}.", at)
    if not _is_ours(row, live):
        return _gave_up(row, f"The namespace {row.namespace} lost the label of its run, and was not deleted.", at)
    since = _going_since(row, live, at)
    if at >= since + GONE_WITHIN:
        kinds = {(one.ref.api_version, one.ref.kind) for one in _manifests_of(row).objects}
        refs = cluster.observe_inventory(namespace=row.namespace, inventory=str(row.key), kinds=kinds, label=RUN_LABEL)
        named = ", ".join(str(ref) for ref in refs[:MAX_NAMED]) or "nothing that it applied itself"
        reason = f"The namespace {row.namespace} is still being deleted after {GONE_WITHIN.seconds // 60} min"
        return _gave_up(row, f"{reason}; in it: {named}.", at)
    return Settlement(write=None, due_in=min(max((at - since) / 2, SOON), POLL))


def _going_since(row: Rehearsal, live: Mapping[str, Any], at: datetime) -> datetime:
    """Return since when a namespace goes: since it was let, not since it was to, where nobody answered in between."""
    since, said = row.teardown_at or at, live["metadata"].get("deletionTimestamp")
    return max(since, min(datetime.fromisoformat(said), at)) if said else since


def _manifests_of(row: Rehearsal) -> Manifests:
    """Render what is to be applied: in the namespace made for it, under an inventory of its own, with the run's id."""
    place = Place(namespace=row.namespace, inventory=row.namespace)
    rendered = manifests_in(place, row.environment, row.commit, path=row.path)
    return Manifests(rendered.commit, tuple(_labelled(row, one) for one in rendered.objects))


def _labelled(row: Rehearsal, one: RenderedObject) -> RenderedObject:
    metadata = one.manifest["metadata"]
    return replace(
        one, manifest={**one.manifest, "metadata": {**metadata, "labels": {**metadata["labels"], **_label(row)}}}
    )


def _label(row: Rehearsal) -> dict[str, str]:
    return {RUN_LABEL: str(row.key)}


def _namespace_of(row: Rehearsal) -> ObjectRef:
    return ObjectRef("v1", "Namespace", "", row.namespace)


def _is_ours(row: Rehearsal, live: Mapping[str, Any]) -> bool:
    return bool((live["metadata"].get("labels") or {}).get(RUN_LABEL) == str(row.key))


def _settled(write: Write, *, due_in: timedelta | None) -> Settlement[Rehearsal]:
    return Settlement(write=lambda row: write(row, system_actor(f"rehearsal:{row.pk}")), due_in=due_in)


def _noted(applied: Mapping[str, Mapping[str, Any]], sentence: str, at: datetime) -> Settlement[Rehearsal]:
    return _settled(lambda one, actor: note_applied(one, applied, sentence=sentence, actor=actor, at=at), due_in=NOW)


def _moved(verb: str, sentence: str, at: datetime, *, due_in: timedelta | None, **fields: Any) -> Settlement[Rehearsal]:
    def write(one: Rehearsal, actor: Actor) -> None:
        if REHEARSAL.allows(verb, one.state):
            move_rehearsal(one, verb, sentence=sentence, actor=actor, at=at, **fields)

    return _settled(write, due_in=due_in)


def _failed(row: Rehearsal, reason: str, at: datetime, **fields: Any) -> Settlement[Rehearsal]:
    """It did not come up. It stays as it is, to be looked at, until it is taken down."""
    sentence = f"It did not come up in {row.cluster.name}. {reason}"
    return _moved("fail", sentence, at, due_in=max(row.ends_at - at, NOW), problem=reason, **fields)


def _finished(sentence: str, at: datetime) -> Settlement[Rehearsal]:
    return _moved("finish", sentence, at, due_in=None, leftovers="")


def _gave_up(row: Rehearsal, reason: str, at: datetime) -> Settlement[Rehearsal]:
    """Something of it is there: a person is told, and it is looked at again."""
    sentence = f"Not all of it is gone from {row.cluster.name}. {reason}"
    if row.state == RehearsalState.LEFT:
        return _settled(lambda one, _: note_leftovers(one, reason, sentence=sentence), due_in=LOOK_AGAIN)
    return _moved("give_up", sentence, at, due_in=LOOK_AGAIN, leftovers=reason)
