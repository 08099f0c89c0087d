"""Scheduler and nodes in one: pods are placed, pull their image, start, become ready, crash, end."""

from __future__ import annotations

import hashlib

from deployments.practice.behaviour import Behaviour, behaviour_of, image_id
from deployments.practice.controllers.world import Key, World
from deployments.practice.defaults import quantity
from deployments.practice.store import Body, Item, cloned

KUBELET = "practice-kubelet"
SCHEDULER = "kube-scheduler"
NODE_CPU, NODE_MEMORY = 64, 256 * 1024**3
_NEVER_HELPFUL = (
    "no new claims to deallocate, preemption: 0/{n} nodes are available: {n} Preemption is not helpful for scheduling."
)


def node_bodies() -> list[Body]:
    """Return the estate's nodes: three, one in each zone."""
    out = []
    for number in (1, 2, 3):
        labels = {
            "kubernetes.io/hostname": f"node-{number}",
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": f"zone-{'abc'[number - 1]}",
        }
        resources = {"cpu": str(NODE_CPU), "memory": f"{NODE_MEMORY // 1024}Ki", "pods": "5000"}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
        }
        out.append(
            {
                "metadata": {"name": f"node-{number}", "labels": labels},
                "spec": {},
                "status": {"capacity": resources, "allocatable": resources, "conditions": [ready]},
            }
        )
    return out


def look(world: World, key: Key) -> None:
    pod = world.get("Pod", "", key)
    if pod is None:
        return
    uid = pod.metadata["uid"]
    if pod.metadata.get("deletionTimestamp"):
        _end(world, pod, key)
        return
    status: Body = pod.body.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return
    if not pod.body["spec"].get("nodeName"):
        if world.waited(uid, "schedule", world.delays.schedule, "pods", key):
            _schedule(world, pod)
        return
    behaviour = behaviour_of(pod.body)
    started = status.get("containerStatuses")
    if not started or (behaviour is Behaviour.BAD_IMAGE):
        if world.waited(uid, "pull", world.delays.pull, "pods", key):
            _pull(world, pod, key, behaviour)
        return
    if pod.body["spec"].get("restartPolicy") != "Always":
        if world.waited(uid, "run", world.delays.run_job, "pods", key):
            _finish(world, pod, has_failed=behaviour in (Behaviour.FAIL, Behaviour.CRASH_LOOP))
        return
    if behaviour in (Behaviour.CRASH_LOOP, Behaviour.FAIL):
        _crash(world, pod, key)
    elif behaviour is not Behaviour.NEVER_READY and not started[0].get("ready"):
        delay = world.delays.slow_start if behaviour is Behaviour.SLOW_START else world.delays.ready
        if world.waited(uid, "ready", delay, "pods", key):
            world.ready_times[uid] = world.clock.now()
            _report(world, pod, phase="Running", is_ready=True, state={"running": {"startedAt": world.now()}})


def _end(world: World, pod: Item, key: Key) -> None:
    grace = pod.metadata.get("deletionGracePeriodSeconds", 30)
    if world.waited(pod.metadata["uid"], "terminate", min(grace, world.delays.terminate), "pods", key):
        finalizers = pod.metadata.get("finalizers")
        if finalizers:
            return
        world.forget(pod.metadata["uid"])
        world.store.remove(pod)


def _schedule(world: World, pod: Item) -> None:
    nodes = list(world.store.items(world.kind("Node")))
    wanted = pod.body["spec"].get("nodeSelector") or {}
    matching = [node for node in nodes if wanted.items() <= node.labels.items()]
    asked = _requests(pod.body["spec"])
    short = []
    if asked["cpu"] > NODE_CPU:
        short.append("Insufficient cpu")
    if asked["memory"] > NODE_MEMORY:
        short.append("Insufficient memory")
    if trouble := _claim_trouble(world, pod):
        message = f"0/{len(nodes)} nodes are available: {trouble}. " + _NEVER_HELPFUL.format(n=len(nodes))
        _unschedulable(world, pod, message)
        return
    if not matching or short:
        count = len(nodes)
        why = [f"{count} {reason}" for reason in short] or [
            f"{count} node(s) didn't match Pod's node affinity/selector"
        ]
        message = f"0/{count} nodes are available: {', '.join(why)}. " + _NEVER_HELPFUL.format(n=count)
        _unschedulable(world, pod, message)
        return
    place = int(hashlib.sha256(pod.metadata["uid"].encode()).hexdigest()[:8], 16) % len(matching)
    node = matching[place]
    world.event(
        pod,
        "Scheduled",
        f"Successfully assigned {pod.namespace}/{pod.name} to {node.name}",
        component="default-scheduler",
    )
    body = cloned(pod.body)
    body["spec"]["nodeName"] = node.name
    body["status"]["conditions"] = [_condition(world, "PodScheduled", is_true=True, generation=_generation(pod))]
    stored = world.store.put(pod.kind, body)
    world.waited(stored.metadata["uid"], "pull", world.delays.pull, "pods", (pod.namespace, pod.name))


def _claim_trouble(world: World, pod: Item) -> str:
    """Say which claim of a pod is not there, or is about to go; empty where none is."""
    for volume in pod.body["spec"].get("volumes") or ():
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        claim = world.get("PersistentVolumeClaim", "", (pod.namespace, name)) if name else None
        if name and claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if claim is not None and claim.metadata.get("deletionTimestamp"):
            return f'persistentvolumeclaim "{name}" is being deleted'
    return ""


def _unschedulable(world: World, pod: Item, message: str) -> None:
    if any(one.get("message") == message for one in (pod.body.get("status") or {}).get("conditions") or ()):
        return
    entry = _condition(world, "PodScheduled", is_true=False, generation=_generation(pod))
    entry |= {"reason": "Unschedulable", "message": message}
    status = {**pod.body["status"], "conditions": [entry]}
    world.objects.set_status(pod, status, manager=SCHEDULER)
    world.event(pod, "FailedScheduling", message, component="default-scheduler", is_warning=True)


def _requests(spec: Body) -> dict[str, float]:
    total = {"cpu": 0.0, "memory": 0.0}
    for container in spec.get("containers") or ():
        for key in total:
            value = ((container.get("resources") or {}).get("requests") or {}).get(key)
            total[key] += float(quantity(value)) if value else 0.0
    return total


def _pull(world: World, pod: Item, key: Key, behaviour: Behaviour) -> None:
    if behaviour is not Behaviour.BAD_IMAGE:
        is_job = pod.body["spec"].get("restartPolicy") != "Always"
        state = {"running": {"startedAt": world.now()}}
        if is_job:
            world.ready_times[pod.metadata["uid"]] = world.clock.now()
        _report(world, pod, phase="Running", is_ready=is_job, state=state)
        return
    image = pod.body["spec"]["containers"][0]["image"]
    statuses = (pod.body.get("status") or {}).get("containerStatuses")
    if not statuses:
        why = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
        world.event(pod, "Failed", f'Failed to pull image "{image}": {why}', component="kubelet", is_warning=True)
        waiting = {"waiting": {"reason": "ErrImagePull", "message": why}}
        _report(world, pod, phase="Pending", is_ready=False, state=waiting)
        world.waited(pod.metadata["uid"], "back-off", world.delays.back_off, "pods", key)
        return
    if not world.waited(pod.metadata["uid"], "back-off", world.delays.back_off, "pods", key):
        return
    if statuses[0]["state"]["waiting"]["reason"] == "ErrImagePull":
        message = f'Back-off pulling image "{image}"'
        world.event(pod, "BackOff", message, component="kubelet")
        reason = {"reason": "ImagePullBackOff", "message": f"{message}: ErrImagePull: {image}: not found"}
        _report(world, pod, phase="Pending", is_ready=False, state={"waiting": reason})


def _crash(world: World, pod: Item, key: Key) -> None:
    current = pod.body["status"]["containerStatuses"][0]
    restarts = int(current["restartCount"])
    uid = pod.metadata["uid"]
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": world.now(), "finishedAt": world.now()}}
    if "running" in current["state"]:
        if world.waited(uid, f"crash-{restarts}", world.delays.crash, "pods", key):
            pause = f"{min(300, 10 * 2**restarts)}s"
            name = current["name"]
            message = f"back-off {pause} restarting failed container={name} pod={pod.name}_{pod.namespace}({uid})"
            waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
            world.event(
                pod, "BackOff", f"Back-off restarting failed container {name}", component="kubelet", is_warning=True
            )
            _report(world, pod, phase="Running", is_ready=False, state=waiting, last=ended, restarts=restarts)
    elif world.waited(uid, f"back-off-{restarts}", world.delays.back_off * 2 ** min(restarts, 5), "pods", key):
        running = {"running": {"startedAt": world.now()}}
        _report(
            world, pod, phase="Running", is_ready=False, state=running, last=current["lastState"], restarts=restarts + 1
        )


def _finish(world: World, pod: Item, *, has_failed: bool) -> None:
    code = 1 if has_failed else 0
    end = {"exitCode": code, "reason": "Error" if has_failed else "Completed", "finishedAt": world.now()}
    phase = "Failed" if has_failed else "Succeeded"
    _report(world, pod, phase=phase, is_ready=False, state={"terminated": end})
    world.forget(pod.metadata["uid"])


def _generation(pod: Item) -> int:
    return int(pod.metadata.get("generation", 1))


def _condition(world: World, name: str, *, is_true: bool, generation: int) -> Body:
    return {
        "type": name,
        "observedGeneration": generation,
        "status": "True" if is_true else "False",
        "lastProbeTime": None,
        "lastTransitionTime": world.now(),
    }


def _conditions(world: World, pod: Item, *, phase: str, is_ready: bool) -> list[Body]:
    known = {entry["type"]: entry for entry in (pod.body.get("status") or {}).get("conditions") or ()}
    is_over = phase in ("Succeeded", "Failed")
    wanted = {
        "PodReadyToStartContainers": not is_over,
        "Initialized": True,
        "Ready": is_ready,
        "ContainersReady": is_ready,
        "PodScheduled": True,
    }
    out = []
    names = [container["name"] for container in pod.body["spec"]["containers"]]
    for name, is_true in wanted.items():
        entry = _condition(world, name, is_true=is_true, generation=_generation(pod))
        if not is_true and name in ("Ready", "ContainersReady"):
            message = f"containers with unready status: [{' '.join(names)}]"
            entry |= {"reason": "PodCompleted"} if is_over else {"reason": "ContainersNotReady", "message": message}
        before = known.get(name)
        if before and before["status"] == entry["status"]:
            entry["lastTransitionTime"] = before["lastTransitionTime"]
        out.append(entry)
    return out


def address_of(pod: Item) -> str:
    digest = hashlib.sha256(pod.metadata["uid"].encode()).digest()
    return f"10.244.{digest[0]}.{1 + digest[1] % 254}"


def _report(
    world: World,
    pod: Item,
    *,
    phase: str,
    is_ready: bool,
    state: Body,
    last: Body | None = None,
    restarts: int | None = None,
) -> None:
    before: Body = pod.body.get("status") or {}
    known = {entry["name"]: entry for entry in before.get("containerStatuses") or ()}
    is_running = "running" in state
    statuses = []
    for container in pod.body["spec"]["containers"]:
        name, earlier = container["name"], known.get(container["name"]) or {}
        is_pulled = "waiting" not in state or state["waiting"]["reason"] == "CrashLoopBackOff"
        own_state = (
            earlier["state"] if is_running and "running" in (earlier.get("state") or {}) and restarts is None else state
        )
        entry: Body = {
            "name": name,
            "state": own_state,
            "lastState": last if last is not None else earlier.get("lastState") or {},
            "ready": is_ready,
            "restartCount": restarts if restarts is not None else earlier.get("restartCount", 0),
            "image": container["image"],
            "imageID": image_id(container["image"]) if is_pulled else "",
            "started": is_running,
        }
        requests = (container.get("resources") or {}).get("requests")
        if requests:
            entry |= {"allocatedResources": requests, "resources": container["resources"]}
        if is_pulled:
            entry["containerID"] = f"practice://{pod.metadata['uid']}_{name}"
        if container.get("volumeMounts"):
            entry["volumeMounts"] = [{**mount, "recursiveReadOnly": "Disabled"} for mount in container["volumeMounts"]]
        statuses.append(entry)
    host = "192.0.2." + str(1 + int(pod.body["spec"]["nodeName"][-1], 36) % 250)
    status: Body = {
        "phase": phase,
        "observedGeneration": _generation(pod),
        "conditions": _conditions(world, pod, phase=phase, is_ready=is_ready),
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": address_of(pod),
        "podIPs": [{"ip": address_of(pod)}],
        "startTime": before.get("startTime") or world.now(),
        "containerStatuses": statuses,
        "qosClass": before.get("qosClass", "BestEffort"),
    }
    world.objects.set_status(pod, status, manager=KUBELET)
