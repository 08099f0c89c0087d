"""As much of S3 as a create-only store uses: conditional PUT, GET, a listing, and a refusal of wrong keys.

It does not check signatures, only which access key signed. `TEST_S3_URL` runs the contract against a real server.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from tests.changecontrol.adapters.https_server import Reply, Request

ACCESS_KEY = "access-key"


@dataclass(slots=True)
class SmallS3:
    """One bucket, `evidence`."""

    objects: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Reply:
        headers = {name.lower(): value for name, value in request.headers.items()}
        if f"Credential={ACCESS_KEY}/" not in headers.get("authorization", ""):
            return _error(403, "InvalidAccessKeyId")
        bucket, _, key = request.path.lstrip("/").partition("/")
        if bucket != "evidence":
            return _error(404, "NoSuchBucket")
        if not key:
            return _listing()
        with self.lock:
            if request.method == "PUT":
                return self._put(key, request.raw, is_create=headers.get("if-none-match") == "*")
            if key not in self.objects:
                return _error(404, "NoSuchKey")
            return Reply(200, self.objects[key], headers=_STAMPS)

    def _put(self, key: str, data: bytes, *, is_create: bool) -> Reply:
        if is_create and key in self.objects:
            return _error(412, "PreconditionFailed")
        self.objects[key] = data
        return Reply(200, "", headers=_STAMPS)


_STAMPS = {"ETag": '"1"', "Last-Modified": "Mon, 05 Jan 2026 12:00:00 GMT"}


def _error(status: int, code: str) -> Reply:
    return Reply(status, f"<Error><Code>{escape(code)}</Code><Message>no</Message></Error>")


def _listing() -> Reply:
    return Reply(200, "<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>")
