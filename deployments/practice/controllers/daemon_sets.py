"""DaemonSets: one pod on every node, replaced one after the other."""

from __future__ import annotations

from deployments.practice.controllers.deployments import template_hash
from deployments.practice.controllers.world import MANAGER, Key, World, template_of, without_zeros
from deployments.practice.eviction import is_ready
from deployments.practice.store import Body, Item

_COMPONENT = "daemonset-controller"
_HOST = "kubernetes.io/hostname"
_REVISION_LABEL = "controller-revision-hash"


def look(world: World, key: Key) -> None:
    item = world.get("DaemonSet", "apps", key)
    if item is None or item.metadata.get("deletionTimestamp"):
        return
    revision = template_hash(item.body["spec"]["template"])
    selector = ((item.body["spec"]["template"].get("spec") or {}).get("nodeSelector")) or {}
    nodes = [node for node in world.store.items(world.kind("Node")) if selector.items() <= node.labels.items()]
    pods = {_node_of(pod): pod for pod in world.store.owned_by(item.metadata["uid"], world.kind("Pod"))}
    for node in nodes:
        if node.name not in pods:
            _create(world, item, node, revision)
    is_rolling = item.body["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    if (
        is_rolling
        and len(pods) == len(nodes)
        and not any(pod.metadata.get("deletionTimestamp") for pod in pods.values())
    ):
        stale = [pod for pod in pods.values() if pod.labels.get(_REVISION_LABEL) != revision]
        fresh = [pod for pod in pods.values() if pod.labels.get(_REVISION_LABEL) == revision]
        if stale and all(map(is_ready, fresh)):
            world.deletions.end(sorted(stale, key=is_ready)[0], {})
    _count(world, item, revision, len(nodes))


def _node_of(pod: Item) -> str:
    return str((pod.body["spec"].get("nodeSelector") or {}).get(_HOST, ""))


def _create(world: World, item: Item, node: Item, revision: str) -> None:
    body = template_of(item, extra_labels={_REVISION_LABEL: revision})
    body["metadata"]["generateName"] = f"{item.name}-"
    body["spec"]["nodeSelector"] = {**(body["spec"].get("nodeSelector") or {}), _HOST: node.labels[_HOST]}
    pod = world.create("Pod", "", body)
    world.event(item, "SuccessfulCreate", f"Created pod: {pod.name}", component=_COMPONENT)


def _count(world: World, item: Item, revision: str, wanted: int) -> None:
    pods = world.store.owned_by(item.metadata["uid"], world.kind("Pod"))
    live = [pod for pod in pods if not pod.metadata.get("deletionTimestamp")]
    ready = sum(map(is_ready, live))
    status: Body = {
        "currentNumberScheduled": len(live),
        "numberMisscheduled": 0,
        "desiredNumberScheduled": wanted,
        "numberReady": ready,
    }
    more = {
        "observedGeneration": item.metadata["generation"],
        "updatedNumberScheduled": sum(pod.labels.get(_REVISION_LABEL) == revision for pod in live),
        "numberAvailable": ready,
        "numberUnavailable": wanted - ready,
    }
    world.objects.set_status(item, {**status, **without_zeros(more)}, manager=MANAGER)
