"""An S3 server on loopback that lets each session in for so many requests, and gives out another when asked.

As a vault's dynamic secret or a security token service does it: who comes with a session that is over is told so in the
words of S3, and of a HEAD in no words at all.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from changecontrol.adapters.object_store import open_store
from changecontrol.ports import ObjectStore

PAGE = 1000
PREFIX = "shops"
EXPIRED = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


@dataclass
class Sessions:
    """The sessions of a server, read as `Secrets` are. `lasts` is in requests, `given` counts those that were read.

    `tokens` are the session tokens that requests brought.
    """

    lasts: int
    is_stopped: bool = False
    given: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""
    _left: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, reference: str) -> str:
        with self._lock:
            if not self.is_stopped:
                self.given += 1
                self._left[f"session{self.given}"] = self.lasts
            if reference.endswith("#session"):
                held = {"Version": 1, "AccessKeyId": f"session{self.given}", "SecretAccessKey": "secret"}
                return json.dumps({**held, "SessionToken": f"token{self.given}"})
            return f"session{self.given}:secret"

    def lets_in(self, key: str) -> bool:
        with self._lock:
            self._left[key] = self._left.get(key, 0) - 1
            return self._left[key] >= 0

    def store(self, *, field: str = "pair") -> ObjectStore:
        url = f"s3://bucket/{PREFIX}?endpoint={self.url}"
        return open_store(url, credential=f"vault:aws/creds/backup#{field}", secrets=self)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sessions: Sessions

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix("/bucket").removeprefix(f"/{PREFIX}").strip("/")
        signed = re.search(r"Credential=(\w+)/", self.headers["Authorization"] or "")
        self.sessions.tokens.add(self.headers["X-Amz-Security-Token"])
        if signed is None or not self.sessions.lets_in(signed[1]):
            return self._answer(400, EXPIRED.encode())
        if not key:
            return self._answer(200, self._listing(parse_qs(parts.query)).encode())
        if self.command == "PUT":
            self.sessions.objects.setdefault(key, body)
            return self._answer(200, b"")
        if key not in self.sessions.objects:
            return self._answer(404, b"")
        content = self.sessions.objects[key]
        if (wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")) is None:
            return self._answer(200, content)
        start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
        return self._answer(206, content[start:end], within=f"bytes {start}-{end - 1}/{len(content)}")

    do_GET = do_PUT = do_HEAD = do_any  # noqa: N815

    def _listing(self, asked: dict[str, list[str]]) -> str:
        prefix = asked["prefix"][0].removeprefix(f"{PREFIX}/")
        behind = asked.get("continuation-token", asked.get("start-after", [""]))[0].removeprefix(f"{PREFIX}/")
        keys = [key for key in sorted(self.sessions.objects) if key.startswith(prefix) and key > behind]
        page, more = keys[:PAGE], len(keys) > PAGE
        rows = "".join(
            f"<Contents><Key>{PREFIX}/{escape(key)}</Key><Size>{len(self.sessions.objects[key])}</Size>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified><ETag>1</ETag></Contents>"
            for key in page
        )
        then = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{then}{rows}</ListBucketResult>"

    def _answer(self, status: int, content: bytes, *, within: str = "") -> None:
        self.send_response_only(status)
        if within:
            self.send_header("Content-Range", within)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@contextmanager
def sessions_of(lasts: int) -> Iterator[Sessions]:
    """Serve a bucket for the time of the block."""
    sessions = Sessions(lasts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"sessions": sessions}))
    server.daemon_threads = True
    sessions.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield sessions
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
