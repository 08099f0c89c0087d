"""The Kubernetes Job that does one job: the least rights, limits on everything, cleared away by itself in the end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from changecontrol.ports import JobCluster, PlacedJob

JOB, POD = ("batch/v1", "Job"), ("v1", "Pod")
ROLE_LABEL, ROLE = "changecontrol.io/role", "job"
RUN_LABEL = "changecontrol.io/run"
ATTEMPT_LABEL = "changecontrol.io/attempt"
KEY_ANNOTATION = "changecontrol.io/job"
USER = 10001
"""The user of the project's image."""
SPARE = timedelta(minutes=5)
"""How long after its deadline a pod is ended from outside: the work has ended itself by then."""
ENDS_WITHIN_SECONDS = 90
"""How long a pod may take to end: its work is told, gives its job back and stops PostgreSQL."""
KEPT_FOR_SECONDS = 3600
NAME_CHARACTERS = 63
"""What a Job's name may have: its pods carry it as a label."""
FOLDER, REFERENCES = "/var/lib/changecontrol", "/run/references"


def job_manifest(job: PlacedJob, place: JobCluster) -> dict[str, Any]:
    """Return the Job as it is applied. It is never tried again by the cluster: attempts are counted in the row."""
    labels = {
        ROLE_LABEL: ROLE,
        RUN_LABEL: job.run,
        ATTEMPT_LABEL: job.attempt,
        "app.kubernetes.io/managed-by": "changecontrol",
    }
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": KEPT_FOR_SECONDS,
        "template": {
            "metadata": {
                "labels": labels,
                # Hours of work are not thrown away to save a node.
                "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
            },
            "spec": _pod(job, place),
        },
    }
    if job.within is not None:
        spec["activeDeadlineSeconds"] = max(1, int((job.within + SPARE).total_seconds()))
    return {
        "apiVersion": JOB[0],
        "kind": JOB[1],
        "metadata": {
            "name": _name(job),
            "namespace": place.namespace,
            "labels": labels,
            "annotations": {KEY_ANNOTATION: job.key},
        },
        "spec": spec,
    }


def _name(job: PlacedJob) -> str:
    """Name the attempt, so that it begins beside one whose node is gone. The kind, for readers, is cut to fit."""
    end = f"-{job.run}-{job.attempt}"
    return f"changecontrol-{job.kind.replace('_', '-')}"[: NAME_CHARACTERS - len(end)] + end


def _pod(job: PlacedJob, place: JobCluster) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [
        {"name": "work", "emptyDir": {"sizeLimit": f"{place.disk_gib}Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        # PostgreSQL's parallel workers share memory there; a container's own has 64 MiB. It counts as memory.
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "512Mi"}},
    ]
    if place.references:
        volumes.append({"name": "references", "secret": {"secretName": place.references, "defaultMode": 0o440}})
    return {
        "restartPolicy": "Never",
        "serviceAccountName": place.service_account,
        "automountServiceAccountToken": place.needs_token,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": ENDS_WITHIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, place)],
        "volumes": volumes,
    }


def _container(job: PlacedJob, place: JobCluster) -> dict[str, Any]:
    # The work's own limits are as large as the pod's, so that it ends with a sentence before the cluster ends it.
    limits = {
        "cpu": place.cpu,
        "memory": f"{place.memory_mib + place.memory_mib // 8}Mi",
        # Logs and /tmp count besides the folder of the work.
        "ephemeral-storage": f"{place.disk_gib + 2}Gi",
    }
    mounts: list[dict[str, Any]] = [
        {"name": "work", "mountPath": FOLDER},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the pod's alone
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if place.references:
        mounts.append({"name": "references", "mountPath": REFERENCES, "readOnly": True})
    settings = {
        "JOB_MEMORY_MIB": str(place.memory_mib),
        "JOB_DISK_GIB": str(place.disk_gib),
        "RECOVERY_SANDBOXES": f"{FOLDER}/restores",
    }
    return {
        "name": "job",
        "image": place.image,
        "command": ["python", "manage.py", "jobs", "--only", str(job.pk)],
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "envFrom": [{"secretRef": {"name": place.secret}}],
        "resources": {"limits": limits, "requests": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
