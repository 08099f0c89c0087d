"""Object stores for tests: servers of each kind with who writes, who only reads, and somebody unknown to them.

SeaweedFS and our own Google start here. `TEST_AZURE_URL` and `TEST_GCS_URL` name servers of your own; where they are
unset, what asks for one is skipped.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

import pytest

from changecontrol.adapters.fakes.objects import FakeSecrets
from changecontrol.adapters.object_store import open_store
from changecontrol.ports import ObjectStore
from tests.google import READS, WRITES, google
from tests.seaweed import READER, WRITER, seaweed

KINDS = ("seaweed", "google", "azure", "google of your own")
LOCAL_KINDS = ("seaweed", "google", "azure")
"""Those that a proxy can stand before: a store that is reached by TLS notices one."""
SIGNATURE_VERSION = "2020-08-04"


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket of a server, by its address, and people's secrets. A secret that is empty nobody has.

    A creator makes, lists and reads objects, and replaces and deletes none.
    """

    url: str
    writer: str
    reader: str
    stranger: str
    creator: str = ""

    def open(self, who: str = "writer", *, bucket: str = "", prefix: str = "", endpoint: str = "") -> ObjectStore:
        """Open it as one of them: below a prefix, another bucket of it, or by way of a proxy."""
        secret: str = getattr(self, who)
        if not secret:
            pytest.skip(f"There is no secret for a {who} here.")
        url = self.address(bucket=bucket, prefix=prefix, endpoint=endpoint)
        return open_store(url, credential="env:STORE", secrets=FakeSecrets({"env:STORE": secret}))

    def address(self, *, bucket: str = "", prefix: str = "", endpoint: str = "") -> str:
        parts = urlsplit(self.url)
        below = [part for part in parts.path.split("/") if part]
        host = parts.netloc
        if parts.scheme == "az":
            below[0] = bucket or below[0]
        else:
            host = bucket or host
        below += [prefix] if prefix else []
        query = f"endpoint={endpoint}" if endpoint else parts.query
        return urlunsplit(SplitResult(parts.scheme, host, "/".join(["", *below]), query, ""))

    @property
    def endpoint(self) -> str:
        return urlsplit(self.url).query.removeprefix("endpoint=")


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Place]:
    """Yield a place of a kind; a server that is started ends with the block."""
    if kind == "seaweed":
        with seaweed(folder) as server:
            url = f"s3://evidence?endpoint={server.url}"
            yield Place(url, ":".join(WRITER), ":".join(READER), f"{WRITER[0]}:guessed")
    elif kind == "google":
        with google() as state:
            accounts = state.make_account("writer", WRITES), state.make_account("reader", READS)
            yield Place(f"gs://evidence?endpoint={state.url}", *accounts, state.make_account("stranger"))
    elif kind == "azure":
        yield _azure()
    else:
        url, key = _asked("TEST_GCS_URL"), _asked("TEST_GCS_KEY")
        with google() as state:
            yield Place(url, key, os.environ.get("TEST_GCS_READER", ""), state.make_account("stranger"))


def signed(key: str, *, account: str, container: str, permissions: str, expires_at: datetime) -> str:
    """Return a shared access signature for a container of Azure, as its owner makes one."""
    until = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    resource = f"/blob/{account}/{container}"
    told = [permissions, "", until, resource, "", "", "https,http", SIGNATURE_VERSION, "c", *[""] * 6]
    digest = hmac.new(base64.b64decode(key), "\n".join(told).encode(), hashlib.sha256).digest()
    words = {"sv": SIGNATURE_VERSION, "sr": "c", "sp": permissions, "se": until, "spr": "https,http"}
    return urlencode(words | {"sig": base64.b64encode(digest).decode()})


def _azure() -> Place:
    url, key = _asked("TEST_AZURE_URL"), _asked("TEST_AZURE_KEY")
    parts = urlsplit(url)
    container = parts.path.strip("/").partition("/")[0]
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    def may(permissions: str) -> str:
        account = parts.hostname or ""
        return signed(key, account=account, container=container, permissions=permissions, expires_at=tomorrow)

    return Place(url, key, may("rl"), base64.b64encode(bytes(64)).decode(), may("rcl"))


def _asked(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        pytest.skip(f"{name} is not set: it names a server of your own.")
    return value
