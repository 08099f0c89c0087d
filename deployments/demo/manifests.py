"""What the demo's Git repositories hold: the manifests of each environment, release by release. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import yaml

from changecontrol.ports import COHORT_LABEL
from deployments.demo.retailer import EnvironmentPlan


@dataclass(frozen=True, slots=True)
class Release:
    """One state of the repository. The image's tag tells the practice estate how it will fare."""

    tag: str
    summary: str
    settings: tuple[tuple[str, str], ...] = (("workers", "4"),)
    databases: tuple[tuple[str, str], ...] = ()
    """Which databases it puts in the place of which."""

    @property
    def image(self) -> str:
        return f"registry.example/odoo:{self.tag}@sha256:{hashlib.sha256(self.tag.encode()).hexdigest()}"


RUNNING = Release("19.0-20261101", "Odoo 19.0 of 1 November")
GOOD = Release("19.0-20261120", "Odoo 19.0 of 20 November: POS session close fix")
BROKEN = Release("19.0-20261121-bad", "Odoo 19.0 of 21 November: an image nobody can pull")
LEAKING = Release("19.0-20261122-slow-leak", "Odoo 19.0 of 22 November: starts well, then loses POS orders")

RESTORED = Release(RUNNING.tag, "The web shop on its restored database", databases=(("nw_shop", "nw_shop_restored"),))

STORE_WORKLOADS = (("web", 2), ("pos", 2), ("bus", 2), ("jobs", 2), ("cron", 2))
OFFICE_WORKLOADS = (("web", 2), ("jobs", 2))


def files_of(environment: EnvironmentPlan, release: Release) -> dict[str, bytes]:
    """Return the files below the environment's path, by name."""
    groups = environment.cohorts or ("",)
    workloads = STORE_WORKLOADS if environment.cohorts else OFFICE_WORKLOADS
    files = {"shared.yaml": _documents([_settings(environment, release), _default_deny(), _account()])}
    for cohort in groups:
        objects = []
        for workload, replicas in workloads:
            name = f"odoo-{workload}-{cohort}" if cohort else f"odoo-{workload}"
            objects += [_deployment(name, workload, cohort, replicas, release), _budget(name)]
            if workload in {"web", "pos", "bus"}:
                objects.append(_service(name))
        files[f"{cohort or 'office'}.yaml"] = _documents(objects)
    return files


def rehearsal_of(environment: EnvironmentPlan, release: Release) -> dict[str, bytes]:
    """Return the files by which an environment is rehearsed in the standby cluster: the same, on a copy."""
    copies = ((environment.database, environment.standby_database),)
    return files_of(environment, replace(release, databases=copies))


def _documents(objects: list[dict[str, Any]]) -> bytes:
    return yaml.safe_dump_all(objects, sort_keys=False).encode()


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _settings(environment: EnvironmentPlan, release: Release) -> dict[str, Any]:
    database = dict(release.databases).get(environment.database, environment.database)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "odoo-settings"},
        "data": {**dict(release.settings), **({"db_name": database} if database else {})},
    }


def _default_deny() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


def _account() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "odoo"},
        "automountServiceAccountToken": False,
    }


def _budget(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _labels(name)}},
    }


def _service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": _labels(name), "ports": [{"name": "http", "port": 8069, "targetPort": "http"}]},
    }


def _deployment(name: str, workload: str, cohort: str, replicas: int, release: Release) -> dict[str, Any]:
    marks = {**_labels(name), **({COHORT_LABEL: cohort} if cohort else {})}
    probe = {"httpGet": {"path": "/web/health", "port": "http"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": marks},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 120,
            "selector": {"matchLabels": _labels(name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": marks},
                "spec": {
                    "serviceAccountName": "odoo",
                    "automountServiceAccountToken": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 10001,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "odoo",
                            "image": release.image,
                            "args": [f"--role={workload}"],
                            "ports": [{"name": "http", "containerPort": 8069}],
                            "env": [
                                {
                                    "name": "PGPASSWORD",
                                    "valueFrom": {"secretKeyRef": {"name": "odoo-database", "key": "password"}},
                                }
                            ],
                            "envFrom": [{"configMapRef": {"name": "odoo-settings"}}],
                            "readinessProbe": {**probe, "periodSeconds": 5},
                            "livenessProbe": {**probe, "periodSeconds": 15, "failureThreshold": 4},
                            "resources": {
                                "requests": {"cpu": "250m", "memory": "512Mi"},
                                "limits": {"cpu": "1", "memory": "1Gi"},
                            },
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "readOnlyRootFilesystem": True,
                                "capabilities": {"drop": ["ALL"]},
                            },
                        }
                    ],
                },
            },
        },
    }
