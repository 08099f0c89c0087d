"""Where an environment may be rehearsed: anywhere but where it runs."""

from __future__ import annotations


def refusal_of_place(*, cluster_id: int, own_cluster_id: int) -> str:
    """Say why an environment may not be rehearsed in a cluster; empty where it may."""
    if cluster_id == own_cluster_id:
        return "An environment is rehearsed in another cluster than the one it runs in."
    return ""
