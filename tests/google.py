"""A Google Cloud Storage on loopback: as much of its XML API as obstore speaks, answered as Google documents it.

Service accounts sign their own tokens, which are verified; who only reads may not write; a bucket's retention keeps
objects. No published emulator takes a PUT of the XML API, so this one is ours: it proves the adapter, not Google.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

WRITES, READS = "roles/storage.objectAdmin", "roles/storage.objectViewer"


@dataclass(frozen=True, slots=True)
class Kept:
    data: bytes
    generation: int
    at: float


@dataclass
class Google:
    """What the server holds. `kept` are keys that retention keeps; `listed_at_once` is the longest page of a list."""

    buckets: dict[str, dict[str, Kept]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    listed_at_once: int = 1000
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _accounts: dict[str, tuple[rsa.RSAPublicKey, str]] = field(default_factory=dict)

    def make_account(self, name: str, role: str = "") -> str:
        """Return the JSON of a service account with a role; without one it is one that the project does not know."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        email = f"{name}@project.iam.gserviceaccount.com"
        if role:
            self._accounts[email] = key.public_key(), role
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {"type": "service_account", "private_key_id": name, "private_key": pem.decode()}
        return json.dumps(account | {"client_email": email, "token_uri": "https://oauth2.googleapis.com/token"})

    def role_of(self, authorization: str) -> str:
        """Return the role of whoever signed a token; empty where nobody known did, or long ago."""
        _, _, token = authorization.partition("Bearer ")
        head, _, rest = token.partition(".")
        claims, _, signature = rest.partition(".")
        try:
            told = json.loads(_decoded(claims))
            key, role = self._accounts[told["iss"]]
            key.verify(_decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, InvalidSignature):
            return ""
        return role if told["iat"] - 60 <= time.time() <= told["exp"] else ""


@contextmanager
def google(*, buckets: tuple[str, ...] = ("evidence",)) -> Iterator[Google]:
    """Serve until the block ends."""
    state = Google(buckets={name: {} for name in buckets})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.state = state  # type: ignore[attr-defined]
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refusal(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state: Google = self.server.state  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        headers: dict[str, str]
        try:
            with state.lock:
                self._check_role(state.role_of(self.headers.get("Authorization", "")))
                if bucket not in state.buckets:
                    raise _Refusal(404, "NoSuchBucket")
                objects = state.buckets[bucket]
                if not key:
                    status, headers, content = 200, {}, _listing(objects, parse_qs(parts.query), state=state)
                elif self.command == "PUT":
                    status, headers, content = self._put(objects, key, body)
                elif self.command == "DELETE":
                    status, headers, content = self._delete(objects, key, state=state)
                else:
                    status, headers, content = self._get(objects, key)
        except _Refusal as refusal:
            words = f"<Code>{refusal.code}</Code><Message>Words.</Message><Details>{escape(key)}</Details>"
            content = f"<?xml version='1.0' encoding='UTF-8'?><Error>{words}</Error>".encode()
            status, headers = refusal.status, {"Content-Type": "application/xml; charset=UTF-8"}
        self._answer(status, headers, content)

    def _check_role(self, role: str) -> None:
        if not role:
            raise _Refusal(401, "AuthenticationRequired")
        if role != WRITES and self.command not in ("GET", "HEAD"):
            raise _Refusal(403, "AccessDenied")

    def _put(self, objects: dict[str, Kept], key: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is not None and int(wanted) != (objects[key].generation if key in objects else 0):
            raise _Refusal(412, "PreconditionFailed")
        objects[key] = Kept(body, time.time_ns() // 1000, time.time())
        return 200, _facts(objects[key]), b""

    def _delete(self, objects: dict[str, Kept], key: str, *, state: Google) -> tuple[int, dict[str, str], bytes]:
        if key not in objects:
            raise _Refusal(404, "NoSuchKey")
        if key in state.kept:
            raise _Refusal(403, "RetentionPolicyNotMet")
        del objects[key]
        return 204, {}, b""

    def _get(self, objects: dict[str, Kept], key: str) -> tuple[int, dict[str, str], bytes]:
        if key not in objects:
            raise _Refusal(404, "NoSuchKey")
        one = objects[key]
        ranged = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if ranged is None:
            return 200, _facts(one), one.data
        start, end = int(ranged[1]), min(int(ranged[2]), len(one.data) - 1)
        if start > end:
            raise _Refusal(416, "InvalidRange")
        return 206, _facts(one) | {"Content-Range": f"bytes {start}-{end}/{len(one.data)}"}, one.data[start : end + 1]

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_DELETE = _do  # noqa: N815 the names http.server calls

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def _facts(one: Kept) -> dict[str, str]:
    return {
        "ETag": f'"{hashlib.md5(one.data, usedforsecurity=False).hexdigest()}"',
        "Last-Modified": formatdate(one.at, usegmt=True),
        "x-goog-generation": str(one.generation),
    }


def _listing(objects: dict[str, Kept], asked: dict[str, list[str]], *, state: Google) -> bytes:
    after = asked.get("continuation-token", [""])[0]
    below = asked.get("prefix", [""])[0]
    names = sorted(name for name in objects if name.startswith(below) and name > after)
    page = names[: min(state.listed_at_once, int(asked.get("max-keys", ["1000"])[0]))]
    contents = "".join(
        f"<Contents><Key>{escape(name)}</Key><Generation>{objects[name].generation}</Generation>"
        f"<LastModified>{time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(objects[name].at))}</LastModified>"
        f'<ETag>"{objects[name].generation}"</ETag><Size>{len(objects[name].data)}</Size></Contents>'
        for name in page
    )
    is_more = len(page) < len(names)
    more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if is_more else ""
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>"
        f"<Prefix>{escape(below)}</Prefix><KeyCount>{len(page)}</KeyCount>"
        f"<IsTruncated>{str(is_more).lower()}</IsTruncated>{more}{contents}</ListBucketResult>"
    ).encode()


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
