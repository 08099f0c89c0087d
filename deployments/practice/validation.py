"""What the API server refuses with 422 and in which words, for the kinds rollouts use. Pure: bodies in, causes out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from deployments.practice import selectors
from deployments.practice.cloudnativepg import rules as cloudnativepg
from deployments.practice.defaults import quantity
from deployments.practice.kinds import Kind

Body = dict[str, Any]
Cause = tuple[str, str, str]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_LABEL_SAYS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_SAYS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_VALUE_SAYS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end "
    "with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LABEL_NAMED = frozenset({"Namespace", "Service"})
_PATH_NAMED = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
_WORKLOADS = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"})


def _wrong(where: str, value: Any, why: str) -> Cause:
    return "FieldValueInvalid", where, f"Invalid value: {json.dumps(value, separators=(',', ':'))}: {why}"


def _required(where: str, why: str = "") -> Cause:
    return "FieldValueRequired", where, f"Required value: {why}" if why else "Required value"


def _unsupported(where: str, value: Any, supported: list[str]) -> Cause:
    listed = ", ".join(json.dumps(item) for item in supported)
    return "FieldValueNotSupported", where, f"Unsupported value: {json.dumps(value)}: supported values: {listed}"


def _immutable(where: str, value: Any) -> Cause:
    return _wrong(where, value, "field is immutable")


def causes_against(kind: Kind, new: Body, old: Body | None) -> list[Cause]:
    """Return why an object is refused; `old` is the live one, None at creation."""
    found = list(_metadata(kind, new))
    if kind.group == cloudnativepg.GROUP:
        found += cloudnativepg.refusals(kind.kind, new, old)
    rule = None if kind.is_custom else _RULES.get(kind.kind)
    if rule is not None:
        found += rule(new, old)
    return found


def _metadata(kind: Kind, new: Body) -> Iterator[Cause]:
    metadata = new["metadata"]
    name = str(metadata.get("name", ""))
    if kind.kind in _PATH_NAMED:
        if "/" in name or "%" in name or name in (".", ".."):
            yield _wrong("metadata.name", name, "may not contain '/'")
    elif kind.kind in _LABEL_NAMED:
        if len(name) > 63 or not _LABEL.fullmatch(name):
            yield _wrong("metadata.name", name, _LABEL_SAYS)
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield _wrong("metadata.name", name, _SUBDOMAIN_SAYS)
    yield from _labels("metadata.labels", metadata.get("labels"))


def _labels(where: str, labels: Any) -> Iterator[Cause]:
    for value in (labels or {}).values():
        if len(value) > 63:
            yield "FieldValueTooLong", where, f"Too long: may not be more than 63 bytes: {json.dumps(value)}"
        elif not _LABEL_VALUE.fullmatch(value):
            yield _wrong(where, value, _LABEL_VALUE_SAYS)


def _workload(new: Body, old: Body | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    selector = spec.get("selector")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0:
        yield _wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    if not selector:
        yield _required("spec.selector")
    elif not selectors.matches(selector, labels):
        yield _wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from _labels("spec.template.labels", labels)
    yield from _pod_spec(template.get("spec") or {}, "spec.template.spec")
    if (template.get("spec") or {}).get("restartPolicy", "Always") != "Always":
        yield _unsupported("spec.template.spec.restartPolicy", template["spec"]["restartPolicy"], ["Always"])
    if old is not None and (old.get("spec") or {}).get("selector") != selector:
        yield _immutable("spec.selector", selector)
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    if rolling and str(rolling.get("maxSurge")) in ("0", "0%") and str(rolling.get("maxUnavailable")) in ("0", "0%"):
        where = "spec.strategy.rollingUpdate.maxUnavailable"
        yield _wrong(where, rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")


_STATEFUL_MAY_CHANGE = frozenset(
    {
        "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    }
)  # fmt: skip


def _stateful_set(new: Body, old: Body | None) -> Iterator[Cause]:
    yield from _workload(new, None)
    if old is None:
        return
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if any(before.get(key) != after.get(key) for key in {*before, *after} - _STATEFUL_MAY_CHANGE):
        yield (
            "FieldValueForbidden",
            "spec",
            "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
            "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
            "'minReadySeconds' are "
            "forbidden",
        )


def _pod_spec(spec: Body, where: str) -> Iterator[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        yield _required(f"{where}.containers")
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    names: set[str] = set()
    for field in ("containers", "initContainers"):
        for at, container in enumerate(spec.get(field) or ()):
            yield from _container(container, f"{where}.{field}[{at}]", volumes, names)


def _container(container: Body, where: str, volumes: set[Any], names: set[str]) -> Iterator[Cause]:
    name = container.get("name")
    if not name:
        yield _required(f"{where}.name")
    elif not _LABEL.fullmatch(name):
        yield _wrong(f"{where}.name", name, _LABEL_SAYS)
    elif name in names:
        yield "FieldValueDuplicate", f"{where}.name", f"Duplicate value: {json.dumps(name)}"
    names.add(str(name))
    if not container.get("image"):
        yield _required(f"{where}.image")
    for at, port in enumerate(container.get("ports") or ()):
        if not 1 <= port.get("containerPort", 0) <= 65535:
            yield _wrong(
                f"{where}.ports[{at}].containerPort",
                port.get("containerPort", 0),
                "must be between 1 and 65535, inclusive",
            )
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            yield (
                "FieldValueNotFound",
                f"{where}.volumeMounts[{at}].name",
                f"Not found: {json.dumps(mount.get('name'))}",
            )
    yield from _resources(container.get("resources") or {}, f"{where}.resources")


def _resources(resources: Body, where: str) -> Iterator[Cause]:
    numbers: dict[tuple[str, str], Any] = {}
    for table in ("limits", "requests"):
        for key, value in (resources.get(table) or {}).items():
            numbers[table, key] = quantity(value)
    for (table, key), number in numbers.items():
        limit = numbers.get(("limits", key))
        if table == "requests" and limit is not None and number > limit:
            limits, asked = resources["limits"][key], resources["requests"][key]
            yield _wrong(f"{where}.requests", asked, f"must be less than or equal to {key} limit of {limits}")


def _pod(new: Body, old: Body | None) -> Iterator[Cause]:
    yield from _pod_spec(new.get("spec") or {}, "spec")
    if old is not None:
        before, after = _frozen(old.get("spec") or {}), _frozen(new.get("spec") or {})
        if before != after:
            yield (
                "FieldValueForbidden",
                "spec",
                "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
                "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions "
                "to existing "
                "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was "
                "previously negative)",
            )


def _frozen(spec: Body) -> Body:
    kept = {
        key: value for key, value in spec.items() if key not in ("tolerations", "activeDeadlineSeconds", "nodeName")
    }
    for field in ("containers", "initContainers"):
        if field in kept:
            kept[field] = [{key: value for key, value in item.items() if key != "image"} for item in kept[field]]
    return kept


def _job(new: Body, old: Body | None) -> Iterator[Cause]:
    template = (new.get("spec") or {}).get("template") or {}
    spec = template.get("spec") or {}
    yield from _pod_spec(spec, "spec.template.spec")
    if spec.get("restartPolicy") not in ("OnFailure", "Never"):
        where = "spec.template.spec.restartPolicy"
        yield "FieldValueRequired", where, 'Required value: valid values: "OnFailure", "Never"'
    if old is not None:
        for field in ("completions", "selector", "template"):
            value = (new.get("spec") or {}).get(field)
            if (old.get("spec") or {}).get(field) != value:
                yield _immutable(f"spec.{field}", value)


def _cron_job(new: Body, old: Body | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    if not spec.get("schedule"):
        yield _required("spec.schedule")
    elif len(spec["schedule"].split()) != 5 and not spec["schedule"].startswith("@"):
        count = len(spec["schedule"].split())
        yield _wrong("spec.schedule", spec["schedule"], f"expected exactly 5 fields, found {count}: {spec['schedule']}")
    template = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    yield from _pod_spec(template.get("spec") or {}, "spec.jobTemplate.spec.template.spec")


def _service(new: Body, old: Body | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield _required("spec.ports")
    for at, port in enumerate(ports):
        if not 1 <= port.get("port", 0) <= 65535:
            yield _wrong(f"spec.ports[{at}].port", port.get("port", 0), "must be between 1 and 65535, inclusive")
        if len(ports) > 1 and not port.get("name"):
            yield _required(f"spec.ports[{at}].name")
    kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
    if spec.get("type") not in kinds:
        yield _unsupported("spec.type", spec.get("type"), kinds)
    before = ((old or {}).get("spec") or {}).get("clusterIP")
    if before and spec.get("clusterIP") and spec["clusterIP"] != before:
        yield _wrong("spec.clusterIPs[0]", [spec["clusterIP"]], "may not change once set")


def _config(new: Body, old: Body | None) -> Iterator[Cause]:
    if old is not None and old.get("immutable"):
        if not new.get("immutable"):
            yield "FieldValueForbidden", "immutable", "Forbidden: field is immutable when `immutable` is set"
        for field in ("data", "binaryData"):
            if old.get(field) != new.get(field):
                yield "FieldValueForbidden", field, "Forbidden: field is immutable when `immutable` is set"


def _secret(new: Body, old: Body | None) -> Iterator[Cause]:
    if old is not None and old.get("type") != new.get("type"):
        yield _immutable("type", new.get("type"))
    yield from _config(new, old)


def _binding(new: Body, old: Body | None) -> Iterator[Cause]:
    reference = new.get("roleRef") or {}
    if not reference.get("name"):
        yield _required("roleRef.name")
    if reference.get("kind") not in ("Role", "ClusterRole"):
        yield _unsupported("roleRef.kind", reference.get("kind", ""), ["Role", "ClusterRole"])
    if old is not None and old.get("roleRef") != reference:
        yield _wrong("roleRef", reference, "cannot change roleRef")


def _budget(new: Body, old: Body | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        shown = {"minAvailable": spec["minAvailable"], "maxUnavailable": spec["maxUnavailable"]}
        yield _wrong("spec", shown, "minAvailable and maxUnavailable cannot be both set")


def _autoscaler(new: Body, old: Body | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    most, least = spec.get("maxReplicas", 0), spec.get("minReplicas", 1)
    if most < 1:
        yield _wrong("spec.maxReplicas", most, "must be greater than 0")
    elif most < least:
        yield _wrong("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")


def _definition(new: Body, old: Body | None) -> Iterator[Cause]:
    spec = new.get("spec") or {}
    wanted = f"{(spec.get('names') or {}).get('plural', '')}.{spec.get('group', '')}"
    if new["metadata"].get("name") != wanted:
        yield _wrong("metadata.name", new["metadata"].get("name"), 'must be spec.names.plural+"."+spec.group')
    if sum(bool(version.get("storage")) for version in spec.get("versions") or ()) != 1:
        yield _wrong("spec.versions", [], "must have exactly one version marked as storage version")


def _persistent_claim(new: Body, old: Body | None) -> Iterator[Cause]:
    if not (new.get("spec") or {}).get("accessModes"):
        yield _required("spec.accessModes", "at least 1 access mode is required")


_RULES: dict[str, Callable[[Body, Body | None], Iterator[Cause]]] = {
    **dict.fromkeys(_WORKLOADS - {"StatefulSet"}, _workload),
    "StatefulSet": _stateful_set,
    "Pod": _pod,
    "Job": _job,
    "CronJob": _cron_job,
    "Service": _service,
    "ConfigMap": _config,
    "Secret": _secret,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
    "PodDisruptionBudget": _budget,
    "HorizontalPodAutoscaler": _autoscaler,
    "CustomResourceDefinition": _definition,
    "PersistentVolumeClaim": _persistent_claim,
}
