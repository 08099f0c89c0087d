"""One replay of all recorded requests per run of these tests, against a practice estate of its own."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.practice.server import PracticeServer
from tests.contracts.kubernetes.client import Client
from tests.contracts.kubernetes.replay import Replay
from tests.contracts.named import named_node

__all__ = ["named_node"]


@pytest.fixture(scope="session")
def practice_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    state: Path = tmp_path_factory.mktemp("practice")
    with PracticeServer.start(state=state, speed=10) as server:
        client = Client(server.url, ssl.create_default_context(cafile=str(state / "ca.crt")), server.admin_token)
        yield client
        client.close()


@pytest.fixture(scope="session")
def replay(practice_client: Client) -> Replay:
    replay = Replay(practice_client)
    replay.run()
    return replay
