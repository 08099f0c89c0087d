"""Services lead to the ready pods they select, through one EndpointSlice each."""

from __future__ import annotations

from deployments.practice.controllers.nodes import address_of
from deployments.practice.controllers.world import MANAGER, Key, World, reference_to
from deployments.practice.eviction import is_ready
from deployments.practice.store import Body, Change, Item, cloned

_NAME_LABEL = "kubernetes.io/service-name"
_MANAGED_LABEL = "endpointslice.kubernetes.io/managed-by"
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


def hear_pod(world: World, change: Change) -> None:
    """Wake the services that select a pod whose place among the endpoints may have changed."""
    before, after = change.before, change.after
    if change.verb == "MODIFIED" and before is not None and _place(before) == _place(after):
        return
    for service in world.store.items(world.kind("Service"), after.namespace):
        selector = service.body["spec"].get("selector")
        if selector and (_selects(selector, after) or (before is not None and _selects(selector, before))):
            world.wake("services", (service.namespace, service.name), 0)


def _place(pod: Item) -> tuple[bool, bool, str, dict[str, str]]:
    is_placed = bool((pod.body.get("status") or {}).get("podIP"))
    return is_ready(pod), is_placed, str(pod.metadata.get("deletionTimestamp", "")), pod.labels


def _selects(selector: dict[str, str], pod: Item) -> bool:
    return selector.items() <= pod.labels.items()


def look(world: World, key: Key) -> None:
    service = world.get("Service", "", key)
    if service is None or service.metadata.get("deletionTimestamp") or not service.body["spec"].get("selector"):
        return
    pods = [
        pod for pod in world.store.items(world.kind("Pod"), key[0]) if _selects(service.body["spec"]["selector"], pod)
    ]
    endpoints = [_endpoint(pod) for pod in pods if (pod.body.get("status") or {}).get("podIP")]
    ports = [_port(port, pods) for port in service.body["spec"].get("ports") or ()]
    slices = world.store.owned_by(service.metadata["uid"], world.kind("EndpointSlice", "discovery.k8s.io"))
    labels = {**service.labels, _MANAGED_LABEL: "endpointslice-controller.k8s.io", _NAME_LABEL: service.name}
    if not slices:
        metadata = {
            "generateName": f"{service.name}-",
            "namespace": service.namespace,
            "labels": labels,
            "annotations": {_TRIGGER: world.now()},
            "ownerReferences": [reference_to(service)],
        }
        body = {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        world.create("EndpointSlice", "discovery.k8s.io", body)
        return
    known = slices[0]
    if (known.body.get("endpoints"), known.body.get("ports"), known.labels) != (endpoints, ports, labels):
        body = cloned(known.body)
        body |= {"endpoints": endpoints, "ports": ports}
        body["metadata"]["labels"] = labels
        body["metadata"]["annotations"] = {_TRIGGER: world.now()}
        world.objects.adjust(known, body, manager=MANAGER)


def _endpoint(pod: Item) -> Body:
    is_going = bool(pod.metadata.get("deletionTimestamp"))
    ready = is_ready(pod)
    return {
        "addresses": [address_of(pod)],
        "conditions": {"ready": ready and not is_going, "serving": ready, "terminating": is_going},
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.metadata["uid"]},
        "nodeName": pod.body["spec"]["nodeName"],
    }


def _port(port: Body, pods: list[Item]) -> Body:
    target = port.get("targetPort", port["port"])
    if isinstance(target, str):
        target = _named_port(target, pods) or port["port"]
    return {"name": port.get("name", ""), "protocol": port.get("protocol", "TCP"), "port": target}


def _named_port(name: str, pods: list[Item]) -> int:
    for pod in pods:
        for container in pod.body["spec"]["containers"]:
            for entry in container.get("ports") or ():
                if entry.get("name") == name:
                    return int(entry["containerPort"])
    return 0
