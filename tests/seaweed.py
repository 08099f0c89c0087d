"""A real S3 server on loopback: SeaweedFS with two credentials, one that writes and one that only reads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

PROGRAM = Path(sys.executable).parent / "weed"
START_SECONDS = 90
GRPC_OFFSET = 10_000
"""SeaweedFS answers gRPC at each port plus this."""
WRITER, READER = ("writer", "writer-secret"), ("reader", "reader-secret")


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server. `url` is its S3 endpoint; `process` may be stopped and continued by tests."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def seaweed(folder: Path, *, buckets: tuple[str, ...] = ("evidence",)) -> Iterator[Seaweed]:
    """Start SeaweedFS below a folder, make the buckets, and end it with the block."""
    config = folder / "identities.json"
    identities = [_identity(*WRITER, "Read", "Write", "List"), _identity(*READER, "Read", "List")]
    config.write_text(json.dumps({"identities": identities}))
    master, volume, filer, s3 = (_free_port() for _ in range(4))
    command: list[str | Path] = [PROGRAM, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
    command += ["-filer", "-s3", f"-s3.config={config}", "-volume.max=20", "-master.volumeSizeLimitMB=512"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder)}
        )
    try:
        server = Seaweed(url=f"http://127.0.0.1:{s3}", process=process)
        _wait_until_it_stores(server)
        made = "".join(f"s3.bucket.create -name {bucket}\n" for bucket in buckets)
        shell: list[str | Path] = [PROGRAM, "shell", f"-master=127.0.0.1:{master}"]
        subprocess.run(shell, input=made, text=True, cwd=folder, check=True, capture_output=True, timeout=START_SECONDS)
        yield server
    finally:
        process.kill()
        process.wait()


def _identity(key: str, secret: str, *actions: str) -> dict[str, object]:
    return {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}


def _free_port() -> int:
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + GRPC_OFFSET > 65_535:
                continue
            try:
                other.bind(("127.0.0.1", port + GRPC_OFFSET))
            except OSError:
                continue
            return port


def _wait_until_it_stores(server: Seaweed) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while time.monotonic() < ends_at:
        assert server.process.poll() is None, "SeaweedFS ended at once"
        try:
            if requests.get(f"{server.url}/healthz", timeout=5).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise AssertionError("SeaweedFS did not start")
