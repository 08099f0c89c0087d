"""Kubernetes clusters behind the `Kubernetes` port. Settings name `open_cluster` by its dotted path.

The client library takes a second to import, so it waits for the first cluster that is opened.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.ports import Secrets

if TYPE_CHECKING:
    from changecontrol.adapters.kubernetes.cluster import Cluster

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
MAX_OPEN_CLUSTERS = 256

_open: dict[tuple[int, str, str, float, float], Cluster] = {}
_lock = threading.Lock()


def open_cluster(
    *,
    credential: str,
    secrets: Secrets,
    connect_seconds: float = CONNECT_SECONDS,
    read_seconds: float = READ_SECONDS,
) -> Cluster:
    """Return the cluster whose kubeconfig the reference `credential` names, connections and discovery kept.

    The reference is read each time: new content opens a new connection, the same content shares the old one.
    Raises `Permanent` for a kubeconfig that is not accepted.
    """
    text = secrets.read(credential)
    # A forked worker must not share its parent's sockets, so the process is part of the key.
    key = (os.getpid(), credential, hashlib.sha256(text.encode()).hexdigest(), connect_seconds, read_seconds)
    with _lock:
        cluster = _open.get(key)
    if cluster is not None:
        return cluster
    parse_kubeconfig(text)

    from changecontrol.adapters.kubernetes.cluster import Cluster
    from changecontrol.adapters.kubernetes.transport import Transport

    transport = Transport(
        lambda: parse_kubeconfig(secrets.read(credential)), connect_seconds=connect_seconds, read_seconds=read_seconds
    )
    with _lock:
        while len(_open) >= MAX_OPEN_CLUSTERS:
            _open.pop(next(iter(_open)))
        return _open.setdefault(key, Cluster(transport))
