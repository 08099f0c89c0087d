"""Database clusters of CloudNativePG, through the Kubernetes port. Settings name `open_clusters` by its dotted path.

Written to the documented API `postgresql.cnpg.io/v1`, and `barmancloud.cnpg.io/v1` of its plugin.
"""

from __future__ import annotations

from changecontrol.ports import Kubernetes
from recovery.adapters.cloudnativepg.operator import OperatorClusters
from recovery.ports.clusters import DatabaseClusters


def open_clusters(kubernetes: Kubernetes) -> DatabaseClusters:
    """Return the database clusters of one Kubernetes cluster."""
    return OperatorClusters(kubernetes)
