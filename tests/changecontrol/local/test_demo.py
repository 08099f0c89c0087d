from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from changecontrol.project.local.demo import choose_port, secret_key, signing_key
from changecontrol.project.local.postgres import Postgres
from changecontrol.project.local.processes import Lock, free_port, processes_working_in, wait_until, write_state
from changecontrol.project.local.services import CLONE
from changecontrol.project.local.supervisor import marked_processes

READY_SECONDS = 180.0
STOP_SECONDS = 300.0
"""A first backup may be under way, and gives its work back first."""


SHELL = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
"""A newcomer's: with what tests set, the demo would use their servers, and never start its own."""


def demo(verb: str, folder: Path, *, port: int = 8000) -> list[str]:
    words = [sys.executable, "-m", "changecontrol.project.local.demo", verb]
    return [*words, "--folder", str(folder), "--port", str(port)]


def test_a_taken_port_gives_way_to_the_next_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]

        chosen = choose_port(taken)

    assert chosen != taken
    assert capsys.readouterr().out == f"Port {taken} is taken by another program; the demo uses {chosen}.\n"


def test_the_secret_key_is_long_random_and_kept(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    assert len(secret_key(tmp_path)) >= 50
    assert secret_key(tmp_path) == secret_key(tmp_path)
    assert secret_key(tmp_path) != secret_key(tmp_path / "other")


@pytest.mark.parametrize(("verb", "code"), [("run", 0), ("reset", 1)])
def test_while_one_runs_a_second_says_so_and_where_and_touches_nothing(tmp_path: Path, verb: str, code: int) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    write_state(folder / "running.json", {"address": "http://127.0.0.1:8123"})
    lock = Lock(tmp_path / "demo.lock")
    lock.acquire(refusal="held by the test")
    try:
        done = subprocess.run(demo(verb, folder), cwd=CLONE, env=SHELL, capture_output=True, text=True, check=False)
    finally:
        lock.release()

    assert done.returncode == code
    assert "already running" in done.stdout
    assert "It answers at http://127.0.0.1:8123." in done.stdout
    assert [path.name for path in folder.iterdir()] == ["running.json"]


class Terminal:
    """A demo that was started, and what it has printed so far."""

    def __init__(self, folder: Path, output: Path, *, port: int) -> None:
        self.output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                demo("run", folder, port=port),
                cwd=CLONE,
                env=SHELL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Where the tests run in the background of a script, their programs would ignore Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        has_settled = wait_until(
            lambda: "Ctrl-C stops everything" in self.text() or self.process.poll() is not None, seconds=READY_SECONDS
        )
        assert has_settled, self.text()
        assert self.process.poll() is None, self.text()

    def text(self) -> str:
        return self.output.read_text()

    def readiness(self) -> int:
        [address] = re.findall(r"answers at http://(\S+)", self.text())
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Terminal]]:
    folder, port = tmp_path / "demo", free_port()
    started: list[Terminal] = []

    def run() -> Terminal:
        terminal = Terminal(folder, tmp_path / f"output-{len(started)}", port=port)
        started.append(terminal)
        return terminal

    yield run
    for terminal in started:
        terminal.process.kill()
        terminal.process.wait()
    subprocess.run(demo("reset", folder), cwd=CLONE, env=SHELL, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_starts_stops_without_a_trace_survives_being_killed_and_starts_again(
    tmp_path: Path, start: Callable[[], Terminal]
) -> None:
    folder = tmp_path / "demo"
    clusters = [Postgres(folder / name).cluster for name in ("postgres", "shop")]

    def is_gone() -> bool:
        return marked_processes(folder) == [] and not any(map(processes_working_in, clusters))

    first = start()
    assert first.readiness() == 200
    key = signing_key(folder).read_bytes()
    assert isinstance(load_pem_private_key(key, password=None), Ed25519PrivateKey)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(timeout=STOP_SECONDS) == 0
    assert is_gone()
    assert "the data is kept" in first.text()

    killed = start()
    assert killed.readiness() == 200
    assert signing_key(folder).read_bytes() == key
    killed.process.kill()
    killed.process.wait()

    again = start()
    assert again.readiness() == 200
    again.process.send_signal(signal.SIGINT)
    assert again.process.wait(timeout=STOP_SECONDS) == 0
    assert is_gone()
