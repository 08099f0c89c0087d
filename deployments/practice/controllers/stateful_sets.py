"""StatefulSets: pods by ordinal, in order, replaced from the highest down, each with its claims."""

from __future__ import annotations

from deployments.practice.controllers.deployments import template_hash
from deployments.practice.controllers.world import MANAGER, Key, World, template_of, without_zeros
from deployments.practice.eviction import is_ready
from deployments.practice.store import Body, Item, cloned

_COMPONENT = "statefulset-controller"
_REVISION_LABEL = "controller-revision-hash"


def look(world: World, key: Key) -> None:
    item = world.get("StatefulSet", "apps", key)
    if item is None or item.metadata.get("deletionTimestamp"):
        return
    spec = item.body["spec"]
    revision = f"{item.name}-{template_hash(spec['template'])}"
    pods = {_ordinal(pod): pod for pod in world.store.owned_by(item.metadata["uid"], world.kind("Pod"))}
    _step(world, item, pods, revision)
    _count(world, item, revision)


def _ordinal(pod: Item) -> int:
    return int(pod.name.rpartition("-")[2])


def _is_current(pod: Item, revision: str) -> bool:
    return pod.labels.get(_REVISION_LABEL) == revision


def _step(world: World, item: Item, pods: dict[int, Item], revision: str) -> None:
    spec = item.body["spec"]
    wanted, is_parallel = int(spec["replicas"]), spec.get("podManagementPolicy") == "Parallel"
    for ordinal in range(wanted):
        pod = pods.get(ordinal)
        if pod is None:
            _create(world, item, ordinal, revision)
            if not is_parallel:
                return
        elif (pod.metadata.get("deletionTimestamp") or not is_ready(pod)) and not is_parallel:
            # A pod of an old revision that cannot become ready is replaced; any other is waited for.
            if not _is_current(pod, revision) and not pod.metadata.get("deletionTimestamp"):
                world.deletions.end(pod, {})
            return
    extra = [ordinal for ordinal in pods if ordinal >= wanted]
    if extra:
        pod = pods[max(extra)]
        if not pod.metadata.get("deletionTimestamp"):
            world.deletions.end(pod, {})
            world.event(
                item,
                "SuccessfulDelete",
                f"delete Pod {pod.name} in StatefulSet {item.name} successful",
                component=_COMPONENT,
            )
        return
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    for ordinal in range(wanted - 1, partition - 1, -1):
        pod = pods.get(ordinal)
        if pod is None or pod.metadata.get("deletionTimestamp"):
            return
        if not _is_current(pod, revision):
            world.deletions.end(pod, {})
            return
        if not is_ready(pod):
            return


def _create(world: World, item: Item, ordinal: int, revision: str) -> None:
    name = f"{item.name}-{ordinal}"
    labels = {
        _REVISION_LABEL: revision,
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": str(ordinal),
    }
    body = template_of(item, extra_labels=labels)
    body["metadata"]["name"] = name
    for template in item.body["spec"].get("volumeClaimTemplates") or ():
        claim = cloned({"metadata": dict(template["metadata"]), "spec": template.get("spec") or {}})
        volume = claim["metadata"]["name"]
        claim["metadata"] |= {"name": f"{volume}-{name}", "namespace": item.namespace}
        if world.get("PersistentVolumeClaim", "", (item.namespace, claim["metadata"]["name"])) is None:
            world.create("PersistentVolumeClaim", "", claim)
        source = {"name": volume, "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        body["spec"].setdefault("volumes", []).append(source)
    world.create("Pod", "", body)
    world.event(
        item, "SuccessfulCreate", f"create Pod {name} in StatefulSet {item.name} successful", component=_COMPONENT
    )


def _count(world: World, item: Item, revision: str) -> None:
    pods = world.store.owned_by(item.metadata["uid"], world.kind("Pod"))
    live = [pod for pod in pods if not pod.metadata.get("deletionTimestamp")]
    updated = [pod for pod in live if _is_current(pod, revision)]
    before: Body = item.body.get("status") or {}
    wanted = int(item.body["spec"]["replicas"])
    is_done = len(updated) == len(live) == wanted and all(map(is_ready, live))
    current = revision if is_done else before.get("currentRevision", revision)
    ready = sum(map(is_ready, live))
    counts = {
        "observedGeneration": item.metadata["generation"],
        "readyReplicas": ready,
        "currentReplicas": sum(_is_current(pod, current) for pod in live),
        "updatedReplicas": len(updated),
    }
    status: Body = {
        "replicas": len(live),
        **without_zeros(counts),
        "currentRevision": current,
        "updateRevision": revision,
    }
    status |= {"collisionCount": 0, "availableReplicas": ready}
    world.objects.set_status(item, status, manager=MANAGER)
