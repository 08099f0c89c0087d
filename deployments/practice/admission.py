"""What the API server adds to a new object on its own account, which nobody comes to own, and what quotas refuse."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from deployments.practice.defaults import cluster_address, quantity, quantity_shown
from deployments.practice.kinds import Kind
from deployments.practice.status import forbidden
from deployments.practice.store import Item

Body = dict[str, Any]


def admit(kind: Kind, body: Body) -> None:
    """Complete a new object, in place, after its owner's fields are known."""
    if kind.kind == "Pod" and not kind.group:
        _admit_pod(body)
    elif kind.kind == "Job" and kind.group == "batch":
        _admit_job(body)
    elif kind.kind == "Namespace" and not kind.group:
        body["spec"] = {**(body.get("spec") or {}), "finalizers": ["kubernetes"]}
    elif kind.kind == "Service" and not kind.group:
        spec = body["spec"]
        if spec.get("type") != "ExternalName":
            metadata = body["metadata"]
            spec.setdefault("clusterIP", cluster_address(metadata.get("namespace", ""), metadata["name"]))
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
            spec.setdefault("ipFamilies", ["IPv4"])
            spec.setdefault("ipFamilyPolicy", "SingleStack")


def _admit_pod(body: Body) -> None:
    spec = body["spec"]
    account = spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", account)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(toleration.get("key") == key for toleration in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    if spec.get("automountServiceAccountToken") is not False:
        _mount_token(spec, f"kube-api-access-{body['metadata']['uid'][:5]}")
    body["status"] = {"phase": "Pending", "qosClass": _quality(spec)}


def _mount_token(spec: Body, name: str) -> None:
    field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [field]}},
    ]
    spec.setdefault("volumes", []).append({"name": name, "projected": {"sources": sources, "defaultMode": 420}})
    mount = {"name": name, "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    for container in [*spec.get("containers", ()), *(spec.get("initContainers") or ())]:
        container.setdefault("volumeMounts", []).append(dict(mount))


def _quality(spec: Body) -> str:
    wanted = ("cpu", "memory")
    tables = [container.get("resources") or {} for container in spec.get("containers", ())]
    if not any(table.get("requests") or table.get("limits") for table in tables):
        return "BestEffort"
    is_fixed = all(
        (table.get("limits") or {}).get(key) and (table.get("requests") or {}).get(key) == table["limits"][key]
        for table in tables
        for key in wanted
    )
    return "Guaranteed" if is_fixed else "Burstable"


def _admit_job(body: Body) -> None:
    spec, metadata = body["spec"], body["metadata"]
    if spec.get("manualSelector"):
        return
    uid, name = metadata["uid"], metadata["name"]
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    template = spec["template"].setdefault("metadata", {})
    template["labels"] = {**(template.get("labels") or {}), **labels}
    metadata["labels"] = {**template["labels"], **(metadata.get("labels") or {})}


_ALIASES = {"cpu": "requests.cpu", "memory": "requests.memory"}
_COUNTED = {
    "configmaps": "ConfigMap", "services": "Service", "secrets": "Secret",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}  # fmt: skip


def charge(body: Body, kind: Kind) -> dict[str, Decimal]:
    """Return what one object takes from a quota."""
    used: dict[str, Decimal] = {f"count/{kind.resource}": Decimal(1)}
    if kind.kind == "Pod" and not kind.group:
        if (body.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return {}
        used["pods"] = Decimal(1)
        for container in (body.get("spec") or {}).get("containers") or ():
            for table in ("requests", "limits"):
                for key, value in ((container.get("resources") or {}).get(table) or {}).items():
                    name = f"{table}.{key}"
                    used[name] = used.get(name, Decimal(0)) + quantity(value)
    elif _COUNTED.get(kind.plural) == kind.kind:
        used[kind.plural] = Decimal(1)
    return used


def total(hard: dict[str, Any], items: Iterable[Item]) -> dict[str, Decimal]:
    """Add up what the objects take of each limited resource."""
    out = {key: Decimal(0) for key in hard}
    for item in items:
        used = charge(item.body, item.kind)
        for key in out:
            out[key] += used.get(_ALIASES.get(key, key), Decimal(0))
    return out


def refuse_over_quota(kind: Kind, body: Body, quotas: Iterable[Item], items: list[Item]) -> None:
    """Raise the 403 of the first quota that the new object would exceed."""
    asked = charge(body, kind)
    for quota in quotas:
        hard = (quota.body.get("spec") or {}).get("hard") or {}
        wanted = {key: asked[_ALIASES.get(key, key)] for key in sorted(hard) if _ALIASES.get(key, key) in asked}
        if kind.kind == "Pod":
            missing = [
                key for key in sorted(hard) if key.partition(".")[0] in ("requests", "limits") and key not in asked
            ]
            if missing:
                why = f"failed quota: {quota.name}: must specify {','.join(missing)} for: "
                names = ",".join(container["name"] for container in body["spec"]["containers"])
                raise forbidden(kind, body["metadata"]["name"], why + names)
        if not wanted:
            continue
        used = total(hard, items)
        over = [key for key, amount in wanted.items() if used[key] + amount > quantity(hard[key])]
        if over:
            parts = [
                "requested: " + ",".join(f"{key}={quantity_shown(wanted[key])}" for key in over),
                "used: " + ",".join(f"{key}={quantity_shown(used[key])}" for key in over),
                "limited: " + ",".join(f"{key}={hard[key]}" for key in over),
            ]
            raise forbidden(kind, body["metadata"]["name"], f"exceeded quota: {quota.name}, " + ", ".join(parts))
