"""Valkey for one folder: broker and cache on loopback, in memory only, stopped with the process that started it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from changecontrol.project.local.distribution import valkey_program
from changecontrol.project.local.processes import (
    LocalServiceError,
    Lock,
    end_with_parent,
    free_port,
    is_port_free,
    is_same_process,
    last_lines,
    private_folder,
    read_state,
    run_as,
    send,
    start_time_of,
    stop_child,
    unprivileged_account,
    wait_until,
    write_state,
)

START_SECONDS = 15.0
PORT_ATTEMPTS = 5
STOP_STEPS = ((signal.SIGTERM, 5.0),)
CONFIGURATION = """\
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir /
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
daemonize no
"""


class Valkey:
    """One Valkey server, known by its folder. Start it from the main thread: it stops when that thread ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_folder(folder)
        self._account = unprivileged_account()
        self._lock = Lock(self.folder / "lock")
        self._child: subprocess.Popen[bytes] | None = None
        self._state_file = self.folder / "valkey.json"
        self._log_file = self.folder / "valkey.log"

    @property
    def port(self) -> int:
        """The loopback port it listens on."""
        return int(read_state(self._state_file)["port"])

    @property
    def pid(self) -> int | None:
        """The server's process id while this object runs it."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def url(self) -> str:
        """The address, with its password."""
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def is_running(self) -> bool:
        """Tell whether the server that this object started is alive."""
        return self.pid is not None

    def start(self) -> Valkey:
        """Start the server and return self once it answers. Raises `AlreadyRunning` or `LocalServiceError`."""
        if self.is_running():
            return self
        self._lock.acquire(refusal="Valkey of this folder is already running; it was started by another process")
        try:
            self._launch()
        except BaseException:
            self._end_child()
            self._lock.release()
            raise
        return self

    def stop(self) -> None:
        """Stop the server and give its folder back; stopping a stopped one is harmless."""
        self._end_child()
        self._lock.release()

    def restart(self) -> Valkey:
        """Stop and start again on the same port. It comes back empty: nothing in it is kept on disk."""
        port = self.port
        self._end_child()
        wait_until(lambda: is_port_free(port), seconds=10)
        self._launch()
        return self

    def flush(self) -> None:
        """Forget every key and message, as a lost broker would."""
        if self._ask("FLUSHALL") != b"+OK":
            raise LocalServiceError("Valkey did not forget its keys.")

    @property
    def _password(self) -> str:
        return str(read_state(self._state_file)["password"])

    def _launch(self) -> None:
        self._clear_previous_run()
        for _ in range(PORT_ATTEMPTS):
            self._choose_port()
            self._spawn()
            if wait_until(self._is_settled, seconds=START_SECONDS) and self.is_running():
                return
            self._end_child()
            if is_port_free(self.port):
                break
        raise LocalServiceError(f"Valkey did not start. Its log {self._log_file} ends: {last_lines(self._log_file)}")

    def _clear_previous_run(self) -> None:
        """End the server of a killed run: we hold the folder's lock, so nobody looks after it."""
        state = read_state(self._state_file)
        pid, started = state.get("pid"), state.get("started")
        if pid is not None and started is not None and is_same_process(pid, started=started):
            send(pid, signal.SIGKILL)
            wait_until(lambda: start_time_of(pid) is None, seconds=5)

    def _choose_port(self) -> None:
        state: dict[str, Any] = {"port": free_port(), "password": secrets.token_urlsafe(24)} | read_state(
            self._state_file
        )
        if not is_port_free(int(state["port"])):
            state["port"] = free_port()
        write_state(self._state_file, state)

    def _spawn(self) -> None:
        with self._log_file.open("wb") as log:
            self._child = subprocess.Popen(
                [valkey_program(self._account), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"},
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGTERM),
                **run_as(self._account),
            )
        pid = self._child.pid
        write_state(self._state_file, read_state(self._state_file) | {"pid": pid, "started": start_time_of(pid)})
        # By standard input: what stands on a command line can be read by everybody on the machine.
        assert self._child.stdin is not None
        self._child.stdin.write(CONFIGURATION.format(port=self.port, password=self._password).encode())
        self._child.stdin.close()

    def _is_settled(self) -> bool:
        """Tell whether the server answers or has given up."""
        if not self.is_running():
            return True
        try:
            return self._ask("PING") == b"+PONG"
        except OSError:
            return False

    def _ask(self, command: str) -> bytes:
        """Send one command and return the first line of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"AUTH {self._password}\r\n{command}\r\n".encode())
            answer = connection.makefile("rb")
            answer.readline()
            return answer.readline().rstrip(b"\r\n")

    def _end_child(self) -> None:
        if self._child is not None:
            stop_child(self._child, steps=STOP_STEPS)
            self._child = None
