"""Opens what answers a port for a row of the estate. Adapters are chosen by settings; nothing here imports one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.conf import settings

from changecontrol import wiring
from changecontrol.models import Cluster, GitSource
from changecontrol.ports import Kubernetes, ObjectStore, Secrets
from deployments.ports import GitRepository, Indicators


def open_secrets() -> Secrets:
    secrets: Secrets = wiring.secrets()
    return secrets


def open_cluster(cluster: Cluster) -> Kubernetes:
    """Return the cluster as its credential reference lets us use it. Raises `Permanent` for a refused kubeconfig."""
    opened: Kubernetes = wiring.adapter("kubernetes")(credential=cluster.credential, secrets=open_secrets())
    return opened


def open_source(source: GitSource) -> GitRepository:
    """Return the source through its mirror; two sources of one address share nothing but the address."""
    folder = f"{source.pk}-{hashlib.sha256(source.url.encode()).hexdigest()[:16]}"
    opened: GitRepository = wiring.adapter("git")(
        url=source.url,
        mirror=Path(settings.GIT_MIRRORS) / folder,
        credential=source.credential,
        secrets=open_secrets(),
        is_local_allowed=settings.GIT_LOCAL_PATHS_ALLOWED,
        hosts=settings.GIT_HOSTS,
    )
    return opened


def open_indicators(cluster: Cluster) -> Indicators:
    """Return the metrics server beside a cluster."""
    opened: Indicators = wiring.adapter("indicators")(
        url=cluster.metrics_url,
        credential=cluster.metrics_credential,
        authority=cluster.metrics_authority,
        secrets=open_secrets(),
    )
    return opened


def open_objects() -> ObjectStore:
    opened: ObjectStore = wiring.adapter("object_store")(settings.OBJECT_STORE_URL)
    return opened
