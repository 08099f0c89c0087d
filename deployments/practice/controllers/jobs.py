"""Jobs run pods to completion, or fail when their backoff limit is reached."""

from __future__ import annotations

from datetime import datetime

from deployments.practice.controllers.replica_sets import is_active
from deployments.practice.controllers.world import MANAGER, Key, World, condition, template_of, without_zeros
from deployments.practice.eviction import is_ready
from deployments.practice.status import ApiError
from deployments.practice.store import Body, Item

_COMPONENT = "job-controller"


def look(world: World, key: Key) -> None:
    item = world.get("Job", "batch", key)
    if item is None or item.metadata.get("deletionTimestamp"):
        return
    spec, status = item.body["spec"], item.body.get("status") or {}
    if condition(status, "Complete") or condition(status, "Failed"):
        _expire(world, item, key)
        return
    pods = world.store.owned_by(item.metadata["uid"], world.kind("Pod"))
    done = {
        phase: [pod for pod in pods if (pod.body.get("status") or {}).get("phase") == phase]
        for phase in ("Succeeded", "Failed")
    }
    active = [pod for pod in pods if is_active(pod)]
    if spec.get("suspend"):
        for pod in active:
            world.deletions.end(pod, {})
        _count(world, item, [], done, [])
        return
    if condition(status, "FailureTarget"):
        message = "Job has reached the specified backoff limit"
        _count(
            world,
            item,
            [],
            done,
            [("FailureTarget", "BackoffLimitExceeded", message), ("Failed", "BackoffLimitExceeded", message)],
        )
        world.wake("jobs", key, 0)
        return
    if len(done["Failed"]) > int(spec["backoffLimit"]):
        for pod in active:
            world.deletions.end(pod, {})
        message = "Job has reached the specified backoff limit"
        _count(world, item, [], done, [("FailureTarget", "BackoffLimitExceeded", message)], uncounted=done["Failed"])
        world.event(item, "BackoffLimitExceeded", message, component=_COMPONENT, is_warning=True)
        # The pods are counted on the next look, so that a watcher sees both steps.
        world.wake("jobs", key, 0.05)
        return
    if len(done["Succeeded"]) >= int(spec["completions"]):
        message = "Reached expected number of succeeded pods"
        reached = [(name, "CompletionsReached", message) for name in ("SuccessCriteriaMet", "Complete")]
        _count(world, item, [], done, reached)
        world.event(item, "Completed", "Job completed", component=_COMPONENT)
        return
    missing = min(int(spec["parallelism"]), int(spec["completions"]) - len(done["Succeeded"])) - len(active)
    for _ in range(missing):
        _start(world, item)
    pods = world.store.owned_by(item.metadata["uid"], world.kind("Pod"))
    _count(world, item, [pod for pod in pods if is_active(pod)], done, [])


def _start(world: World, item: Item) -> None:
    body = template_of(item, extra_labels={})
    body["metadata"]["generateName"] = f"{item.name}-"
    try:
        pod = world.create("Pod", "", body)
    except ApiError as error:
        world.event(item, "FailedCreate", f"Error creating: {error.message}", component=_COMPONENT, is_warning=True)
        world.wake("jobs", (item.namespace, item.name), 5)
        return
    world.event(item, "SuccessfulCreate", f"Created pod: {pod.name}", component=_COMPONENT)


def _count(
    world: World, item: Item, active: list[Item], done: dict[str, list[Item]], reached: list[tuple[str, str, str]],
    *, uncounted: list[Item] | None = None,
) -> None:  # fmt: skip
    before: Body = item.body.get("status") or {}
    now = world.now()
    failed = 0 if uncounted else len(done["Failed"])
    status: Body = without_zeros({"active": len(active), "succeeded": len(done["Succeeded"]), "failed": failed})
    status |= {"ready": sum(map(is_ready, active)), "terminating": 0}
    if not item.body["spec"].get("suspend"):
        status["startTime"] = before.get("startTime") or now
    status["uncountedTerminatedPods"] = {"failed": [pod.metadata["uid"] for pod in uncounted]} if uncounted else {}
    conditions = []
    for name, reason, message in reached:
        at = (condition(before, name) or {}).get("lastTransitionTime", now)
        entry = {"type": name, "status": "True", "lastProbeTime": at, "lastTransitionTime": at}
        conditions.append({**entry, "reason": reason, "message": message})
    if conditions:
        status["conditions"] = conditions
        if conditions[-1]["type"] == "Complete":
            status["completionTime"] = now
    world.objects.set_status(item, status, manager=MANAGER)


def _expire(world: World, item: Item, key: Key) -> None:
    seconds = item.body["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return
    status = item.body["status"]
    last = (status.get("conditions") or [{}])[-1].get("lastTransitionTime") or status.get("completionTime")
    at = datetime.fromisoformat(last).timestamp()
    left = at + world.clock.real(seconds) - world.clock.now()
    if left > 0:
        world.wake("jobs", key, left * world.clock.speed + 0.01)
    else:
        world.deletions.end(item, {})
