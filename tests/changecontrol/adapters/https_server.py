"""A small HTTPS server whose answers a test scripts, with a certificate of its own. Loopback only."""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "token-of-the-executor"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer. `cut` closes the connection without an answer; `wait` is in seconds."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    wait: float = 0.0


Answerer = Callable[[Request], Reply]


@cache
def make_certificate() -> tuple[str, str]:
    """Return a self-signed certificate for 127.0.0.1 and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


class HttpsServer:
    """The server, the requests it received, and what answers them (`answer`, replaceable at any time)."""

    def __init__(self, server: ThreadingHTTPServer, answer: Answerer, *, scheme: str) -> None:
        self.requests: list[Request] = []
        self.answer = answer
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"

    def kubeconfig(
        self, *, token: str = TOKEN, user: Mapping[str, str] | None = None, cluster: Mapping[str, str] | None = None
    ) -> str:
        ca = base64.b64encode(make_certificate()[0].encode()).decode()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "one", "user": "executor"}}],
            "clusters": [
                {"name": "one", "cluster": {"server": self.url, "certificate-authority-data": ca, **(cluster or {})}}
            ],
            "users": [{"name": "executor", "user": dict(user or {"token": token})}],
        }
        return yaml.safe_dump(document)


@contextmanager
def serve(
    answer: Answerer, *, folder: Path, scheme: str = "https", asks_client_certificate: bool = False
) -> Iterator[HttpsServer]:
    """Serve until the block ends; `folder` holds the certificate for OpenSSL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if scheme == "https":
        certificate, key = make_certificate()
        pem = folder / "server.pem"
        pem.write_text(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        if asks_client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    handle = HttpsServer(server, answer, scheme=scheme)
    server.handle = handle  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield handle
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ssl.SSLError):
            # The client went away, which some tests make it do.
            self.close_connection = True

    def _do(self) -> None:
        parts = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode("utf-8", "replace")
        handle: HttpsServer = self.server.handle  # type: ignore[attr-defined]
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), dict(self.headers), body, raw)
        handle.requests.append(request)
        reply = handle.answer(request)
        if reply.wait:
            time.sleep(reply.wait)
        if reply.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        content_type, content = _bytes_of(reply.body)
        self.send_response(reply.status)
        if "Content-Type" not in reply.headers:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = do_PUT = _do  # noqa: N815 the names http.server calls

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _bytes_of(body: Any) -> tuple[str, bytes]:
    if isinstance(body, bytes):
        return "application/octet-stream", body
    if isinstance(body, str):
        return "text/plain", body.encode()
    return "application/json", json.dumps(body).encode()
