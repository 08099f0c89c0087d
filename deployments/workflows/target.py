"""Brings one target to the new version, or back: look, write down what is there, apply, watch.

What was there before is settled before anything is applied, so that a worker that dies in between leaves enough behind
to finish, to show the exact difference, and to go back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from changecontrol import audit, clock, wiring
from changecontrol.access import Actor, system_actor
from changecontrol.actions.runs import POLL, move_target, write_log
from changecontrol.errors import Transient
from changecontrol.events import Tag
from changecontrol.lifecycles.run import PauseReason, RunState, TargetState
from changecontrol.models import Run, RunTarget
from changecontrol.ports import ApplyConflict, Kubernetes, NotAllowed, ObjectRef
from changecontrol.rules.plan import digest_of
from changecontrol.workflow.engine import Settlement, confirm_lease
from deployments import doors
from deployments.actions.rollouts import RETRY_DEFERRED, can
from deployments.approved import Approved
from deployments.gates.dry_run import bare
from deployments.rendering import Manifests, manifests_at, name_of, previous_manifests, redaction_key, safe
from deployments.rules.health import Health, WorkloadHealth, judge_target, judge_workload
from deployments.rules.manifest_diff import diff_rendered
from deployments.rules.manifests import RenderedObject, images_of
from deployments.workflows.looking import workloads_of

NOW = timedelta()
HELD = timedelta(seconds=15)
DETAIL_LIMIT = 20_000
WORKING = frozenset({RunState.RUNNING, RunState.BAKING, RunState.AWAITING_PROMOTION})


class TargetUpdate:
    """The workflow `target`: one row for each workload of each environment, on as many workers as there are."""

    name = "target"
    model = RunTarget

    def due(self) -> Q:
        return Q(is_reverting=True) | Q(state__in=[TargetState.UPDATING, TargetState.UPDATED, TargetState.DEFERRED])

    def find(self, at: datetime) -> None:
        """Nothing to find: the run makes its targets due."""

    def lock(self, pk: int) -> RunTarget:
        return (
            RunTarget.objects.select_for_update(of=("self",))
            .select_related("run__change", "environment", "cohort")
            .get(pk=pk)
        )

    def advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        try:
            return self._advance(row, at)
        except NotAllowed as refusal:
            # A right may come back (a binding restored, a credential renewed): asked again, then deferred (RUN-8).
            raise Transient(refusal.reason) from None

    def _advance(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        if row.is_reverting:
            return self._revert(row, at)
        if row.state == TargetState.DEFERRED:
            return self._chase(row, at)
        if row.state == TargetState.UPDATED:
            return self._watch(row, at)
        if row.state != TargetState.UPDATING:
            return Settlement(write=None, due_in=None)
        if row.run.state not in WORKING:
            # Paused or ended: nothing more is applied. A run that goes on makes this due again by itself.
            return Settlement(write=None, due_in=HELD if row.run.state in _MAY_GO_ON else None)
        return self._apply(row, at) if row.applied else self._look(row, at)

    def refused(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        return self._give_up(row, reason, at) if row.is_reverting else self._fail(row, reason, at)

    def exhausted(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        """Out of reach is deferred, not failed, and chased (RUN-4); on the way back it is an alarm."""
        if row.is_reverting:
            return self._give_up(row, reason, at)
        return self._settled(row, lambda one, actor: _defer(one, reason, actor, at), due_in=RETRY_DEFERRED)

    # Forward.

    def _look(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        """Write down what is there, before anything of ours is."""
        cluster = doors.open_cluster(row.environment.cluster)
        entries = [_seen(cluster, one) for one in self._new(row).of(row.workload)]

        def write(target: RunTarget, actor: Actor) -> None:
            if not target.applied:
                target.applied = entries
                target.save(update_fields=["applied"])

        if not entries:
            return self._settled(row, lambda one, actor: _confirm_empty(one, actor, at), due_in=None)
        return self._settled(row, write, due_in=NOW)

    def _apply(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        """Apply every object of the target; asking again changes nothing, and is found done."""
        cluster = doors.open_cluster(row.environment.cluster)
        confirm_lease(row)
        done: dict[str, dict[str, Any]] = {}
        after = []
        for one in self._new(row).of(row.workload):
            try:
                applied = cluster.ensure_applied(one.manifest)
            except ApplyConflict as conflict:
                return self._fail(row, conflict.reason, at, problem=PauseReason.APPLY_CONFLICT)
            done[str(one.ref)] = {
                "uid": applied.uid,
                "generation": applied.generation,
                "sha256": digest_of(safe(one.manifest)),
                "at": at.isoformat(),
            }
            after.append(bare(applied.live))
        before = [entry["before"] for entry in row.applied if entry.get("before")]
        detail = "".join(one.text for one in diff_rendered(before, after, key=redaction_key()))[:DETAIL_LIMIT]

        def write(target: RunTarget, actor: Actor) -> None:
            target.applied = [{**entry, **done.get(str(entry.get("ref")), {})} for entry in target.applied]
            for ref, facts in done.items():
                data = {"target": str(target), "object": ref, **{key: facts[key] for key in ("uid", "sha256")}}
                audit.record(
                    Tag.OBJECT_APPLIED, subject=target, change=target.run.change, actor=actor, at=at, data=data
                )
            if not can(target, "finish_update"):
                target.save(update_fields=["applied"])
                return
            sentence = f"{target}: {len(done)} objects applied."
            move_target(
                target, "finish_update", sentence=sentence, actor=actor, at=at, detail=detail, applied=target.applied
            )
            if not target.workload:
                # Configuration has no health of its own: the workloads that read it are watched.
                move_target(target, "confirm", sentence=f"{target}: in place.", actor=actor, at=at, log=False)

        return self._settled(row, write, due_in=NOW if row.workload else None, tells_run=not row.workload)

    def _watch(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        found, ready, desired = self._health(row, self._new(row), key="generation", since="at", at=at)
        if found.health is Health.STUCK:
            return self._fail(row, f"{row}: {found.sentence}", at, detected=True)

        def write(target: RunTarget, actor: Actor) -> None:
            target.ready_count, target.desired_count = ready, desired
            if found.health is Health.HEALTHY and can(target, "confirm"):
                sentence = f"{target}: healthy, {ready} of {desired} pods run the new version."
                move_target(
                    target, "confirm", sentence=sentence, actor=actor, at=at, ready_count=ready, desired_count=desired
                )
                return
            target.sentence = found.sentence
            target.save(update_fields=["sentence", "ready_count", "desired_count"])

        is_done = found.health is Health.HEALTHY
        return self._settled(row, write, due_in=None if is_done else POLL, tells_run=is_done)

    def _chase(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        """Ask whether a deferred target can be reached again; then the run takes it up as pending."""
        if row.run.state not in _MAY_GO_ON and row.run.state not in WORKING:
            return Settlement(write=None, due_in=None)
        cluster = doors.open_cluster(row.environment.cluster)
        try:
            cluster.observe_workloads(namespace=row.environment.namespace, inventory=row.environment.inventory)
        except (Transient, NotAllowed):
            return Settlement(write=None, due_in=RETRY_DEFERRED)
        return self._settled(
            row,
            lambda one, actor: move_target(one, "retry", sentence=f"{one}: within reach again.", actor=actor, at=at),
            due_in=None,
            tells_run=True,
        )

    # Back.

    def _revert(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        # Where nothing is shared nothing was applied, and yet what was pruned has to come back.
        may_be_pruned = not row.workload and bool(row.run.data.get("finishing"))
        if not row.applied and not may_be_pruned:
            return self._settled(row, lambda one, actor: _reverted(one, actor, at, "nothing was applied"), due_in=None)
        if not any(entry.get("reverted_at") for entry in row.applied):
            return self._bring_back(row, at)
        previous = self._previous(row)
        if row.workload and not previous.of(row.workload):
            return self._await_gone(row, at)
        if not row.workload:
            return self._settled(row, lambda one, actor: _reverted(one, actor, at, "as before"), due_in=None)
        found, ready, desired = self._health(row, previous, key="revert_generation", since="reverted_at", at=at)
        if found.health is Health.STUCK:
            return self._give_up(row, found.sentence, at)
        if found.health is Health.HEALTHY:
            words = f"{ready} of {desired} pods run the version from before"
            return self._settled(row, lambda one, actor: _reverted(one, actor, at, words), due_in=None, tells_run=True)
        return Settlement(write=None, due_in=POLL)

    def _bring_back(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        """Apply what was there before the run, and delete what the run itself created."""
        cluster = doors.open_cluster(row.environment.cluster)
        new, previous = self._new(row), self._previous(row)
        wanted = list(previous.of(row.workload))
        if not row.workload:
            # Workloads that the new version no longer has were pruned, and no other target brings them back.
            wanted += [one for one in previous.workloads if not new.of(name_of(one.ref))]
        confirm_lease(row)
        generations: dict[str, int] = {}
        for one in wanted:
            try:
                applied = cluster.ensure_applied(one.manifest)
            except ApplyConflict as conflict:
                return self._give_up(row, conflict.reason, at)
            generations[str(one.ref)] = applied.generation
        deleted = [
            entry["ref"]
            for one in new.of(row.workload)
            if not previous.holds(one.ref)
            for entry in row.applied
            if entry.get("ref") == str(one.ref) and not entry["existed"]
            if _is_ours(cluster, one.ref, entry)
            and cluster.ensure_deleted(one.ref, inventory=row.environment.inventory)
        ]

        def write(target: RunTarget, actor: Actor) -> None:
            target.applied = [
                {**entry, "reverted_at": at.isoformat(), "revert_generation": generations.get(str(entry.get("ref")), 0)}
                for entry in target.applied or [{}]
            ]
            target.save(update_fields=["applied"])
            for ref in generations:
                data = {"target": str(target), "object": ref, "reverting": True}
                audit.record(
                    Tag.OBJECT_APPLIED, subject=target, change=target.run.change, actor=actor, at=at, data=data
                )
            for ref in deleted:
                data = {"target": str(target), "object": ref, "reverting": True}
                audit.record(Tag.OBJECT_PRUNED, subject=target, change=target.run.change, actor=actor, at=at, data=data)
            also = f", {len(deleted)} created by this run deleted" if deleted else ""
            write_log(
                target.run,
                target=target,
                icon="arrow-back-up",
                sentence=f"{target}: {len(generations)} objects as before{also}.",
                at=at,
            )

        return self._settled(row, write, due_in=NOW)

    def _await_gone(self, row: RunTarget, at: datetime) -> Settlement[RunTarget]:
        cluster = doors.open_cluster(row.environment.cluster)
        left = [
            one
            for one in self._new(row).of(row.workload)
            for entry in row.applied
            if entry.get("ref") == str(one.ref) and not entry["existed"] and _is_ours(cluster, one.ref, entry)
        ]
        if not left:
            words = "what this run created is gone"
            return self._settled(row, lambda one, actor: _reverted(one, actor, at, words), due_in=None, tells_run=True)
        since = _time_of(row, "reverted_at", at)
        if at >= since + self._deadline(row):
            return self._give_up(row, f"{left[0].ref} is not gone.", at)
        return Settlement(write=None, due_in=POLL)

    # Shared.

    def _new(self, row: RunTarget) -> Manifests:
        return manifests_at(row.environment, Approved.of_run(row.run).commit)

    def _previous(self, row: RunTarget) -> Manifests:
        approved = Approved.of_run(row.run)
        return previous_manifests(row.environment, approved.commit_from(row.environment))

    def _deadline(self, row: RunTarget) -> timedelta:
        return timedelta(seconds=Approved.of_run(row.run).content.ready_within_seconds)

    def _health(
        self, row: RunTarget, manifests: Manifests, *, key: str, since: str, at: datetime
    ) -> tuple[WorkloadHealth, int, int]:
        cluster = doors.open_cluster(row.environment.cluster)
        statuses = workloads_of(cluster, row.environment, at=at)
        judged, ready, desired = [], 0, 0
        for one in manifests.of(row.workload):
            status = statuses.get(one.ref)
            if status is None:
                continue
            generation = next((int(e.get(key) or 0) for e in row.applied if e.get("ref") == str(one.ref)), 0)
            judged.append(judge_workload(status, applied_generation=generation, planned_digests=digests_of(one)))
            ready, desired = ready + min(status.updated_count, status.ready_count), desired + status.desired_count
        found = judge_target(judged, updated_at=_time_of(row, since, at), deadline=self._deadline(row), at=at)
        return found, ready, desired

    def _fail(
        self,
        row: RunTarget,
        reason: str,
        at: datetime,
        *,
        problem: PauseReason | None = None,
        detected: bool = False,
    ) -> Settlement[RunTarget]:
        word = str(problem or (PauseReason.HEALTH if detected else PauseReason.FAILURE_BUDGET))

        def write(target: RunTarget, actor: Actor) -> None:
            if can(target, "fail"):
                target.applied = [*target.applied, {"problem": word, "at": at.isoformat()}]
                move_target(target, "fail", sentence=reason, actor=actor, at=at, applied=target.applied)

        return self._settled(row, write, due_in=None, tells_run=True)

    def _give_up(self, row: RunTarget, reason: str, at: datetime) -> Settlement[RunTarget]:
        """The way back is blocked here: the run sounds the alarm."""

        def write(target: RunTarget, actor: Actor) -> None:
            entries = [*target.applied, {"problem": "revert", "at": at.isoformat()}]
            sentence = f"{target}: could not go back. {reason}"
            if can(target, "fail"):
                move_target(target, "fail", sentence=sentence, actor=actor, at=at, applied=entries)
            else:
                target.applied, target.sentence = entries, sentence
                target.save(update_fields=["applied", "sentence"])
                write_log(target.run, target=target, icon="circle-x", sentence=sentence, at=at)

        return self._settled(row, write, due_in=None, tells_run=True)

    def _settled(
        self,
        row: RunTarget,
        write: Callable[[RunTarget, Actor], None],
        *,
        due_in: timedelta | None,
        tells_run: bool = False,
    ) -> Settlement[RunTarget]:
        def acting(target: RunTarget) -> None:
            write(target, system_actor(f"run:{target.run_id}"))
            if tells_run:
                _tell_run(target.run_id)

        return Settlement(write=acting, due_in=due_in)


_MAY_GO_ON = frozenset({RunState.PAUSED, RunState.PREFLIGHT, RunState.WAITING_FOR_WINDOW})


def digests_of(one: RenderedObject) -> frozenset[str]:
    """Return the digests that the pods of a workload must run."""
    return frozenset(use.digest for use in images_of(one.manifest) if use.digest)


def problem_of(target: RunTarget) -> str:
    """Return the word for why a target failed, or an empty string."""
    return next((str(entry["problem"]) for entry in reversed(target.applied) if "problem" in entry), "")


def _tell_run(run_id: int) -> None:
    """After commit, make the run look at once. Losing this costs one of its own looks."""

    def poke() -> None:
        # Not in the target's transaction: runs are locked before targets, never after. A run that is due already was
        # told by another target of the wave, and one whose tick is under way looks again by itself.
        now = clock.now()
        if Run.objects.filter(pk=run_id, next_due_at__gt=now, lease_token__isnull=True).update(next_due_at=now):
            wiring.send("rollout")

    transaction.on_commit(poke, robust=True)


def _seen(cluster: Kubernetes, one: RenderedObject) -> dict[str, Any]:
    live = cluster.observe_object(one.ref)
    return {
        "ref": str(one.ref),
        "existed": live is not None,
        "uid": str(((live or {}).get("metadata") or {}).get("uid", "")),
        "before": bare(live) if live is not None else None,
    }


def _is_ours(cluster: Kubernetes, ref: ObjectRef, entry: Mapping[str, Any]) -> bool:
    """Tell whether what is there is what this run created, and not what took its place."""
    live = cluster.observe_object(ref)
    if live is None:
        return False
    uid = str((live.get("metadata") or {}).get("uid", ""))
    return not entry.get("uid") or entry["uid"] == uid


def _confirm_empty(target: RunTarget, actor: Actor, at: datetime) -> None:
    """An environment without shared objects has nothing to apply for them."""
    move_target(target, "finish_update", sentence=f"{target}: nothing to apply.", actor=actor, at=at, log=False)
    move_target(target, "confirm", sentence=f"{target}: nothing to apply.", actor=actor, at=at, log=False)


def _defer(target: RunTarget, reason: str, actor: Actor, at: datetime) -> None:
    if can(target, "defer"):
        sentence = f"{target}: deferred, tried again every minute. {reason}"
        move_target(target, "defer", sentence=sentence, actor=actor, at=at)
        _tell_run(target.run_id)


def _reverted(target: RunTarget, actor: Actor, at: datetime, words: str) -> None:
    target.is_reverting = False
    if can(target, "revert"):
        move_target(target, "revert", sentence=f"{target}: {words}.", actor=actor, at=at, is_reverting=False)
    else:
        target.save(update_fields=["is_reverting"])


def _time_of(row: RunTarget, key: str, at: datetime) -> datetime:
    times = [datetime.fromisoformat(str(entry[key])) for entry in row.applied if entry.get(key) and "ref" in entry]
    return max(times, default=at)
