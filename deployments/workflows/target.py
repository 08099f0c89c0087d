"""Brings one target to the new version: look, write down what is there, apply, watch. The way back is `reverting`.

What was there before is settled before anything is applied, so that a worker that dies in between leaves enough behind
to finish, to show the exact difference, and to go back. A step does what fits into a few seconds; the next goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, prefetch_related_objects

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.actions.runs import POLL, move_target, write_log
from changecontrol.errors import Permanent, Transient
from changecontrol.events import Tag
from changecontrol.lifecycles.run import PauseReason, RunState, TargetState
from changecontrol.models import RunTarget
from changecontrol.ports import ApplyConflict, Kubernetes, NotAllowed
from changecontrol.rules.counting import counted
from changecontrol.rules.plan import digest_of
from changecontrol.workflow.claiming import Together
from changecontrol.workflow.engine import Settlement, confirm_lease
from deployments import doors
from deployments.actions.rollouts import RETRY_DEFERRED, can, retry_target
from deployments.approved import Approved
from deployments.gates.dry_run import bare
from deployments.rendering import redaction_key, safe
from deployments.rules import takeover
from deployments.rules.health import Health, WorkloadHealth, judge_job, judge_lasting, judge_target, since_when
from deployments.rules.manifest_diff import diff_rendered
from deployments.rules.manifests import RenderedObject
from deployments.rules.rollback_class import RUNS_ONCE
from deployments.workflows import crowding
from deployments.workflows.looking import health_of, workloads_of
from deployments.workflows.reverting import revert
from deployments.workflows.settling import NOW
from deployments.workflows.steps import (
    SOON,
    entry_of,
    fail,
    give_up,
    in_time,
    new_manifests,
    ready_within,
    remember,
    settled_target,
    tell_run,
    time_of,
)

HELD = timedelta(seconds=15)
DETAIL_LIMIT = 20_000
WORKING = frozenset({RunState.RUNNING, RunState.BAKING, RunState.AWAITING_PROMOTION})
MAY_GO_ON = frozenset({RunState.PAUSED, RunState.PREFLIGHT, RunState.WAITING_FOR_WINDOW})


class TargetUpdate:
    """The workflow `target`: one row for each workload of each environment, on as many workers as there are."""

    name = "target"
    model = RunTarget
    # Of one environment, so that one cluster that answers slowly holds up nobody else's targets.
    together = Together(column="environment_id", at_most=25)

    def due(self) -> Q:
        return Q(is_reverting=True) | Q(state__in=[TargetState.UPDATING, TargetState.UPDATED, TargetState.DEFERRED])

    def crowded(self, at: datetime) -> Q:
        return crowding.crowded(at)

    def find(self, at: datetime) -> None:
        """Nothing to find: the run makes its targets due."""

    def lock(self, pk: int) -> RunTarget:
        return RunTarget.objects.select_for_update(of=("self",)).select_related("run__change", "environment").get(pk=pk)

    def lock_all(self, pks: Sequence[int]) -> list[RunTarget]:
        rows = list(RunTarget.objects.select_for_update(of=("self",)).filter(pk__in=pks).order_by("pk"))
        prefetch_related_objects(rows, "run__change", "environment")
        return rows

    def meet(self, rows: Sequence[RunTarget], at: datetime) -> Settlement[RunTarget] | None:
        if crowding.is_crowded(rows[0]):
            return crowding.turned_away()
        prefetch_related_objects(rows, "run__plan", "environment__cluster", "environment__source")
        return None

    def advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        try:
            return self._advance(row, at)
        except NotAllowed as refusal:
            # A right may come back (a binding restored, a credential renewed): asked again, then deferred (RUN-8).
            raise Transient(refusal.reason) from None

    def _advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        if row.is_reverting:
            return revert(row, at)
        if row.state == TargetState.DEFERRED:
            return self._chase(row, at)
        if row.state == TargetState.UPDATED:
            return self._watch(row, at)
        if row.state != TargetState.UPDATING:
            return Settlement(write=None, due_in=None)
        if row.run.state not in WORKING:
            return _held(row)
        return self._update(row, at)

    def refused(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        return give_up(reason, at) if row.is_reverting else fail(reason, at, problem=PauseReason.FAILURE_BUDGET)

    def exhausted(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        """Out of reach is deferred, not failed, and chased (RUN-4); on the way back it is an alarm."""
        if row.is_reverting:
            return give_up(reason, at)
        return settled_target(lambda one, actor: _defer(one, reason, actor, at), due_in=RETRY_DEFERRED)

    def troubled(self, row: RunTarget, reason: str, at: datetime) -> None:
        write_log(row.run, target=row, icon="clock-pause", sentence=f"{row}: {reason} It is tried again.", at=at)

    def _update(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        """Write down what is there before anything of ours is; then, in a step of its own, apply."""
        objects = new_manifests(row).of(row.workload)
        if not objects:
            return settled_target(lambda one, actor: _confirm_empty(one, actor, at), due_in=None)
        cluster = doors.open_cluster(row.environment.cluster)
        unseen = [one for one in objects if "existed" not in entry_of(row, one.ref)]
        if not unseen:
            confirm_lease(row)
            return self._apply(row, cluster, objects, at)
        seen = _look(row, cluster, unseen, at)

        def write(target: RunTarget) -> None:
            remember(target, seen)
            target.save(update_fields=["applied"])

        return Settlement(write=write, due_in=NOW)

    def _apply(
        self, row: RunTarget, cluster: Kubernetes, objects: Sequence[RenderedObject], at: datetime
    ) -> Settlement[RunTarget]:
        """Apply the objects of the target; asking again changes nothing, and is found done."""
        left = [one for one in objects if not entry_of(row, one.ref).get("at")]
        done: dict[str, dict[str, Any]] = {}
        after = []
        for one in in_time(left, since=at):
            try:
                applied = cluster.ensure_applied(one.manifest)
            except (Transient, Permanent) as trouble:
                if done:
                    break  # what was done is settled first; the next tick meets this again
                if isinstance(trouble, ApplyConflict):
                    return fail(trouble.reason, at, problem=PauseReason.APPLY_CONFLICT)
                raise
            done[str(one.ref)] = {
                "uid": applied.uid,
                "generation": applied.generation,
                "sha256": digest_of(safe(one.manifest)),
                "at": at.isoformat(),
            }
            after.append(bare(applied.live))
        before = [entry["before"] for entry in row.applied if entry.get("ref") in done and entry.get("before")]
        detail = "".join(one.text for one in diff_rendered(before, after, key=redaction_key()))[:DETAIL_LIMIT]
        count = len(objects) - len(left) + len(done)
        is_all = count == len(objects)
        # Configuration has no health of its own: the workloads that read it are watched. A Job has to end well.
        is_watched = bool(row.workload) or any(one.ref.kind in RUNS_ONCE for one in objects)

        def write(target: RunTarget, actor: Actor) -> None:
            remember(target, done)
            for ref, facts in done.items():
                data = {"target": str(target), "object": ref, **{key: facts[key] for key in ("uid", "sha256")}}
                audit.record(
                    Tag.OBJECT_APPLIED, subject=target, change=target.run.change, actor=actor, at=at, data=data
                )
            if is_all and can(target, "finish_update"):
                _finish(target, count, is_watched=is_watched, actor=actor, at=at, detail=detail)
                return
            target.sentence = f"{target}: {count} of {counted(len(objects), 'object')} applied."
            target.save(update_fields=["applied", "sentence"])
            write_log(target.run, target=target, icon="upload", sentence=target.sentence, detail=detail, at=at)

        if not is_all:
            return settled_target(write, due_in=NOW)
        # Nothing is healthy in the moment it was applied.
        return settled_target(write, due_in=SOON if is_watched else None, tells_run=not is_watched)

    def _watch(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        since = time_of(row, "at", at)
        if row.workload:
            found, ready, desired = health_of(
                row, new_manifests(row), key="generation", since=since, deadline=ready_within(row), at=at
            )
        else:
            found, ready, desired = _health_of_jobs(row, since=since, at=at)
        known = _brief_of(row)
        found = judge_lasting(found, known=known, at=at)
        if found.health is Health.STUCK:
            return fail(f"{row}: {found.sentence}", at, problem=PauseReason.HEALTH)

        def write(target: RunTarget, actor: Actor) -> None:
            target.ready_count, target.desired_count = ready, desired
            if found.health is Health.HEALTHY and can(target, "confirm"):
                noun, verb = ("pod", "run") if target.workload else ("Job", "are")
                what = "the new version" if target.workload else "done"
                verb = verb if desired != 1 else {"run": "runs", "are": "is"}[verb]
                sentence = f"{target}: healthy, {ready} of {counted(desired, noun)} {verb} {what}."
                move_target(
                    target, "confirm", sentence=sentence, actor=actor, at=at, ready_count=ready, desired_count=desired
                )
                return
            target.sentence = found.sentence
            _remember_brief(target, since_when(found, known=known, at=at))
            target.save(update_fields=["sentence", "ready_count", "desired_count", "applied"])

        if found.health is Health.HEALTHY:
            return settled_target(write, due_in=None, tells_run=True)
        # What is quick is seen soon; what takes its time is asked less and less often.
        return settled_target(write, due_in=min(max((at - since) / 2, SOON), POLL))

    def _chase(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        """Ask whether a deferred target can be reached again; then the run takes it up as pending."""
        if row.run.state not in MAY_GO_ON and row.run.state not in WORKING:
            return Settlement(write=None, due_in=None)
        try:
            workloads_of(doors.open_cluster(row.environment.cluster), row.environment, at=at)
        except (Transient, NotAllowed):
            return Settlement(write=None, due_in=RETRY_DEFERRED)
        return settled_target(
            lambda one, actor: retry_target(one, sentence=f"{one}: within reach again.", actor=actor, at=at),
            due_in=None,
            tells_run=True,
        )


def _held(row: RunTarget) -> Settlement[RunTarget]:
    """Paused or ended: nothing more is applied. A run that goes on makes this due again by itself."""
    return Settlement(write=None, due_in=HELD if row.run.state in MAY_GO_ON else None)


def _look(
    row: RunTarget, cluster: Kubernetes, unseen: Sequence[RenderedObject], at: datetime
) -> dict[str, dict[str, Any]]:
    """Return what is there, of as many objects as a step has time for; what follows trouble is left to the next."""
    approved = Approved.of_run(row.run)
    seen: dict[str, dict[str, Any]] = {}
    for one in in_time(unseen, since=at):
        try:
            live = cluster.observe_object(one.ref)
        except (Transient, Permanent):
            if not seen:
                raise
            break
        # The gate looked hours ago: what has become somebody else's since is not adopted, nor what nobody spoke of.
        why = takeover.refusal_of(one.manifest, live) if live is not None else ""
        if live is not None and not why and not approved.takes_over(row.environment, one.ref):
            why = takeover.late_refusal_of(one.manifest, live)
        if why:
            raise Permanent(why)
        seen[str(one.ref)] = {
            "existed": live is not None,
            "uid": str(((live or {}).get("metadata") or {}).get("uid", "")),
            "before": bare(live) if live is not None else None,
        }
    return seen


def _health_of_jobs(row: RunTarget, *, since: datetime, at: datetime) -> tuple[WorkloadHealth, int, int]:
    """Judge the Jobs among what an environment's workloads share; nothing else of it has a health of its own."""
    cluster = doors.open_cluster(row.environment.cluster)
    judged = [
        judge_job(
            one.ref,
            cluster.observe_object(one.ref),
            is_short_lived="ttlSecondsAfterFinished" in (one.manifest.get("spec") or {}),
        )
        for one in new_manifests(row).shared
        if one.ref.kind in RUNS_ONCE
    ]
    found = judge_target(judged, updated_at=since, deadline=ready_within(row), at=at)
    return found, sum(one.health is Health.HEALTHY for one in judged), len(judged)


def _brief_of(row: RunTarget) -> tuple[str, datetime] | None:
    """Return the problem that the last look hoped would pass, and since when it is there."""
    found = next((entry for entry in row.applied if entry.get("brief")), None)
    return (str(found["brief"]), datetime.fromisoformat(str(found["brief_since"]))) if found else None


def _remember_brief(target: RunTarget, brief: tuple[str, datetime] | None) -> None:
    ref = next((str(entry["ref"]) for entry in target.applied if "ref" in entry), None)
    if ref is not None:
        reason, since = (brief[0], brief[1].isoformat()) if brief else ("", "")
        remember(target, {ref: {"brief": reason, "brief_since": since}})


def _finish(target: RunTarget, count: int, *, is_watched: bool, actor: Actor, at: datetime, detail: str) -> None:
    sentence = f"{target}: {counted(count, 'object')} applied."
    move_target(target, "finish_update", sentence=sentence, actor=actor, at=at, detail=detail, applied=target.applied)
    if not is_watched:
        move_target(target, "confirm", sentence=f"{target}: in place.", actor=actor, at=at, log=False)


def _confirm_empty(target: RunTarget, actor: Actor, at: datetime) -> None:
    """An environment without shared objects has nothing to apply for them."""
    move_target(target, "finish_update", sentence=f"{target}: nothing to apply.", actor=actor, at=at, log=False)
    move_target(target, "confirm", sentence=f"{target}: nothing to apply.", actor=actor, at=at, log=False)


def _defer(target: RunTarget, reason: str, actor: Actor, at: datetime) -> None:
    if can(target, "defer"):
        sentence = f"{target}: deferred, tried again every minute. {reason}"
        move_target(target, "defer", sentence=sentence, actor=actor, at=at)
        tell_run(target.run_id)
