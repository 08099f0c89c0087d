"""ReplicaSets keep as many pods as they are told to, and count them."""

from __future__ import annotations

from deployments.practice.clock import stamp
from deployments.practice.controllers.world import MANAGER, Key, World, condition, refused, template_of, without_zeros
from deployments.practice.eviction import is_ready
from deployments.practice.status import ApiError
from deployments.practice.store import Body, Item

_COMPONENT = "replicaset-controller"


def is_active(pod: Item) -> bool:
    is_over = (pod.body.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not is_over and not pod.metadata.get("deletionTimestamp")


def is_available(world: World, pod: Item, *, seconds: int, controller: str, key: Key) -> bool:
    """Say whether a pod has been ready for long enough; else ask for another look when it will have been."""
    if not is_ready(pod):
        return False
    if not seconds:
        return True
    since = world.ready_since(pod)
    left = since + world.clock.real(seconds) - world.clock.now()
    if left <= 0:
        return True
    world.wake(controller, key, left * world.clock.speed + 0.01)
    return False


def by_deletion(pods: list[Item]) -> list[Item]:
    """Order pods by who goes first: those not ready, then the youngest."""
    youngest = sorted(pods, key=lambda pod: str(pod.metadata["creationTimestamp"]), reverse=True)
    return sorted(youngest, key=is_ready)


def look(world: World, key: Key) -> None:
    item = world.get("ReplicaSet", "apps", key)
    if item is None:
        return
    pods = world.store.owned_by(item.metadata["uid"], world.kind("Pod"))
    active = [pod for pod in pods if is_active(pod)]
    wanted = int(item.body["spec"].get("replicas", 0))
    failure = ""
    if not item.metadata.get("deletionTimestamp"):
        if len(active) < wanted:
            failure = _add(world, item, wanted - len(active))
        elif len(active) > wanted:
            for pod in by_deletion(active)[: len(active) - wanted]:
                world.deletions.end(pod, {})
                world.event(item, "SuccessfulDelete", f"Deleted pod: {pod.name}", component=_COMPONENT)
    _count(world, item, key, failure)


def _add(world: World, item: Item, count: int) -> str:
    for _ in range(count):
        body = template_of(item, extra_labels={})
        body["metadata"]["generateName"] = f"{item.name}-"
        try:
            pod = world.create("Pod", "", body)
        except ApiError as error:
            if error.code != 403:
                raise
            world.event(item, "FailedCreate", refused(error), component=_COMPONENT, is_warning=True)
            world.wake("replicasets", (item.namespace, item.name), 5)
            return error.message
        world.event(item, "SuccessfulCreate", f"Created pod: {pod.name}", component=_COMPONENT)
    return ""


def _count(world: World, item: Item, key: Key, failure: str) -> None:
    pods = world.store.owned_by(item.metadata["uid"], world.kind("Pod"))
    active = [pod for pod in pods if is_active(pod)]
    least = int(item.body["spec"].get("minReadySeconds") or 0)
    available = [pod for pod in active if is_available(world, pod, seconds=least, controller="replicasets", key=key)]
    counts = {
        "fullyLabeledReplicas": len(active),
        "readyReplicas": sum(map(is_ready, active)),
        "availableReplicas": len(available),
        "observedGeneration": item.metadata.get("generation", 0),
    }
    status: Body = {"replicas": len(active), **without_zeros(counts)}
    status["terminatingReplicas"] = sum(bool(pod.metadata.get("deletionTimestamp")) for pod in pods)
    if failure:
        known = condition(item.body.get("status") or {}, "ReplicaFailure")
        at = known["lastTransitionTime"] if known else stamp(world.clock.now())
        entry = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": at, "reason": "FailedCreate"}
        status["conditions"] = [{**entry, "message": failure}]
    world.objects.set_status(item, status, manager=MANAGER)
