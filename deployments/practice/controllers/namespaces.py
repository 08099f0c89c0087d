"""Namespaces come with an account and the authority's certificate, and go when empty; quotas are counted."""

from __future__ import annotations

from deployments.practice.admission import total
from deployments.practice.controllers.world import MANAGER, Key, World
from deployments.practice.defaults import quantity_shown
from deployments.practice.store import Body, Change, Item

_BUNDLE_SAYS = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as "
    "the internal "
    "service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
)


def look(world: World, key: Key) -> None:
    item = world.get("Namespace", "", key)
    if item is None:
        return
    if item.metadata.get("deletionTimestamp"):
        _empty(world, item)
        return
    bundle = "kube-root-ca.crt"
    if world.get("ConfigMap", "", (item.name, bundle)) is None:
        notes = {"kubernetes.io/description": _BUNDLE_SAYS}
        metadata = {"name": bundle, "namespace": item.name, "annotations": notes}
        world.create("ConfigMap", "", {"metadata": metadata, "data": {"ca.crt": world.authority}})
    if world.get("ServiceAccount", "", (item.name, "default")) is None:
        world.create("ServiceAccount", "", {"metadata": {"name": "default", "namespace": item.name}})


def hear_end(world: World, namespace: str) -> None:
    """Look at a terminating namespace again when something in it has gone."""
    item = world.get("Namespace", "", ("", namespace))
    if item is not None and item.metadata.get("deletionTimestamp"):
        world.wake("namespaces", ("", namespace), 0.01)


def _empty(world: World, item: Item) -> None:
    # A namespace lingers for a moment even when it is empty, as a real one does.
    if not world.waited(item.metadata["uid"], "end", world.delays.end_namespace, "namespaces", ("", item.name)):
        return
    left = 0
    for kind in world.objects.registry.all():
        if not kind.is_namespaced:
            continue
        for entry in list(world.store.items(kind, item.name)):
            left += 1
            if not entry.metadata.get("deletionTimestamp"):
                left -= world.deletions.end(entry, {}) is None
    if not left and not item.metadata.get("finalizers"):
        world.store.remove(item)


def hear_quota(world: World, change: Change) -> None:
    """Count again what a quota limits when pods, or the quota itself, changed."""
    item = change.after
    if item.kind.kind == "ResourceQuota":
        if change.verb != "DELETED":
            world.wake("quotas", (item.namespace, item.name), 0)
        return
    for quota in world.store.items(world.kind("ResourceQuota"), item.namespace):
        world.wake("quotas", (quota.namespace, quota.name), 0)


def look_at_quotas(world: World, key: Key) -> None:
    quota = world.get("ResourceQuota", "", key)
    if quota is None:
        return
    hard = (quota.body.get("spec") or {}).get("hard") or {}
    kinds = [kind for kind in world.objects.registry.all() if kind.is_namespaced and kind.kind != "Event"]
    items = [item for kind in kinds for item in world.store.items(kind, key[0])]
    used = {name: quantity_shown(amount) for name, amount in total(hard, items).items()}
    status: Body = {"hard": hard, "used": used}
    world.objects.set_status(quota, status, manager=MANAGER)
