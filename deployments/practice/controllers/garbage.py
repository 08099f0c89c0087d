"""What follows an end: dependents go with their owners, before them, or are let go; so do custom kinds."""

from __future__ import annotations

from deployments.practice.controllers.world import Key, World, condition
from deployments.practice.deletion import FOREGROUND, ORPHAN
from deployments.practice.store import Body, Change, Item, cloned


def hear(world: World, change: Change) -> None:
    """Act on the end of an object, on the wish for one, and on definitions of kinds."""
    item = change.after
    if item.kind.kind == "CustomResourceDefinition":
        world.wake("definitions", ("", item.name), 0)
    if change.verb == "DELETED":
        world.forget(item.metadata["uid"])
        if item.kind.kind == "CustomResourceDefinition":
            _withdraw(world, item)
        if world.store.owned_by(item.metadata["uid"]):
            world.wake("orphans", (item.metadata["uid"], ""), 0)
        for reference in item.metadata.get("ownerReferences") or ():
            world.wake(
                "owners",
                (
                    reference["uid"],
                    f"{reference['apiVersion']} {reference['kind']} {item.namespace}/{reference['name']}",
                ),
                0,
            )
    elif item.metadata.get("deletionTimestamp") and set(item.metadata.get("finalizers") or ()) & {FOREGROUND, ORPHAN}:
        shown = f"{item.kind.api_version} {item.kind.kind} {item.namespace}/{item.name}"
        world.wake("owners", (item.metadata["uid"], shown), 0)


def look_at_orphans(world: World, key: Key) -> None:
    """End what an object left behind, unless another owner is still there."""
    gone = key[0]
    for item in world.store.owned_by(gone):
        others = [
            entry
            for entry in item.metadata["ownerReferences"]
            if entry["uid"] != gone and _is_there(world, item, entry)
        ]
        if others:
            _let_go(world, item, gone)
        elif not item.metadata.get("deletionTimestamp"):
            world.deletions.end(item, {})


def look_at_owner(world: World, key: Key) -> None:
    """Go on with an object that waits for its dependents."""
    uid, shown = key
    api_version, kind_name, where = shown.split(" ", 2)
    namespace, _, name = where.partition("/")
    kind = world.objects.registry.of_manifest({"apiVersion": api_version, "kind": kind_name})
    item = world.store.get(kind, namespace if kind.is_namespaced else "", name) if kind is not None else None
    if item is None or item.metadata["uid"] != uid or not item.metadata.get("deletionTimestamp"):
        return
    finalizers = item.metadata.get("finalizers") or ()
    if ORPHAN in finalizers:
        for dependent in world.store.owned_by(uid):
            _let_go(world, dependent, uid)
        world.deletions.finalize(item, ORPHAN)
    elif FOREGROUND in finalizers:
        dependents = world.store.owned_by(uid)
        for dependent in dependents:
            if not dependent.metadata.get("deletionTimestamp"):
                has_own = bool(world.store.owned_by(dependent.metadata["uid"]))
                world.deletions.end(dependent, {"propagationPolicy": "Foreground"} if has_own else {})
        if not world.store.owned_by(uid):
            world.deletions.finalize(item, FOREGROUND)


def look_at_definition(world: World, key: Key) -> None:
    """Serve what a definition describes, and say so in its status."""
    item = world.get("CustomResourceDefinition", "apiextensions.k8s.io", key)
    if item is None:
        return
    world.objects.registry.define(item.body)
    status: Body = item.body.get("status") or {}
    if condition(status, "Established"):
        return
    now = world.now()
    names = item.body["spec"]["names"]
    accepted = {"type": "NamesAccepted", "status": "True", "lastTransitionTime": now, "reason": "NoConflicts"}
    established = {"type": "Established", "status": "True", "lastTransitionTime": now, "reason": "InitialNamesAccepted"}
    conditions = [
        {**accepted, "message": "no conflicts found"},
        {**established, "message": "the initial names have been accepted"},
    ]
    versions = [version["name"] for version in item.body["spec"]["versions"] if version.get("storage")]
    new = {"conditions": conditions, "acceptedNames": names, "storedVersions": versions}
    world.objects.set_status(item, new, manager="kube-apiserver")


def _withdraw(world: World, item: Item) -> None:
    for kind in world.objects.registry.withdraw(item.body):
        for entry in list(world.store.items(kind)):
            world.store.remove(entry)


def _is_there(world: World, item: Item, reference: Body) -> bool:
    kind = world.objects.registry.of_manifest(reference)
    if kind is None:
        return False
    owner = world.store.get(kind, item.namespace if kind.is_namespaced else "", reference["name"])
    return owner is not None and owner.metadata["uid"] == reference["uid"]


def _let_go(world: World, item: Item, uid: str) -> None:
    body = cloned(item.body)
    left = [entry for entry in body["metadata"]["ownerReferences"] if entry["uid"] != uid]
    body["metadata"]["ownerReferences"] = left
    if not left:
        del body["metadata"]["ownerReferences"]
    world.store.put(item.kind, body)
