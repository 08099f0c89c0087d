"""What several apps ask of machines elsewhere: Kubernetes, objects, secrets. Protocols and frozen data, no client.

Adapters (`changecontrol/adapters/`) answer these protocols and raise only `Transient` and `Permanent`.
`ensure_…` is an idempotent write; `observe_…` is a read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from changecontrol.errors import Permanent

Manifest = Mapping[str, Any]

FIELD_MANAGER = "changecontrol"
INVENTORY_LABEL = "changecontrol.io/environment"
"""Every object a rollout writes carries it, with the environment's `tenant.environment` as value, for pruning."""
RUN_LABEL = "changecontrol.io/run"
"""On everything a rehearsal makes: its run id. Only what carries it is taken down."""
COHORT_LABEL = "changecontrol.io/cohort"
"""On a workload: the cohort of stores it serves."""


SUPPORTED_KINDS: Mapping[tuple[str, str], str] = {
    ("apps/v1", "DaemonSet"): "daemonsets",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "horizontalpodautoscalers",
    ("batch/v1", "CronJob"): "cronjobs",
    ("batch/v1", "Job"): "jobs",
    ("networking.k8s.io/v1", "Ingress"): "ingresses",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    ("traefik.io/v1alpha1", "IngressRoute"): "ingressroutes",
    ("traefik.io/v1alpha1", "Middleware"): "middlewares",
    ("traefik.io/v1alpha1", "TraefikService"): "traefikservices",
    ("v1", "ConfigMap"): "configmaps",
    ("v1", "PersistentVolumeClaim"): "persistentvolumeclaims",
    ("v1", "Service"): "services",
    ("v1", "ServiceAccount"): "serviceaccounts",
}
"""The namespaced kinds a rollout writes, as (apiVersion, kind) to resource. `deploy/rbac.yaml` grants exactly these.

Secret is not among them: deployment definitions hold references to the secret store, never values."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectRef:
    """One Kubernetes object. `namespace` is empty for a cluster-scoped kind."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> ObjectRef:
        metadata = manifest.get("metadata") or {}
        return cls(
            api_version=str(manifest.get("apiVersion", "")),
            kind=str(manifest.get("kind", "")),
            namespace=str(metadata.get("namespace", "") or ""),
            name=str(metadata.get("name", "")),
        )

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, slots=True)
class Applied:
    """What the API server answered to one server-side apply. `live` is the object as stored (secrets redacted)."""

    ref: ObjectRef
    uid: str
    generation: int
    resource_version: str
    live: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FieldConflict:
    """A field that another manager owns."""

    manager: str
    path: str


class ApplyConflict(Permanent):
    """Another manager owns fields of the object (409). It is a finding; nothing is forced."""

    def __init__(self, reason: str, *, conflicts: Sequence[FieldConflict]) -> None:
        super().__init__(reason)
        self.conflicts = tuple(conflicts)


class Rejected(Permanent):
    """The API server judged the object invalid (400, 422, or 403 by admission or quota)."""


class OverQuota(Rejected):
    """A quota of the namespace leaves no room for the object (403); once something else has gone, it may."""


class NotAllowed(Permanent):
    """The executor lacks a right (401 after a fresh credential, 403 by RBAC)."""


RESTARTS_TOO_OFTEN = "RestartsTooOften"
"""A container that is not ready and has been started again and again, whatever state it is in at this moment."""


@dataclass(frozen=True, slots=True)
class PodProblem:
    """Why a pod is not ready: `reason` as Kubernetes words it (`ImagePullBackOff`, `Unschedulable`), or
    `RESTARTS_TOO_OFTEN`.

    `pod` is empty where no pod could be created at all (`FailedCreate`, as under an exhausted quota).
    """

    pod: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """How far a workload is. Counts are replicas; `image_ids` are the digests that *current* pods really run.

    `held_count` replicas stay on the version before (the partition of a StatefulSet). `is_on_delete` tells that pods
    are updated only as somebody deletes them.
    """

    ref: ObjectRef
    uid: str
    generation: int
    observed_generation: int
    desired_count: int
    updated_count: int
    ready_count: int
    available_count: int
    total_count: int
    is_deadline_exceeded: bool
    message: str
    image_ids: tuple[str, ...] = ()
    pod_images: tuple[str, ...] = ()
    problems: tuple[PodProblem, ...] = ()
    restart_count: int = 0
    held_count: int = 0
    is_paused: bool = False
    is_on_delete: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One permission as `SelfSubjectAccessReview` asks it."""

    verb: str
    group: str
    resource: str
    subresource: str = ""


READ_RIGHTS = (
    Right(verb="list", group="", resource="pods"),
    Right(verb="list", group="apps", resource="controllerrevisions"),
    Right(verb="list", group="apps", resource="daemonsets"),
    Right(verb="list", group="apps", resource="deployments"),
    Right(verb="list", group="apps", resource="replicasets"),
    Right(verb="list", group="apps", resource="statefulsets"),
)
"""What watching the health of workloads needs, whatever is written."""


def rights_for(
    *,
    written: Iterable[tuple[str, str]] = (),
    deleted: Iterable[tuple[str, str]] = (),
    listed: Iterable[tuple[str, str]] = (),
) -> tuple[Right, ...]:
    """Return the rights an executor needs to do this with (apiVersion, kind) pairs, and to watch health; sorted.

    An apply is `patch`, and `create` where it makes the object; it looks first, as a deletion does. A kind outside
    `SUPPORTED_KINDS` needs none that could be named; the API server decides about it.
    """
    needed = set(READ_RIGHTS)
    for kinds, verbs in ((written, ("create", "get", "patch")), (deleted, ("delete", "get")), (listed, ("list",))):
        for api_version, kind in kinds:
            resource = SUPPORTED_KINDS.get((api_version, kind))
            if resource is not None:
                group = api_version.rpartition("/")[0]
                needed |= {Right(verb=verb, group=group, resource=resource) for verb in verbs}
    return tuple(sorted(needed))


class Kubernetes(Protocol):
    """One cluster, as one credential may use it."""

    def observe_version(self) -> str:
        """Return the server's version, such as `v1.36.2`."""

    def ensure_applied(self, manifest: Manifest, *, dry_run: bool = False) -> Applied:
        """Apply one object server-side as `changecontrol`, never forced.

        Raises `ApplyConflict`, `Rejected`, `NotAllowed`.
        """

    def observe_object(self, ref: ObjectRef) -> dict[str, Any] | None:
        """Return the live object, or None."""

    def observe_secret(self, *, namespace: str, name: str) -> Mapping[str, str] | None:
        """Return what a Secret holds, as text, or None: the one read in which nothing is blackened."""

    def observe_workloads(self, *, namespace: str, inventory: str) -> dict[ObjectRef, WorkloadStatus]:
        """Return the workloads that carry the inventory label, with the state of their current pods."""

    def observe_workload(self, ref: ObjectRef) -> WorkloadStatus | None:
        """Return one workload with the state of its current pods, or None; cheap beside thousands of others."""

    def observe_inventory(
        self, *, namespace: str, inventory: str, kinds: Iterable[tuple[str, str]], label: str = INVENTORY_LABEL
    ) -> tuple[ObjectRef, ...]:
        """List the objects of these (apiVersion, kind) pairs whose label has `inventory` as value."""

    def ensure_deleted(self, ref: ObjectRef, *, inventory: str, label: str = INVENTORY_LABEL) -> bool:
        """Delete one object if its label still has `inventory` as value; True where something was deleted."""

    def observe_labelled(
        self, kind: tuple[str, str], *, namespace: str, label: str, value: str
    ) -> tuple[dict[str, Any], ...]:
        """Return the live objects of one (apiVersion, kind) whose label has this value."""

    def observe_warnings(self, ref: ObjectRef) -> tuple[str, ...]:
        """Return what the cluster warns of about an object, by its events, the newest last."""

    def observe_served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return those of the (apiVersion, kind) pairs that this cluster knows."""

    def observe_rights(self, *, namespace: str, rights: Iterable[Right]) -> tuple[Right, ...]:
        """Return those of the rights that the credential lacks there; for no namespace, in the whole cluster."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the object store. `size` is in bytes. A listing tells `modified_at` and no digest."""

    key: str
    size: int
    sha256: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What a store says of its lock on an object: until when it refuses to delete it. None: it shows no lock."""

    until: datetime | None


class ObjectStore(Protocol):
    """A flat, create-only place for bytes, addressed by key."""

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        """Store the bytes once. The same bytes again are a no-op; other bytes under the key raise `Permanent`."""

    def observe_object(self, key: str) -> bytes | None:
        """Return the bytes, or None."""

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        """Return these bytes of the object, fewer only at its end; None where there is no object."""

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        """Return what lies below a prefix of whole words (`a/b` holds `a/b/c`, not `a/bc`), in no order."""

    def observe_lock(self, key: str) -> ObjectLock | None:
        """Return what the store says of its lock on the object; None where it does not say, or has no such object.

        A store that hides its locks from a credential shows none.
        """

    def ensure_absent(self, key: str) -> None:
        """Delete the object; one that is not there is no error."""

    def observe_reachable(self) -> None:
        """Return when the store answers; else raise `Transient` or `Permanent`."""


@dataclass(frozen=True, slots=True)
class PlacedJob:
    """A job as the place that does it is told. `run` names it, and no job of another installation, even by a label.

    `attempt` names this attempt among those at the job.
    """

    pk: int
    run: str
    attempt: str
    kind: str
    key: str
    within: timedelta | None = None


@dataclass(frozen=True, slots=True)
class JobSight:
    """What a place shows of a job that it was given.

    `is_over`: nothing of it works any more, and `is_failed` tells that it was not because its process ended well.
    `is_leaving`: it is being cleared away. `trouble` says what went wrong or keeps it from beginning.
    """

    is_over: bool = False
    is_failed: bool = False
    is_leaving: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class JobCluster:
    """Where in a cluster jobs are done, and with what. `secret` holds the settings as variables.

    `references` names the Secret that is mounted where file references point, or nothing; `needs_token` tells that
    jobs sign in elsewhere as their service account.
    """

    namespace: str
    image: str
    service_account: str
    secret: str
    references: str
    cpu: str
    memory_mib: int
    disk_gib: int
    needs_token: bool


class JobRunner(Protocol):
    """A place where jobs are done, each by `manage.py jobs --only PK` in a process or a pod of its own.

    It starts and clears away. What a job came to is said by its row alone.
    """

    def observe_obstacles(self) -> tuple[str, ...]:
        """Return why no job could begin here, in sentences."""

    def observe_jobs(self) -> dict[str, JobSight]:
        """Return what is here of jobs, by run: of several attempts at one, that which goes on."""

    def ensure_begun(self, job: PlacedJob) -> None:
        """Have the job done, once for each attempt however often it is asked."""

    def ensure_removed(self, run: str) -> None:
        """End what is left of all attempts at a job and clear it away; it may take a while to go."""

    def close(self) -> None:
        """Leave, as this host stops: what would end with it gives its jobs back."""


class Secrets(Protocol):
    """Turns a reference into the secret. References are stored; secrets never are."""

    def read(self, reference: str) -> str:
        """Return the secret named `env:NAME`, `file:/path` or `vault:path#key`, which is never empty.

        Raises `Permanent` without echoing it, and `Transient` where it cannot be read now.
        """
