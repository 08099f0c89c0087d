"""Reads how far a workload is from the raw objects a cluster lists. Pure.

Only *current* pods count: those of the newest ReplicaSet or revision. A pod of the release before, still terminating,
says nothing about the release that was asked for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from changecontrol.adapters.kubernetes.redaction import redact_text
from changecontrol.ports import RESTARTS_TOO_OFTEN, ObjectRef, PodProblem, WorkloadStatus

WORKLOAD_KINDS = ("Deployment", "StatefulSet", "DaemonSet")
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"
REVISION_HASH_LABEL = "controller-revision-hash"
MAX_PROBLEMS = 20
MANY_RESTARTS = 3
MAX_MESSAGE_CHARACTERS = 300

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_STARTING = {"ContainerCreating", "PodInitializing"}

Json = Mapping[str, Any]


def read_workloads(
    *,
    workloads: Iterable[Json],
    pods: Iterable[Json],
    replica_sets: Iterable[Json] = (),
    controller_revisions: Iterable[Json] = (),
) -> dict[ObjectRef, WorkloadStatus]:
    """Return the status of each workload. Each object must carry apiVersion and kind, which lists leave out."""
    pods_by_owner = _by_owner(pods)
    sets_by_owner = _by_owner(replica_sets)
    revisions_by_owner = _by_owner(controller_revisions)
    statuses: dict[ObjectRef, WorkloadStatus] = {}
    for workload in workloads:
        uid = _uid(workload)
        if workload["kind"] == "Deployment":
            newest = max(sets_by_owner[uid], key=_revision, default=None)
            current = pods_by_owner[_uid(newest)] if newest else []
        else:
            wanted = _wanted_hash(workload, revisions_by_owner[uid])
            current = [pod for pod in pods_by_owner[uid] if wanted and _label(pod, REVISION_HASH_LABEL) == wanted]
        statuses[ObjectRef.of(workload)] = _status(workload, [pod for pod in current if _is_living(pod)])
    return statuses


def selector_of(workload: Json) -> str:
    """Return the label selector of the workload's pods, as a list request takes it."""
    selector = (workload.get("spec") or {}).get("selector") or {}
    words = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or ():
        key, values = rule["key"], ",".join(rule.get("values") or ())
        words.append(
            {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}.get(
                rule["operator"], f"!{key}"
            )
        )
    return ",".join(words)


def digest_of(image_id: str) -> str:
    """Return the `sha256:…` of an image id, whatever the container runtime puts before it, or an empty string."""
    found = _DIGEST.findall(image_id)
    return str(found[-1]) if found else ""


def _status(workload: Json, pods: list[Json]) -> WorkloadStatus:
    spec, status = workload.get("spec") or {}, workload.get("status") or {}
    generation = int((workload.get("metadata") or {}).get("generation") or 0)
    observed = int(status.get("observedGeneration") or 0)
    counts = _daemon_set_counts(status) if workload["kind"] == "DaemonSet" else _replica_counts(spec, status)
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or ()}
    progressing = conditions.get("Progressing") or {}
    # Conditions describe the generation that was last observed; those of the release before are not ours.
    is_current = observed >= generation
    containers = [container for pod in pods for container in _container_statuses(pod)]
    return WorkloadStatus(
        ref=ObjectRef.of(workload),
        uid=_uid(workload),
        generation=generation,
        observed_generation=observed,
        **counts,
        is_deadline_exceeded=is_current
        and progressing.get("status") == "False"
        and progressing.get("reason") == "ProgressDeadlineExceeded",
        message=_short(str(progressing.get("message") or "")) if is_current else "",
        image_ids=tuple(sorted({digest for pod in pods for digest in _running_digests(pod)})),
        pod_images=tuple(sorted({image for pod in pods for image in _images(pod)})),
        problems=_problems(pods, conditions if is_current else {}),
        restart_count=sum(int(item.get("restartCount") or 0) for item in containers),
        held_count=min(_partition(spec), counts["desired_count"]) if workload["kind"] == "StatefulSet" else 0,
        is_paused=spec.get("paused") is True,
        is_on_delete=(spec.get("updateStrategy") or {}).get("type") == "OnDelete",
    )


def _running_digests(pod: Json) -> set[str]:
    """Return the digests of the images a pod has pulled: what its spec pins, else what the runtime says.

    The runtime's word cannot be compared with a pin. The API reference says of `imageID` that it "may not match the
    image ID of the image used in the PodSpec, as it may have been resolved by the runtime": it is the digest of an
    index or of one platform's manifest, of another repository's name for the same image, or, for an image without a
    repository, of its configuration. A pin is content-addressed and checked by the runtime as it pulls, through the
    index to the platform's manifest; so a pod of the new revision that pins a digest and has an image runs that digest.
    """
    pins = {item.get("name"): digest_of(str(item.get("image") or "")) for item in _containers(pod)}
    pulled = [item for item in _container_statuses(pod) if item.get("imageID")]
    return {pins.get(item.get("name")) or digest_of(str(item["imageID"])) for item in pulled} - {""}


def _partition(spec: Json) -> int:
    """Return how many pods of a StatefulSet a rolling update leaves alone; without a rolling update it has no say."""
    strategy = spec.get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    return int(rolling.get("partition") or 0) if strategy.get("type", "RollingUpdate") == "RollingUpdate" else 0


def _replica_counts(spec: Json, status: Json) -> dict[str, int]:
    replicas = spec.get("replicas")
    return {
        "desired_count": 1 if replicas is None else int(replicas),
        "updated_count": int(status.get("updatedReplicas") or 0),
        "ready_count": int(status.get("readyReplicas") or 0),
        "available_count": int(status.get("availableReplicas") or 0),
        "total_count": int(status.get("replicas") or 0),
    }


def _daemon_set_counts(status: Json) -> dict[str, int]:
    return {
        "desired_count": int(status.get("desiredNumberScheduled") or 0),
        "updated_count": int(status.get("updatedNumberScheduled") or 0),
        "ready_count": int(status.get("numberReady") or 0),
        "available_count": int(status.get("numberAvailable") or 0),
        "total_count": int(status.get("currentNumberScheduled") or 0),
    }


def _wanted_hash(workload: Json, revisions: list[Json]) -> str:
    if workload["kind"] == "StatefulSet":
        return str((workload.get("status") or {}).get("updateRevision") or "")
    # A DaemonSet's status names no revision: the newest of its ControllerRevisions carries the hash of its pods.
    newest = max(revisions, key=lambda revision: int(revision.get("revision") or 0), default=None)
    return _label(newest, REVISION_HASH_LABEL) if newest else ""


def _problems(pods: list[Json], conditions: Mapping[Any, Json]) -> tuple[PodProblem, ...]:
    problems: set[tuple[str, str, str]] = set()
    failure = conditions.get("ReplicaFailure") or {}
    if failure.get("status") == "True":
        problems.add(("", str(failure.get("reason") or "FailedCreate"), _short(str(failure.get("message") or ""))))
    for pod in pods:
        name = str((pod.get("metadata") or {}).get("name", ""))
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                reason, message = condition.get("reason") or "Unschedulable", condition.get("message") or ""
                problems.add((name, str(reason), _short(str(message))))
        for container in _container_statuses(pod):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") and waiting["reason"] not in _STARTING:
                problems.add((name, str(waiting["reason"]), _short(str(waiting.get("message") or ""))))
            elif int(container.get("restartCount") or 0) >= MANY_RESTARTS and not container.get("ready"):
                # Between two crashes it runs, or starts: only the count tells.
                problems.add((name, RESTARTS_TOO_OFTEN, _short(_last_end(container))))
    return tuple(
        PodProblem(pod=pod, reason=reason, message=message) for pod, reason, message in sorted(problems)[:MAX_PROBLEMS]
    )


def _last_end(container: Json) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    words = f"{container.get('name', 'A container')} was started again {container['restartCount']} times"
    if not ended:
        return f"{words}."
    return f"{words}; last it ended with code {ended.get('exitCode')} ({ended.get('reason') or 'no reason given'})."


def _container_statuses(pod: Json) -> list[Json]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _images(pod: Json) -> list[str]:
    return [str(container.get("image")) for container in _containers(pod) if container.get("image")]


def _containers(pod: Json) -> list[Json]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def _by_owner(objects: Iterable[Json]) -> defaultdict[str, list[Json]]:
    owned: defaultdict[str, list[Json]] = defaultdict(list)
    for item in objects:
        for owner in (item.get("metadata") or {}).get("ownerReferences") or ():
            if owner.get("controller"):
                owned[str(owner.get("uid", ""))].append(item)
    return owned


def _is_living(pod: Json) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return not (pod.get("metadata") or {}).get("deletionTimestamp") and phase not in ("Failed", "Succeeded")


def _revision(replica_set: Json) -> int:
    annotations = (replica_set.get("metadata") or {}).get("annotations") or {}
    text = str(annotations.get(REVISION_ANNOTATION, ""))
    return int(text) if text.isdigit() else -1


def _uid(item: Json) -> str:
    return str((item.get("metadata") or {}).get("uid", ""))


def _label(item: Json, label: str) -> str:
    return str(((item.get("metadata") or {}).get("labels") or {}).get(label, ""))


def _short(text: str) -> str:
    text = redact_text(" ".join(text.split()))
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
