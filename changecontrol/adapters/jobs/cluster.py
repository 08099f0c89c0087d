"""Jobs as Kubernetes Jobs: one for each attempt, found again by a label that names the run.

Nothing here decides what a job came to: its pod claims the row, beats and settles, as a local process does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from changecontrol.adapters.jobs.manifest import (
    ATTEMPT_LABEL,
    JOB,
    POD,
    ROLE,
    ROLE_LABEL,
    RUN_LABEL,
    job_manifest,
)
from changecontrol.adapters.jobs.reading import needs_warnings, sight_of
from changecontrol.errors import Transient
from changecontrol.ports import JobCluster, JobSight, Kubernetes, ObjectRef, OverQuota, PlacedJob, Rejected, Right

RIGHTS = (
    *(Right(verb=verb, group="batch", resource="jobs") for verb in ("create", "delete", "get", "list", "patch")),
    *(Right(verb=verb, group="", resource="pods") for verb in ("delete", "get", "list")),
    Right(verb="list", group="", resource="events"),
)
"""What is called. `deploy/rbac-jobs.yaml` grants exactly these."""


class ClusterRunner:
    """A namespace of a cluster in which jobs are done."""

    def __init__(self, kubernetes: Kubernetes, *, place: JobCluster) -> None:
        self._kubernetes = kubernetes
        self._place = place

    def observe_obstacles(self) -> tuple[str, ...]:
        lacking = self._kubernetes.observe_rights(namespace=self._place.namespace, rights=RIGHTS)
        if not lacking:
            return ()
        words = ", ".join(f"{one.verb} {one.resource}" for one in lacking)
        return (
            f"The account of JOBS_CLUSTER may not {words} in {self._place.namespace}. "
            "Grant it as deploy/rbac-jobs.yaml does.",
        )

    def observe_jobs(self) -> dict[str, JobSight]:
        attempts = _by_run(self._labelled(JOB), self._labelled(POD))
        return {run: self._sight(_current(attempts[run])) for run in sorted(attempts)}

    def ensure_begun(self, job: PlacedJob) -> None:
        manifest = job_manifest(job, self._place)
        try:
            self._kubernetes.ensure_applied(manifest)
        except OverQuota as refusal:
            # Other Jobs end, and leave room for it.
            raise Transient(refusal.reason) from None
        except Rejected:
            # What a pod is made of cannot be changed: a host with other settings was first, and that will do.
            if self._kubernetes.observe_object(ObjectRef.of(manifest)) is None:
                raise

    def ensure_removed(self, run: str) -> None:
        found = self._kubernetes.observe_inventory(
            namespace=self._place.namespace, inventory=run, kinds=(JOB, POD), label=RUN_LABEL
        )
        # The pods of a Job go with it, and it goes after them; pods without one were orphaned by somebody.
        for ref in [one for one in found if one.kind == JOB[1]] or found:
            self._kubernetes.ensure_deleted(ref, inventory=run, label=RUN_LABEL)

    def close(self) -> None:
        """Leave the pods at work: they do not end with this host."""

    def _labelled(self, kind: tuple[str, str]) -> tuple[dict[str, Any], ...]:
        return self._kubernetes.observe_labelled(kind, namespace=self._place.namespace, label=ROLE_LABEL, value=ROLE)

    def _sight(self, attempt: _Attempt) -> JobSight:
        sight = attempt.sight
        subject = needs_warnings(attempt.job, attempt.pods, sight)
        if subject is None:
            return sight
        warnings = self._kubernetes.observe_warnings(ObjectRef.of(subject))
        return sight_of(attempt.job, attempt.pods, warnings=warnings)


@dataclass(slots=True)
class _Attempt:
    """What is there of an attempt at a job. One without a Job has pods that somebody orphaned."""

    job: Mapping[str, Any] | None = None
    pods: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def sight(self) -> JobSight:
        return sight_of(self.job, self.pods)


def _current(attempts: Iterable[_Attempt]) -> _Attempt:
    """Return the attempt that goes on; else one that is over; else one that is leaving."""
    return min(attempts, key=lambda one: (one.sight.is_leaving, one.sight.is_over))


def _by_run(jobs: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Iterable[_Attempt]]:
    found: defaultdict[str, defaultdict[str, _Attempt]] = defaultdict(lambda: defaultdict(_Attempt))
    for job in jobs:
        found[_label_of(job, RUN_LABEL)][_label_of(job, ATTEMPT_LABEL)].job = job
    for pod in pods:
        found[_label_of(pod, RUN_LABEL)][_label_of(pod, ATTEMPT_LABEL)].pods.append(pod)
    return {run: attempts.values() for run, attempts in found.items()}


def _label_of(item: Mapping[str, Any], label: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(label, ""))
