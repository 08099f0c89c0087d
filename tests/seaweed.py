"""A real S3 server on loopback: SeaweedFS with credentials of who writes, who only reads, and who owns the buckets."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.ports import ObjectStore
from changecontrol.project.local.processes import waiting_lock

PROGRAM = Path(sys.executable).parent / "weed"
START_SECONDS = 90
GRPC_OFFSET = 10_000
"""SeaweedFS answers gRPC at each port plus this."""
NOT_WANTED = ("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false")
"""What listens on a port of its own unless told not to, where a second server would not start, and what calls home."""
LOCK = Path(tempfile.gettempdir()) / f"changecontrol-seaweed-{os.geteuid()}.lock"
"""Held while a server starts: between choosing its ports and listening there another would choose the same."""
WRITER, READER = ("writer", "writer-secret"), ("reader", "reader-secret")
OWNER = ("owner", "owner-secret")
"""Who makes buckets and says how they keep what is in them; no backup has it."""
LOCKED_FOR_A_DAY = b"""<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<ObjectLockEnabled>Enabled</ObjectLockEnabled>
<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule>
</ObjectLockConfiguration>"""


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server. `url` is its S3 endpoint; `process` may be stopped and continued by tests."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def seaweed(folder: Path, *, buckets: tuple[str, ...] = ("evidence",), volumes: int = 20) -> Iterator[Seaweed]:
    """Start SeaweedFS below a folder, make the buckets, and end it with the block. A volume holds 512 MB."""
    config = folder / "identities.json"
    identities = [_identity(*WRITER, "Read", "Write", "List"), _identity(*READER, "Read", "List")]
    identities.append(_identity(*OWNER, "Admin", "Read", "Write", "List"))
    config.write_text(json.dumps({"identities": identities}))
    with waiting_lock(LOCK):
        master, volume, filer, s3 = _free_ports(4)
        command: list[str | Path] = [PROGRAM, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"]
        command += ["-filer", "-s3", f"-s3.config={config}", f"-volume.max={volumes}", "-master.volumeSizeLimitMB=512"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *NOT_WANTED],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            )
        server = Seaweed(url=f"http://127.0.0.1:{s3}", process=process)
        try:
            _wait_until_it_stores(server)
        except BaseException:
            process.kill()
            process.wait()
            raise
    try:
        made = "".join(f"s3.bucket.create -name {bucket}\n" for bucket in buckets)
        shell: list[str | Path] = [PROGRAM, "shell", f"-master=127.0.0.1:{master}"]
        subprocess.run(shell, input=made, text=True, cwd=folder, check=True, capture_output=True, timeout=START_SECONDS)
        yield server
    finally:
        process.kill()
        process.wait()


def open_s3(url: str, *, credential: tuple[str, str] = WRITER) -> ObjectStore:
    """Open a bucket of a server, `s3://bucket/prefix?endpoint=…`, as whoever writes unless another is named."""
    return open_store(url, credential="env:PAIR", secrets=FakeSecrets({"env:PAIR": ":".join(credential)}))


def asked(
    server: Seaweed, method: str, path: str, *, credential: tuple[str, str] = OWNER, body: bytes = b"", **headers: str
) -> requests.Response:
    """Ask S3 for what no port of ours does, signed (AWS signature version 4)."""
    stamp, digest = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}", hashlib.sha256(body).hexdigest()
    url = urlsplit(f"{server.url}/{path}")
    signed = {"host": url.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    signed |= {name.replace("_", "-"): value for name, value in headers.items()}
    names = ";".join(sorted(signed))
    query = "&".join(one if "=" in one else f"{one}=" for one in sorted(url.query.split("&")) if one)
    lines = [f"{name}:{signed[name]}" for name in sorted(signed)]
    call = "\n".join([method, url.path, query, *lines, "", names, digest])
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(call.encode()).hexdigest()])
    key = f"AWS4{credential[1]}".encode()
    for word in (*scope.split("/"), text):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    who = f"AWS4-HMAC-SHA256 Credential={credential[0]}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return requests.request(method, url.geturl(), data=body, headers={**signed, "authorization": who}, timeout=30)


def make_locked_bucket(server: Seaweed, name: str) -> None:
    """Make a bucket that locks each object for a day."""
    made = asked(server, "PUT", name, x_amz_bucket_object_lock_enabled="true")
    locked = asked(server, "PUT", f"{name}?object-lock", body=LOCKED_FOR_A_DAY)
    assert (made.status_code, locked.status_code) == (200, 200)


def _identity(key: str, secret: str, *actions: str) -> dict[str, object]:
    return {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}


def _free_ports(count: int) -> list[int]:
    """Return ports of which nobody, nor another of these, uses the one for gRPC either."""
    taken: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < count:
            one, other = socket.socket(), socket.socket()
            taken += [one, other]
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + GRPC_OFFSET > 65_535:
                continue
            try:
                other.bind(("127.0.0.1", port + GRPC_OFFSET))
            except OSError:
                continue
            ports.append(port)
    finally:
        for one in taken:
            one.close()
    return ports


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
