"""The ends of a run: done, aborted, or taken back. Each is a few short steps that may be asked again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from changecontrol import audit
from changecontrol.access import Actor
from changecontrol.actions.runs import POLL, write_log
from changecontrol.errors import Permanent, Transient
from changecontrol.events import Tag
from changecontrol.lifecycles.run import RUN, PauseReason, TargetState
from changecontrol.models import Environment, Run, RunTarget
from changecontrol.ports import SUPPORTED_KINDS, ObjectRef
from changecontrol.workflow.engine import Settlement, confirm_lease
from deployments import doors
from deployments.actions import rollouts
from deployments.approved import Approved
from deployments.ports import GitRepository, RefMoved
from deployments.rendering import manifests_at, name_of, previous_manifests
from deployments.rules.health import Health, judge_workload
from deployments.rules.manifests import RenderedObject, identity_of
from deployments.workflows.looking import digests_of, workloads_of_all
from deployments.workflows.reverting import is_deleted
from deployments.workflows.settling import NOW, Write, settled_run
from deployments.workflows.steps import in_time, problem_of

A_MOMENT = timedelta(seconds=1)


def finish(row: Run, approved: Approved, at: datetime) -> Settlement[Run]:
    """Prune what the new version no longer has, then let Git name what runs, one environment a tick (GIT-2)."""
    for environment in _environments(row):
        if environment.slug not in row.data.get("pruned", []):
            return _prune(row, approved, environment, at)
    for environment in _environments(row):
        if environment.slug not in row.data.get("moved", []):
            return _move_forward(row, approved, environment, at)
    return settled_run(lambda run, actor: rollouts.succeed(run, actor=actor, at=at), due_in=None)


def abort(row: Run, at: datetime) -> Settlement[Run]:
    """End where things stand, once no worker is in the middle of a target."""
    if row.targets.filter(lease_until__gt=at).exists():
        return Settlement(write=None, due_in=A_MOMENT)

    def write(run: Run, actor: Actor) -> None:
        _own_up(run, actor=actor, at=at)
        rollouts.finish_abort(run, actor=actor, at=at)

    return settled_run(write, due_in=None)


def roll_back(row: Run, approved: Approved, at: datetime) -> Settlement[Run]:
    """Wait until everything touched is back, look once more, write it to Git. Five times are kept apart (RBK-5)."""
    if row.rollback_started_at is None:
        return settled_run(_begin(at), due_in=POLL)
    targets = list(row.targets.select_related("environment__cluster", "environment__source"))
    blocked = [one for one in targets if one.is_reverting and problem_of(one) == "revert"]
    moving = [one for one in targets if one.is_reverting and problem_of(one) != "revert"]
    if moving:
        return Settlement(write=None, due_in=POLL)
    if blocked:
        return give_up(" ".join(one.sentence for one in blocked[:3]), at)
    if row.rollback_serving_at is None:
        words = "Everything that was touched serves the version from before."
        return settled_run(_noted("rollback_serving_at", words, at), due_in=NOW)
    if row.rollback_verified_at is None:
        return _verify(row, approved, targets, at)
    touched = {one.environment_id for one in targets if one.state == TargetState.REVERTED and one.applied}
    for environment in _environments(row):
        if environment.pk in touched and environment.slug not in row.data.get("taken_back", []):
            return _move_back(row, approved, environment, at)
    return settled_run(lambda run, actor: rollouts.finish_rollback(run, actor=actor, at=at), due_in=None)


def _begin(at: datetime) -> Write:
    def write(run: Run, actor: Actor) -> None:
        _own_up(run, actor=actor, at=at)
        _noted("rollback_started_at", "The way back has begun.", at)(run, actor)

    return write


def _own_up(run: Run, *, actor: Actor, at: datetime) -> None:
    """Record the deletions that were decided and not settled: a worker that died may have made them."""
    pruning = run.data.get("pruning", {})
    for slug, refs in pruning.items():
        for one in refs:
            data = {"environment": slug, "object": str(ObjectRef(*one)), "is_certain": False}
            audit.record(Tag.OBJECT_PRUNED, subject=run, change=run.change, actor=actor, at=at, data=data)
            sentence = f"{slug}: {ObjectRef(*one)} was to be deleted, and may have been."
            write_log(run, icon="trash", sentence=sentence, at=at)
    if pruning:
        run.data = {**run.data, "pruning": {}}
        run.save(update_fields=["data"])


def give_up(reason: str, at: datetime) -> Settlement[Run]:
    def write(run: Run, actor: Actor) -> None:
        if RUN.allows("fail_rollback", run.state):
            rollouts.fail_rollback(run, why=reason, actor=actor, at=at)

    return settled_run(write, due_in=None)


def _prune(row: Run, approved: Approved, environment: Environment, at: datetime) -> Settlement[Run]:
    """Delete what carries this environment's inventory label and is in the new version no more.

    What is to be deleted is settled first: a deletion leaves nothing by which a later worker could tell that it was
    ours.
    """
    decided = row.data.get("pruning", {}).get(environment.slug)
    if decided is None:
        return _decide_pruning(approved, environment)
    cluster = doors.open_cluster(environment.cluster)
    refs = [ObjectRef(*one) for one in decided]
    confirm_lease(row)
    done: dict[ObjectRef, bool] = {}
    for ref in in_time(refs, since=at):
        try:
            done[ref] = is_deleted(cluster, ref, inventory=environment.inventory)
        except (Transient, Permanent):
            if not done:
                raise
            break  # what was done is settled first; the next tick meets this again

    def write(run: Run, actor: Actor) -> None:
        for ref, is_gone in done.items():
            if is_gone:
                _record_pruned(run, environment.slug, ref, actor=actor, at=at)
        _write_pruning(run, environment, [ref for ref in refs if ref not in done])

    return settled_run(write, due_in=NOW)


def _decide_pruning(approved: Approved, environment: Environment) -> Settlement[Run]:
    kept = {identity_of(one.ref) for one in manifests_at(environment, approved.commit).objects}
    present = doors.open_cluster(environment.cluster).observe_inventory(
        namespace=environment.namespace, inventory=environment.inventory, kinds=SUPPORTED_KINDS
    )
    gone = [ref for ref in present if identity_of(ref) not in kept]
    return settled_run(lambda run, actor: _write_pruning(run, environment, gone), due_in=NOW)


def _write_pruning(run: Run, environment: Environment, left: Sequence[ObjectRef]) -> None:
    """Remember what is still to be deleted, or that this environment is done."""
    pruning = {key: value for key, value in run.data.get("pruning", {}).items() if key != environment.slug}
    if left:
        pruning[environment.slug] = [[one.api_version, one.kind, one.namespace, one.name] for one in left]
    run.data = {**run.data, "pruning": pruning}
    if left:
        run.save(update_fields=["data"])
    else:
        _remember(run, "pruned", environment.slug)


def _move_forward(row: Run, approved: Approved, environment: Environment, at: datetime) -> Settlement[Run]:
    """Let the environment's ref name the commit that runs there now."""
    before = approved.commit_from(environment)
    confirm_lease(row)
    try:
        moved = doors.open_source(environment.source).ensure_ref(
            ref=environment.ref, sha=approved.commit, expected=before
        )
    except Permanent as refusal:
        return _diverged(environment, refusal.reason, at)

    def write(run: Run, actor: Actor) -> None:
        sentence = f"{environment.slug}: Git names {moved.sha[:8]} now."
        _record_moved(run, environment, before, moved.sha, sentence, actor=actor, at=at)
        _remember(run, "moved", environment.slug)

    return settled_run(write, due_in=NOW)


def _move_back(row: Run, approved: Approved, environment: Environment, at: datetime) -> Settlement[Run]:
    """Write the rollback to Git: a commit with the content from before, that names the change (RBK-4, GIT-2)."""
    before = approved.commit_from(environment)
    if before is None:

        def skip(run: Run, actor: Actor) -> None:
            sentence = f"{environment.slug}: nothing ran here before, so no ref is moved."
            write_log(run, icon="git-branch", sentence=sentence, at=at)
            _remember(run, "taken_back", environment.slug)

        return settled_run(skip, due_in=NOW)
    repository = doors.open_source(environment.source)
    decided_at = row.rollback_decided_at or at
    cause = row.data.get("cause") or row.intent_reason or "Asked for."
    confirm_lease(row)
    try:
        moved, base = _taken_back(
            repository,
            bases=_bases(row, approved, environment, before),
            ref=environment.ref,
            tree_of=before,
            path=environment.path,
            message=f"Roll back {row.change.number}: {row.change.title}\n\n{cause}\n",
            at=decided_at,
        )
    except Permanent as refusal:
        return give_up(f"The clusters are back, and Git is not: {refusal.reason}", at)

    def write(run: Run, actor: Actor) -> None:
        if base != before and environment.slug not in run.data.get("moved", []):
            found = f"{environment.slug}: Git named {base[:8]} already: a worker that ended early had moved it."
            _record_moved(run, environment, before, base, found, actor=actor, at=at)
            _remember(run, "moved", environment.slug)
        sentence = f"{environment.slug}: Git has the content from before again, in commit {moved.sha[:8]}."
        _record_moved(run, environment, base, moved.sha, sentence, actor=actor, at=at)
        _remember(run, "taken_back", environment.slug)

    return settled_run(write, due_in=NOW)


def _bases(row: Run, approved: Approved, environment: Environment, before: str) -> list[str]:
    """Return what the ref may name: a worker that died at the end may have moved it, and never said so."""
    if environment.slug in row.data.get("moved", []):
        return [approved.commit]
    return [before, approved.commit] if row.data.get("finishing") else [before]


def _taken_back(repository: GitRepository, *, bases: Sequence[str], **words: Any) -> tuple[RefMoved, str]:
    """Put the commit on top of the first base that the ref names; return the move, and that base."""
    *others, last = bases
    for base in others:
        with suppress(Permanent):
            return repository.ensure_commit_of(expected=base, **words), base
    return repository.ensure_commit_of(expected=last, **words), last


def _verify(row: Run, approved: Approved, targets: list[RunTarget], at: datetime) -> Settlement[Run]:
    """Look once more at what is back, all of it at the same time."""
    wanted = _expected(row, approved, targets)
    looks = workloads_of_all(list(wanted))
    for environment, workloads in wanted.items():
        for workload in workloads:
            status = looks[environment.pk].get(workload.ref)
            if status is None:
                return give_up(f"{workload.ref} is gone.", at)
            found = judge_workload(status, applied_generation=0, planned_digests=digests_of(workload))
            if found.health is Health.STUCK:
                return give_up(found.sentence, at)
            if found.health is Health.PROGRESSING:
                since = row.rollback_serving_at or at
                if at >= since + timedelta(seconds=approved.content.ready_within_seconds):
                    return give_up(f"It served the version from before, and no longer does. {found.sentence}", at)
                return Settlement(write=None, due_in=POLL)
    words = "The rollback is verified: its workloads are healthy on the version from before."
    return settled_run(_noted("rollback_verified_at", words, at), due_in=NOW)


def _expected(
    row: Run, approved: Approved, targets: Sequence[RunTarget]
) -> dict[Environment, tuple[RenderedObject, ...]]:
    """Return the workloads that have to serve again, by environment; environments without any are left out."""
    found = {}
    for environment in _environments(row):
        previous = previous_manifests(environment, approved.commit_from(environment))
        touched = {one.workload for one in targets if one.environment_id == environment.pk and one.applied} - {""}
        # What was pruned came back without a target of its own to watch it.
        is_all = bool(row.data.get("finishing"))
        workloads = tuple(one for one in previous.workloads if is_all or name_of(one.ref) in touched)
        if workloads:
            found[environment] = workloads
    return found


def _diverged(environment: Environment, reason: str, at: datetime) -> Settlement[Run]:
    sentence = f"Git divergence: {environment.slug} runs the new version and its ref could not be moved. {reason}"

    def write(run: Run, actor: Actor) -> None:
        rollouts.pause(run, PauseReason.NEEDS_ATTENTION, sentence, actor=actor, at=at)

    return settled_run(write, due_in=timedelta(seconds=30))


def _environments(row: Run) -> list[Environment]:
    ids = row.targets.values("environment_id")
    return list(Environment.objects.filter(pk__in=ids).select_related("cluster", "source").order_by("slug"))


def _noted(field: str, sentence: str, at: datetime) -> Write:
    return lambda run, actor: rollouts.note_time(run, field, at=at, sentence=sentence, icon="arrow-back-up")


def _remember(run: Run, key: str, slug: str) -> None:
    run.data = {**run.data, key: [*run.data.get(key, []), slug]}
    run.save(update_fields=["data"])


def _record_pruned(run: Run, slug: str, ref: ObjectRef, *, actor: Actor, at: datetime) -> None:
    data = {"environment": slug, "object": str(ref)}
    audit.record(Tag.OBJECT_PRUNED, subject=run, change=run.change, actor=actor, at=at, data=data)
    write_log(run, icon="trash", sentence=f"{slug}: {ref} is in the plan no more, and was deleted.", at=at)


def _record_moved(
    run: Run, environment: Environment, old: str | None, new: str, sentence: str, *, actor: Actor, at: datetime
) -> None:
    data: dict[str, Any] = {"environment": environment.slug, "ref": environment.ref, "from": old or "", "to": new}
    audit.record(Tag.GIT_REF_MOVED, subject=run, change=run.change, actor=actor, at=at, data=data)
    write_log(run, icon="git-branch", sentence=sentence, at=at)
