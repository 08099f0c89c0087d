"""The cluster of the tester's own that `TEST_KUBECONFIG` names. Nothing but loopback is asked where it names none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from changecontrol.adapters.kubernetes.kubeconfig import parse_kubeconfig
from changecontrol.adapters.kubernetes.transport import Transport
from tests.node import LABEL, Node

NO_CLUSTER = "TEST_KUBECONFIG names no cluster: only the practice estate is asked."
HAS_NODES = "The cluster of TEST_KUBECONFIG has nodes of its own, which cannot run this test's pods."


def named_kubeconfig() -> str:
    """Return the kubeconfig of the cluster that `TEST_KUBECONFIG` names; empty where none is named."""
    name = os.environ.get("TEST_KUBECONFIG")
    return Path(name).read_text() if name else ""


NAMED = pytest.param(
    "named", marks=[pytest.mark.enable_socket, pytest.mark.skipif(not named_kubeconfig(), reason=NO_CLUSTER)]
)
"""The named cluster, among the parameters of a fixture."""


def named_admin() -> Transport:
    access = parse_kubeconfig(named_kubeconfig())
    return Transport(lambda: access, connect_seconds=5, read_seconds=20)


def has_nodes(admin: Transport) -> bool:
    """Say whether a cluster has nodes that are not tests'."""
    nodes = admin.call("GET", "/api/v1/nodes", doing="list nodes", params={"labelSelector": f"!{LABEL}"})
    return bool(nodes.body["items"])


@pytest.fixture(scope="session")
def named_node() -> Iterator[Node | None]:
    """Play the node of a named cluster that has none; None where it has."""
    admin = named_admin()
    with nullcontext() if has_nodes(admin) else Node(admin) as node:
        yield node
