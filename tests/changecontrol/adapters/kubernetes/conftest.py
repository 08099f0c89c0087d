"""A scripted API server and a cluster opened on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.kubernetes import open_cluster
from changecontrol.adapters.kubernetes.cluster import Cluster
from tests.changecontrol.adapters.api_server import ApiServer
from tests.changecontrol.adapters.https_server import HttpsServer, serve


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@pytest.fixture
def server(api: ApiServer, tmp_path: Path) -> Iterator[HttpsServer]:
    with serve(api, folder=tmp_path) as server:
        yield server


@pytest.fixture
def secrets(server: HttpsServer) -> FakeSecrets:
    return FakeSecrets({"env:KUBECONFIG_ONE": server.kubeconfig()})


@pytest.fixture
def open_again(secrets: FakeSecrets) -> Callable[[], Cluster]:
    return lambda: open_cluster(credential="env:KUBECONFIG_ONE", secrets=secrets, connect_seconds=2, read_seconds=1)


@pytest.fixture
def cluster(open_again: Callable[[], Cluster]) -> Cluster:
    return open_again()
