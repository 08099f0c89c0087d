"""What the steps of a target share: how much one does, what it reads, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import F

from changecontrol import clock, wiring
from changecontrol.access import Actor, system_actor
from changecontrol.actions.runs import move_target, write_log
from changecontrol.gathering import gather, gathering
from changecontrol.lifecycles.run import PauseReason, TargetState
from changecontrol.models import Run, RunTarget
from changecontrol.ports import ObjectRef
from changecontrol.workflow.engine import Settlement
from deployments.actions.rollouts import can
from deployments.approved import Approved
from deployments.rendering import Manifests, manifests_at, previous_manifests

SOON = timedelta(seconds=1)
STEP_FOR = timedelta(seconds=4)
"""How long a step goes on to new calls. The last one may take 10 s more, and a tick is stopped at 20 s."""

Item = TypeVar("Item")
Write = Callable[[RunTarget, Actor], None]


def in_time(items: Iterable[Item], *, since: datetime) -> Iterator[Item]:
    """Yield at least one of the items, and more while the step that began then may go on."""
    for count, item in enumerate(items):
        if count and clock.now() >= since + STEP_FOR:
            return
        yield item


def entry_of(target: RunTarget, ref: ObjectRef) -> Mapping[str, Any]:
    """Return what the target remembers of one of its objects, or nothing."""
    return next((one for one in target.applied if one.get("ref") == str(ref)), {})


def remember(target: RunTarget, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what is known of objects, by reference, to what a target remembers. Does not save it."""
    known = {entry.get("ref") for entry in target.applied}
    target.applied = [
        *({**entry, **facts.get(str(entry.get("ref")), {})} for entry in target.applied),
        *({"ref": ref, **added} for ref, added in facts.items() if ref not in known),
    ]


def time_of(target: RunTarget, key: str, at: datetime) -> datetime:
    """Return the latest time its objects carry under this key, or `at` where none does."""
    times = [datetime.fromisoformat(str(entry[key])) for entry in target.applied if entry.get(key) and "ref" in entry]
    return max(times, default=at)


def problem_of(target: RunTarget) -> str:
    """Return the word for why a target failed, or an empty string."""
    return next((str(entry["problem"]) for entry in reversed(target.applied) if "problem" in entry), "")


def new_manifests(row: RunTarget) -> Manifests:
    return manifests_at(row.environment, Approved.of_run(row.run).commit)


def manifests_before(row: RunTarget) -> Manifests:
    approved = Approved.of_run(row.run)
    return previous_manifests(row.environment, approved.commit_from(row.environment))


def ready_within(row: RunTarget) -> timedelta:
    return timedelta(seconds=Approved.of_run(row.run).content.ready_within_seconds)


def settled_target(write: Write, *, due_in: timedelta | None, tells_run: bool = False) -> Settlement[RunTarget]:
    def acting(target: RunTarget) -> None:
        with gathering():
            write(target, system_actor(f"run:{target.run_id}"))
            if tells_run and not gather(_tell_runs, target.run_id):
                _tell_runs([target.run_id])

    return Settlement(write=acting, due_in=due_in)


def fail(reason: str, at: datetime, *, problem: PauseReason) -> Settlement[RunTarget]:
    def write(target: RunTarget, actor: Actor) -> None:
        if can(target, "fail"):
            target.applied = [*target.applied, {"problem": str(problem), "at": at.isoformat()}]
            move_target(target, "fail", sentence=reason, actor=actor, at=at, applied=target.applied)

    return settled_target(write, due_in=None, tells_run=True)


def give_up(reason: str, at: datetime) -> Settlement[RunTarget]:
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

    return settled_target(write, due_in=None, tells_run=True)


def _tell_runs(run_ids: Iterable[int]) -> None:
    for run_id in set(run_ids):
        tell_run(run_id)


def tell_run(run_id: int) -> None:
    """After commit, make the run look at once, or soon where it could only wait. Losing this costs one look of its own.

    In a wave of hundreds the run would otherwise look after each of them, at all of them.
    """

    def poke() -> None:
        # Not in the target's transaction: runs are locked before targets, never after. A run that is due already was
        # told by another target of the wave, and one whose tick is under way looks again by itself.
        now = clock.now()
        due_at = now + SOON if _could_only_wait(run_id) else now
        is_told = Run.objects.filter(pk=run_id, next_due_at__gt=due_at, lease_token__isnull=True).update(
            next_due_at=due_at
        )
        if is_told and due_at == now:
            wiring.send("rollout")

    transaction.on_commit(poke, robust=True)


def _could_only_wait(run_id: int) -> bool:
    """Tell whether others of the open wave are on their way, and none failed or waits for its turn."""
    rows = RunTarget.objects.filter(run=run_id, wave__lte=F("run__wave")).order_by()
    found = set(rows.values_list("state", "is_reverting").distinct())
    states = {state for state, _ in found}
    if states & {TargetState.PENDING, TargetState.FAILED}:
        return False
    return any(is_reverting for _, is_reverting in found) or bool(states & {TargetState.UPDATING, TargetState.UPDATED})
