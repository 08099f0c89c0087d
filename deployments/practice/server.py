"""The practice estate on a loopback port: started in-process by tests, and by `manage.py practice`.

    with PracticeServer.start(state=folder) as server:
        server.kubeconfig, server.url, server.prometheus_url, server.admin_token

The state folder gets `kubeconfig`, `ca.crt`, `server.crt`, `server.key`, `admin.token`, `address.json` and, where
objects are kept, `objects.json`. All are written atomically; secrets with mode 600.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from deployments.practice.clock import PracticeClock
from deployments.practice.controllers.world import Delays
from deployments.practice.estate import Estate
from deployments.practice.http import Connection
from deployments.practice.tls import Credentials, credentials_in, kubeconfig, write_atomically

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
SNAPSHOT_SECONDS = 5.0
START_SECONDS = 20.0
T = TypeVar("T")


class PracticeServer:
    """One running practice estate, on a thread of its own. Use `start`, then `stop` (or `with`)."""

    def __init__(
        self, *, state: Path, port: int = 0, speed: float = 1.0, delays: Delays | None = None,
        keeps_objects: bool = False,
        seed: Callable[[Estate], None] | None = None,
    ) -> None:  # fmt: skip
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state = state
        self.port = port
        self.kubeconfig = state / "kubeconfig"
        self.admin_token = _token_in(state / "admin.token")
        self.credentials: Credentials = credentials_in(state)
        self._keeps_objects = keeps_objects
        self._seed = seed
        self._kept_version = 0
        self._connections: set[Connection] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready: Future[None] = Future()
        self.estate = Estate(
            admin_token=self.admin_token,
            clock=PracticeClock(speed),
            delays=delays or Delays(),
            authority=self.credentials.authority,
        )

    @classmethod
    def start(
        cls, *, state: Path, port: int = 0, speed: float = 1.0, delays: Delays | None = None,
        keeps_objects: bool = False,
        seed: Callable[[Estate], None] | None = None,
    ) -> Self:  # fmt: skip
        """Start on a free port (or the one named) and return once it answers."""
        server = cls(state=state, port=port, speed=speed, delays=delays, keeps_objects=keeps_objects, seed=seed)
        server._thread = threading.Thread(target=server._run, name="practice-estate", daemon=True)
        server._thread.start()
        server._ready.result(START_SECONDS)
        return server

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @property
    def prometheus_url(self) -> str:
        return f"{self.url}/prometheus"

    def call(self, work: Callable[[Estate], T]) -> T:
        """Run something on the server's own loop and return its result; the only safe way to touch the estate."""
        assert self._loop is not None
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work(self.estate))
            except Exception as error:  # noqa: BLE001 - handed to the caller, who decides
                outcome.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return outcome.result(START_SECONDS)

    def expire_tokens(self) -> None:
        """Let every service account's token expire now."""
        self.call(lambda estate: estate.access.expire_tokens())

    def stop(self) -> None:
        """Stop answering, keep the objects where they are kept, and end the thread."""
        if (
            self._loop is not None
            and self._stopping is not None
            and self._thread is not None
            and self._thread.is_alive()
        ):
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(START_SECONDS)

    def wait(self) -> None:
        """Wait until the server has stopped."""
        assert self._thread is not None
        while self._thread.is_alive():
            self._thread.join(0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._ready.done():
                log.exception("The practice estate stopped.")
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._load()
        self.estate.manager.start(loop)
        self.estate.prepare()
        if self._seed is not None:
            self._seed(self.estate)
        context = self.credentials.server_context()
        listener = await loop.create_server(self._connected, HOST, self.port, ssl=context, backlog=512)
        self.port = listener.sockets[0].getsockname()[1]
        self.estate.address = f"{HOST}:{self.port}"
        self._write_addresses()
        keeper = loop.create_task(self._keep())
        self._ready.set_result(None)
        await self._stopping.wait()
        listener.close()
        keeper.cancel()
        self.estate.manager.stop()
        for connection in list(self._connections):
            connection.close()
        self._save()
        await asyncio.sleep(0)

    def _connected(self) -> Connection:
        return Connection(self.estate.handle, self._connections)

    def _write_addresses(self) -> None:
        document = kubeconfig(url=self.url, authority=self.credentials.authority, token=self.admin_token)
        write_atomically(self.kubeconfig, document, mode=0o600)
        addresses = {
            "kubernetes": self.url,
            "prometheus": self.prometheus_url,
            "certificate_authority": str(self.state / "ca.crt"),
        }
        write_atomically(self.state / "address.json", json.dumps(addresses, indent=2) + "\n")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_SECONDS)
            self._save()

    def _load(self) -> None:
        path = self.state / "objects.json"
        if self._keeps_objects and path.exists():
            self.estate.restore(json.loads(path.read_text()))
            self._kept_version = self.estate.store.version

    def _save(self) -> None:
        if self._keeps_objects and self.estate.store.version != self._kept_version:
            self._kept_version = self.estate.store.version
            write_atomically(self.state / "objects.json", self.estate.snapshot(), mode=0o600)


def _token_in(path: Path) -> str:
    if not path.exists():
        write_atomically(path, secrets.token_urlsafe(32), mode=0o600)
    return path.read_text().strip()
