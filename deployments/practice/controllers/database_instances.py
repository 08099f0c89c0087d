"""The volumes of a database cluster's primary, its job and its pod: which may begin, and which goes after which.

Replicas are not played. The operator is one before 1.30: it takes a volume that is there, also one that is about to go.
"""

from __future__ import annotations

from typing import Any

from deployments.practice.controllers.database_facts import MANAGER
from deployments.practice.controllers.world import Key, World, reference_to
from deployments.practice.store import Body, Change, Item

PROTECTION = "kubernetes.io/pvc-protection"
"""The finalizer that keeps a claim for as long as a pod uses it."""


def instance_name(cluster: Item) -> str:
    return f"{cluster.name}-1"


def metadata_of(cluster: Item, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return what the operator writes on everything of a cluster; labels that it inherits are on all of it."""
    inherited = (cluster.body["spec"].get("inheritedMetadata") or {}).get("labels") or {}
    own = {"cnpg.io/cluster": cluster.name, "cnpg.io/instanceName": instance_name(cluster)}
    return {
        "name": name,
        "namespace": cluster.namespace,
        "labels": {**inherited, **own, **labels},
        "ownerReferences": [reference_to(cluster)],
    }


def pod_spec_of(cluster: Item, container: Body) -> Body:
    """Return a pod of a cluster that uses its volume, where and as the cluster's definition wants its pods."""
    wanted = cluster.body["spec"]
    affinity = wanted.get("affinity") or {}
    image = str(cluster.body["status"]["image"])
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        for claim, (name, _, _) in volumes_of(cluster).items()
    ]
    spec: Body = {
        "containers": [{"image": image, "resources": wanted.get("resources") or {}, **container}],
        "volumes": volumes,
    }
    said = {
        "nodeSelector": affinity.get("nodeSelector"),
        "tolerations": affinity.get("tolerations"),
        "imagePullSecrets": wanted.get("imagePullSecrets"),
    }
    return spec | {name: value for name, value in said.items() if value}


def volumes_of(cluster: Item) -> dict[str, tuple[str, str, Body]]:
    """Return the claims of a primary by name: what its pod calls it, its role, and what is asked of it."""
    wanted, name = cluster.body["spec"], instance_name(cluster)
    found = {name: ("pgdata", "PG_DATA", wanted.get("storage") or {})}
    if wanted.get("walStorage"):
        found[f"{name}-wal"] = ("pg-wal", "PG_WAL", wanted["walStorage"])
    for one in wanted.get("tablespaces") or ():
        volume = f"tbs-{one['name'].replace('_', '-').lower()}"
        found[f"{name}-{volume}"] = (volume, "PG_TABLESPACE", one["storage"])
    return found


def ensure_volumes(world: World, cluster: Item) -> None:
    for name, (_, role, storage) in volumes_of(cluster).items():
        if world.get("PersistentVolumeClaim", "", (cluster.namespace, name)) is None:
            template = storage.get("pvcTemplate") or {}
            spec: Body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **template}
            if storage.get("size"):
                spec["resources"] = {"requests": {"storage": storage["size"]}}
            if storage.get("storageClass"):
                spec["storageClassName"] = storage["storageClass"]
            metadata = metadata_of(cluster, name, {"cnpg.io/pvcRole": role}) | {"finalizers": [PROTECTION]}
            world.create("PersistentVolumeClaim", "", {"metadata": metadata, "spec": spec}, manager=MANAGER)


def ensure_pod(world: World, cluster: Item) -> Item:
    """Make the primary's pod where there is none; return it."""
    name = instance_name(cluster)
    known = world.get("Pod", "", (cluster.namespace, name))
    if known is not None:
        return known
    metadata = metadata_of(cluster, name, {"cnpg.io/instanceRole": "primary", "cnpg.io/podRole": "instance"})
    spec = pod_spec_of(cluster, {"name": "postgres", "command": ["/controller/manager", "instance", "run"]})
    return world.create("Pod", "", {"metadata": metadata, "spec": spec}, manager=MANAGER)


def hear(world: World, change: Change) -> None:
    """Look at the claims of a pod that ended or went, and at the pods that wait for a claim."""
    item = change.after
    if item.kind.key == ("", "pods") and (change.verb == "DELETED" or _has_ended(item)):
        for name in claims_of(item):
            world.wake("persistentvolumeclaims", (item.namespace, name), 0)
    if item.kind.key == ("", "persistentvolumeclaims"):
        for pod in _users(world, (item.namespace, item.name)):
            if not pod.body["spec"].get("nodeName"):
                world.wake("pods", (pod.namespace, pod.name), 0)


def look_at_claim(world: World, key: Key) -> None:
    """Let a claim go that is deleted and that no pod uses any more."""
    item = world.get("PersistentVolumeClaim", "", key)
    if item is None or not item.metadata.get("deletionTimestamp"):
        return
    # A pod without a node does not count: none will start it with a claim that is about to go.
    if all(_has_ended(pod) or not pod.body["spec"].get("nodeName") for pod in _users(world, key)):
        world.deletions.finalize(item, PROTECTION)


def claims_of(pod: Item) -> list[str]:
    volumes = pod.body["spec"].get("volumes") or ()
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if one.get("persistentVolumeClaim")]


def _users(world: World, key: Key) -> list[Item]:
    namespace, name = key
    return [pod for pod in world.store.items(world.kind("Pod"), namespace) if name in claims_of(pod)]


def _has_ended(pod: Item) -> bool:
    return (pod.body.get("status") or {}).get("phase") in ("Succeeded", "Failed")
