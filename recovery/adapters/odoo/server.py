"""A copy of Odoo that runs: a child on loopback with no cron, no workers and limits, gone with whoever started it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from changecontrol.errors import Permanent
from changecontrol.processes import stop_child
from recovery.adapters.odoo.api import OdooRefused
from recovery.adapters.odoo.commands import configure, database_of, spawn, trouble
from recovery.adapters.odoo.places import STOP_STEPS, Place, is_reachable

PORT_ATTEMPTS = 3
LOOK_SECONDS = 0.25
TAKEN = "Address already in use"


@dataclass(frozen=True, slots=True)
class Booted:
    """A copy that answers at `address`."""

    address: str
    child: subprocess.Popen[bytes]
    seconds: float


def link_filestore(place: Place, *, database: str, filestore: Path) -> None:
    """Put a restored filestore where Odoo looks for it. It is a copy: Odoo may write to it, and has to own it.

    Raises `Permanent` where it is not there, or the user that Odoo runs as cannot reach it.
    """
    if not filestore.is_dir():
        raise Permanent(f"The restored filestore {filestore} is not there.")
    if place.account is not None:
        for folder, _, files in os.walk(filestore):
            for path in (folder, *(f"{folder}/{name}" for name in files)):
                os.chown(path, place.account.uid, place.account.gid, follow_symlinks=False)
    if not is_reachable(filestore, account=place.account):
        raise Permanent(f"The user that Odoo runs as cannot reach {filestore}: choose another place.")
    (place.data / "filestore" / database).symlink_to(filestore.resolve())


@contextmanager
def booted(place: Place, *, url: str, seconds: float) -> Iterator[Booted]:
    """Start Odoo on a copy and wait until it answers; it ends with the block. Raises `OdooRefused` if it does not."""
    running: Booted | None = None
    for attempt in range(PORT_ATTEMPTS):
        try:
            running = _start(place, url=url, seconds=seconds)
            break
        except OdooRefused:
            # Somebody took the port between our look and Odoo's: choose again.
            if attempt == PORT_ATTEMPTS - 1 or TAKEN not in place.log.read_text(errors="replace"):
                raise
            place.log.write_bytes(b"")
    assert running is not None
    try:
        yield running
    finally:
        stop_child(running.child, steps=STOP_STEPS)


def _start(place: Place, *, url: str, seconds: float) -> Booted:
    began = time.monotonic()
    port, other_port = _free_ports()
    configure(
        place,
        url=url,
        more={
            "dbfilter": f"^{re.escape(database_of(url))}$",
            "http_interface": "127.0.0.1",
            "http_port": str(port),
            "gevent_port": str(other_port),
            "log_level": "warn",
        },
    )
    arguments = ["-c", str(place.configuration), "--workers=0", "--max-cron-threads=0"]
    child = spawn(place, arguments, url=url)
    address = f"http://127.0.0.1:{port}"
    try:
        while not _answers(address):
            if child.poll() is not None:
                raise OdooRefused(f"Odoo ended with code {child.returncode} before it answered{trouble(place)}.")
            if time.monotonic() - began > seconds:
                raise OdooRefused(f"Odoo did not answer within {seconds:.0f} s{trouble(place)}.")
            time.sleep(LOOK_SECONDS)
    except BaseException:
        stop_child(child, steps=STOP_STEPS)
        raise
    return Booted(address=address, child=child, seconds=time.monotonic() - began)


def _free_ports() -> tuple[int, int]:
    """Return two loopback ports that nobody listens on at this moment."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _answers(address: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(f"{address}/web/health", timeout=10).status_code == 200
        except requests.RequestException:
            return False
