"""OpenSSH's own server on loopback, as an ordinary user, with bare repositories behind it."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from deployments.adapters.fakes.git import BareRepository

SSHD = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
START_SECONDS = 60.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SshServer:
    """`host_line` is what known_hosts must hold; `key` opens the door for the user of the address."""

    url: str
    host_line: str
    key: str
    repository: Path


def user_for_sshd() -> str:
    """Return whom the server runs as and lets in: ourselves, or for root an ordinary user with a shell, or nobody."""
    if os.getuid():
        return getpass.getuser()
    return next((entry.pw_name for entry in pwd.getpwall() if entry.pw_uid and entry.pw_shell.endswith("sh")), "")


def make_key() -> tuple[str, str]:
    """Return a private key in OpenSSH's format and its public line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


@contextmanager
def serve_ssh(files: dict[str, str | bytes | None]) -> Iterator[SshServer]:
    """Serve one repository with one commit of these files. Pytest's own folders are closed to other users."""
    assert SSHD is not None
    user = user_for_sshd()
    folder = Path(tempfile.mkdtemp(prefix="changecontrol-sshd-", dir="/var/tmp"))
    try:
        BareRepository(folder / "estate.git").commit(files)
        host_key, host_line = make_key()
        key, allowed = make_key()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (folder / "host").touch(mode=0o600)
        (folder / "host").write_text(host_key)
        (folder / "authorized").write_text(allowed)
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
        )
        command = [SSHD, "-D", "-e", "-f", str(folder / "config")]
        if not os.getuid():
            subprocess.run(["chown", "-R", user, folder], check=True)
            command = ["setpriv", f"--reuid={user}", "--clear-groups", *command]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(command, stderr=log)
        try:
            _wait(port)
            yield SshServer(
                url=f"ssh://{user}@127.0.0.1:{port}{folder}/estate.git",
                host_line=f"[127.0.0.1]:{port} {host_line}\n",
                key=key,
                repository=folder / "estate.git",
            )
        finally:
            server.terminate()
            server.wait(_STOP_SECONDS)
    finally:
        shutil.rmtree(folder)


def _wait(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
