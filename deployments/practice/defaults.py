"""What the API server fills in: defaults of the kinds rollouts use, and quantities in their canonical form."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

Body = dict[str, Any]

_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4, "Pi": 1024**5, "Ei": 1024**6}
_DECIMAL = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
}  # fmt: skip


def quantity(value: Any) -> Decimal:
    """Return the number a quantity stands for. Raises `ValueError` for one that is not a quantity."""
    text = str(value)
    for suffix, factor in _BINARY.items():
        if text.endswith(suffix):
            return _number(text.removesuffix(suffix)) * factor
    if text and text[-1] in _DECIMAL:
        return _number(text[:-1]) * _DECIMAL[text[-1]]
    return _number(text)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a quantity") from error


def quantity_shown(number: Decimal) -> str:
    """Write a number as a decimal quantity: 600m, 2, 9."""
    if number == number.to_integral_value():
        return str(int(number))
    thousandths = number * 1000
    return f"{int(thousandths.to_integral_value(rounding='ROUND_CEILING'))}m"


def canonical_quantities(table: Any) -> None:
    """Rewrite numbers and fractions as the API server stores them; what is no quantity is left for validation."""
    if not isinstance(table, dict):
        return
    for key, value in table.items():
        if isinstance(value, str) and not any(mark in value for mark in ".e"):
            continue
        try:
            table[key] = quantity_shown(quantity(value))
        except ValueError:
            continue


def fill(kind: str, body: Body) -> None:
    """Set the defaults of a kind, in place."""
    if kind in _FILLERS:
        _FILLERS[kind](body)


def _put(table: Body, **values: Any) -> None:
    for key, value in values.items():
        if table.get(key) is None:
            table[key] = value


def pod_spec(spec: Body) -> None:
    """Set the defaults of a pod's spec, in place."""
    _put(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    _put(spec, securityContext={}, terminationGracePeriodSeconds=30)
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        if isinstance(container, dict):
            _container(container)
    for volume in spec.get("volumes") or ():
        for source in ("configMap", "secret", "projected", "downwardAPI"):
            if isinstance(volume.get(source), dict):
                _put(volume[source], defaultMode=420)
        if isinstance(volume.get("hostPath"), dict):
            _put(volume["hostPath"], type="")


def _container(container: Body) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    is_floating = "@" not in image and tag in ("", "latest")
    _put(container, imagePullPolicy="Always" if is_floating else "IfNotPresent", resources={})
    _put(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for table in ("requests", "limits"):
        canonical_quantities(container["resources"].get(table))
    for key, value in (container["resources"].get("limits") or {}).items():
        container["resources"].setdefault("requests", {}).setdefault(key, value)
    for port in container.get("ports") or ():
        _put(port, protocol="TCP")
    for variable in container.get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("fieldRef")
        if isinstance(reference, dict):
            _put(reference, apiVersion="v1")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(probe), dict):
            _put(container[probe], timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if isinstance(container[probe].get("httpGet"), dict):
                _put(container[probe]["httpGet"], path="/", scheme="HTTP")


def _template(spec: Body) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    if isinstance(template.get("spec"), dict):
        pod_spec(template["spec"])


def _deployment(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _put(spec, replicas=1, progressDeadlineSeconds=600, revisionHistoryLimit=10)
    strategy = spec.setdefault("strategy", {})
    _put(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _put(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")
    _template(spec)


def _replica_set(body: Body) -> None:
    _put(body.setdefault("spec", {}), replicas=1)
    _template(body["spec"])


def _stateful_set(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _put(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _put(spec, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"})
    strategy = spec.setdefault("updateStrategy", {})
    _put(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _put(strategy.setdefault("rollingUpdate", {}), partition=0)
    _template(spec)


def _daemon_set(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _put(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    _put(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _put(strategy.setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)
    _template(spec)


def _job_spec(spec: Body) -> None:
    _put(spec, backoffLimit=6, completionMode="NonIndexed", completions=1, parallelism=1, suspend=False)
    _put(spec, manualSelector=False, podReplacementPolicy="TerminatingOrFailed")
    _template(spec)


def _job(body: Body) -> None:
    _job_spec(body.setdefault("spec", {}))


def _cron_job(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _put(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = spec.setdefault("jobTemplate", {}).setdefault("spec", {})
    _template(template)


def _pod(body: Body) -> None:
    spec = body.setdefault("spec", {})
    pod_spec(spec)
    _put(spec, enableServiceLinks=True)


def cluster_address(namespace: str, name: str) -> str:
    """Give a service an address that its name decides."""
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).digest()
    return f"10.96.{digest[0]}.{1 + digest[1] % 254}"


def _service(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _put(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or ():
        _put(port, protocol="TCP")
        _put(port, targetPort=port.get("port"))
    if spec["type"] != "ExternalName":
        metadata = body["metadata"]
        _put(spec, clusterIP=cluster_address(metadata.get("namespace", ""), metadata.get("name", "")))
        _put(spec, clusterIPs=[spec["clusterIP"]], internalTrafficPolicy="Cluster")
        _put(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    body.setdefault("status", {}).setdefault("loadBalancer", {})


def _ingress(body: Body) -> None:
    body.setdefault("status", {}).setdefault("loadBalancer", {})


def _network_policy(body: Body) -> None:
    spec = body.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _quota(body: Body) -> None:
    canonical_quantities((body.get("spec") or {}).get("hard"))


def _secret(body: Body) -> None:
    _put(body, type="Opaque")
    for key, value in (body.pop("stringData", None) or {}).items():
        body.setdefault("data", {})[key] = base64.b64encode(str(value).encode()).decode()


def _claim(body: Body) -> None:
    _put(body.setdefault("spec", {}), volumeMode="Filesystem")
    _put(body.setdefault("status", {}), phase="Bound" if body["spec"].get("volumeName") else "Pending")


def _autoscaler(body: Body) -> None:
    spec = body.setdefault("spec", {})
    _put(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    body.setdefault("status", {}).setdefault("desiredReplicas", 0)
    body["status"].setdefault("currentMetrics", None)


def _budget(body: Body) -> None:
    _put(body.setdefault("status", {}), currentHealthy=0, desiredHealthy=0, disruptionsAllowed=0, expectedPods=0)


def _binding(body: Body) -> None:
    if isinstance(body.get("roleRef"), dict):
        _put(body["roleRef"], apiGroup="rbac.authorization.k8s.io")
    for subject in body.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            _put(subject, apiGroup="rbac.authorization.k8s.io")


def _definition(body: Body) -> None:
    spec = body.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        _put(names, singular=str(names["kind"]).lower(), listKind=f"{names['kind']}List")
    _put(spec, conversion={"strategy": "None"})
    status = body.setdefault("status", {})
    _put(status, acceptedNames={"plural": "", "kind": ""})
    status.setdefault("conditions", None)
    _put(status, storedVersions=[version["name"] for version in spec.get("versions") or () if version.get("storage")])


def _namespace(body: Body) -> None:
    _put(body.setdefault("status", {}), phase="Active")
    labels = body["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = body["metadata"].get("name", "")


_FILLERS: dict[str, Callable[[Body], None]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Pod": _pod,
    "Service": _service,
    "Ingress": _ingress,
    "NetworkPolicy": _network_policy,
    "ResourceQuota": _quota,
    "Secret": _secret,
    "PersistentVolumeClaim": _claim,
    "HorizontalPodAutoscaler": _autoscaler,
    "PodDisruptionBudget": _budget,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "CustomResourceDefinition": _definition,
    "Namespace": _namespace,
}
