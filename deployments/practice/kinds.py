"""The kinds the practice estate serves: names, verbs, subresources. Data; custom definitions add to it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

_ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_NO_COLLECTION = ("create", "delete", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Kind:
    """One served resource. `group` is empty for the core group; `is_custom` marks one that a definition brought."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str = ""
    is_namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _ALL_VERBS
    list_kind: str = ""
    is_custom: bool = False
    has_generation: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Name the resource as messages do: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """Name the kind as validation messages do: `Deployment.apps`, `Namespace`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def key(self) -> tuple[str, str]:
        return self.group, self.plural

    @property
    def storage_hash(self) -> str:
        digest = hashlib.sha256(f"{self.group}/{self.version}/{self.kind}".encode()).digest()
        return base64.b64encode(digest[:8]).decode()


def _core(
    kind: str, plural: str, *short: str, subs: tuple[str, ...] = (), namespaced: bool = True, **more: object
) -> Kind:
    return _kind("", "v1", kind, plural, short, subs, namespaced, more)


def _kind(
    group: str,
    version: str,
    kind: str,
    plural: str,
    short: tuple[str, ...],
    subs: tuple[str, ...],
    namespaced: bool,
    more: dict[str, object],
) -> Kind:
    return Kind(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=kind.lower(),
        is_namespaced=namespaced,
        short_names=short,
        subresources=subs,
        list_kind=f"{kind}List",
        **more,  # type: ignore[arg-type]
    )


def _grouped(
    group: str,
    kind: str,
    plural: str,
    *short: str,
    subs: tuple[str, ...] = (),
    version: str = "v1",
    namespaced: bool = True,
    **more: object,
) -> Kind:
    return _kind(group, version, kind, plural, short, subs, namespaced, more)


_ALL = ("all",)
_RBAC = "rbac.authorization.k8s.io"

BUILT_IN: tuple[Kind, ...] = (
    _core("ConfigMap", "configmaps", "cm"),
    _core("Endpoints", "endpoints", "ep"),
    _core("Event", "events", "ev"),
    _core("LimitRange", "limitranges", "limits"),
    _core("Namespace", "namespaces", "ns", subs=("finalize", "status"), namespaced=False, verbs=_NO_COLLECTION),
    _core("Node", "nodes", "no", subs=("status",), namespaced=False),
    _core("PersistentVolumeClaim", "persistentvolumeclaims", "pvc", subs=("status",)),
    _core("PersistentVolume", "persistentvolumes", "pv", subs=("status",), namespaced=False),
    _core("Pod", "pods", "po", subs=("eviction", "log", "status"), categories=_ALL, has_generation=True),
    _core("ResourceQuota", "resourcequotas", "quota", subs=("status",)),
    _core("Secret", "secrets"),
    _core("ServiceAccount", "serviceaccounts", "sa", subs=("token",)),
    _core("Service", "services", "svc", subs=("status",), categories=_ALL),
    _grouped("apps", "ControllerRevision", "controllerrevisions"),
    _grouped("apps", "DaemonSet", "daemonsets", "ds", subs=("status",), categories=_ALL, has_generation=True),
    _grouped("apps", "Deployment", "deployments", "deploy", subs=("scale", "status"), categories=_ALL,
    has_generation=True),
    _grouped("apps", "ReplicaSet", "replicasets", "rs", subs=("scale", "status"), categories=_ALL, has_generation=True),
    _grouped("apps", "StatefulSet", "statefulsets", "sts", subs=("scale", "status"), categories=_ALL,
    has_generation=True),
    _grouped("batch", "CronJob", "cronjobs", "cj", subs=("status",), categories=_ALL, has_generation=True),
    _grouped("batch", "Job", "jobs", subs=("status",), categories=_ALL, has_generation=True),
    _grouped(
        "autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", subs=("status",), version="v2",
        categories=_ALL,
    ),
    _grouped("networking.k8s.io", "IngressClass", "ingressclasses", namespaced=False, has_generation=True),
    _grouped("networking.k8s.io", "Ingress", "ingresses", "ing", subs=("status",), has_generation=True),
    _grouped("networking.k8s.io", "NetworkPolicy", "networkpolicies", "netpol", has_generation=True),
    _grouped("policy", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", subs=("status",), has_generation=True),
    _grouped(_RBAC, "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _grouped(_RBAC, "ClusterRole", "clusterroles", namespaced=False),
    _grouped(_RBAC, "RoleBinding", "rolebindings"),
    _grouped(_RBAC, "Role", "roles"),
    _grouped("storage.k8s.io", "StorageClass", "storageclasses", "sc", namespaced=False),
    _grouped(
        "apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", "crd", "crds",
        subs=("status",),
        namespaced=False, categories=("api-extensions",), has_generation=True,
    ),
    _grouped("coordination.k8s.io", "Lease", "leases"),
    _grouped("discovery.k8s.io", "EndpointSlice", "endpointslices", has_generation=True),
)  # fmt: skip

CREATE_ONLY: tuple[tuple[str, str, str], ...] = (
    ("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews"),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
)
"""Kinds that answer a POST and store nothing."""

SUBRESOURCE_KINDS: dict[str, tuple[str, str, str]] = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
"""Subresources that speak in a kind of their own."""
