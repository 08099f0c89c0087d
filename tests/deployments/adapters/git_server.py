"""`git http-backend` behind a small HTTP server on loopback, with a token and failures on request."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOKEN = "token-of-the-source"
PACK_BYTES = 50_000


class GitServer:
    """Serves the bare repositories in `root`. `cut_after_push` loses the answer of the next push."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.authorizations: list[str] = []
        self.is_token_wanted = True
        self.cut_after_push = False
        self.status: int | None = None
        self.redirect = ""
        self.bytes_per_second = 0
        self.packs = 0
        """How many packs of some size were sent."""


@contextmanager
def serve_git(root: Path, *, tls: ssl.SSLContext | None = None) -> Iterator[GitServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    handle = GitServer(root, f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}")
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

    def _do(self) -> None:
        handle: GitServer = self.server.handle  # type: ignore[attr-defined]
        body = self._body()
        authorization = self.headers.get("Authorization", "")
        handle.authorizations.append(authorization)
        if handle.redirect:
            self._answer(302, {"Location": handle.redirect + self.path})
        elif handle.status is not None:
            self._answer(handle.status, {})
        elif handle.is_token_wanted and not _is_token(authorization):
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'})
        else:
            self._run(handle, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _run(self, handle: GitServer, body: bytes) -> None:
        parts = urlsplit(self.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(handle.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.receivepack",
            "GIT_CONFIG_VALUE_0": "true",
            "HOME": str(handle.root),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": "changecontrol",
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        if handle.cut_after_push and self.command == "POST" and parts.path.endswith("git-receive-pack"):
            handle.cut_after_push = False
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(int(headers.pop("Status", "200")[:3]), headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        handle: GitServer = self.server.handle  # type: ignore[attr-defined]
        handle.packs += len(content) > PACK_BYTES
        part = max(handle.bytes_per_second // 10, 1) if handle.bytes_per_second else max(len(content), 1)
        for start in range(0, len(content), part):
            try:
                self.wfile.write(content[start : start + part])
            except ConnectionError:
                return  # whoever asked was ended in the middle
            time.sleep(0.1 if handle.bytes_per_second else 0)

    do_GET = do_POST = _do  # noqa: N815 the names http.server calls

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _is_token(authorization: str) -> bool:
    scheme, _, encoded = authorization.partition(" ")
    return scheme == "Basic" and base64.b64decode(encoded).decode().endswith(f":{TOKEN}")
