"""The `ObjectStore` port through obstore: a local folder (`file:///dir`) or S3 (`s3://bucket/prefix?endpoint=…`).

Objects are created once and never overwritten; which of two writers wins is decided by the store, not here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, S3Store

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import Secrets, StoredObject

CONNECT_SECONDS = 3
REQUEST_SECONDS = 60
MAX_RETRIES = 2
PROBE_PREFIX = "reachable"
LISTED_AT_ONCE = 1000


class StoredObjects:
    """The store at one address."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        _check_key(key)
        try:
            obstore.put(self._store, key, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            self._check_same(key, data)
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"store {key}") from None
        return StoredObject(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def observe_object(self, key: str) -> bytes | None:
        _check_key(key)
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"read {key}") from None

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        _check_key(key)
        try:
            whole = obstore.head(self._store, key)["size"]
            end = min(start + size, whole)
            return bytes(obstore.get_range(self._store, key, start=start, end=end)) if start < end else b""
        except FileNotFoundError:
            return None
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"read {key}") from None

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        _check_key(prefix)
        try:
            for chunk in obstore.list(self._store, prefix=prefix, chunk_size=LISTED_AT_ONCE):
                for found in chunk:
                    yield StoredObject(key=found["path"], size=found["size"], modified_at=found["last_modified"])
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"list {prefix}") from None

    def ensure_absent(self, key: str) -> None:
        _check_key(key)
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"delete {key}") from None

    def observe_reachable(self) -> None:
        try:
            # A listing, because a bucket that does not exist answers a look at one object as if only that were absent.
            obstore.list(self._store, prefix=PROBE_PREFIX, chunk_size=1).collect()
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing="answer") from None

    def _check_same(self, key: str, data: bytes) -> None:
        stored = self.observe_object(key)
        if stored is None:
            raise Transient(f"The object {key} was there and is gone again.")
        if stored != data:
            raise Permanent(f"The object {key} exists with other content, and is never overwritten.")


def open_store(
    url: str, *, access_key: str = "", secret_key: str = "", secrets: Secrets | None = None
) -> StoredObjects:
    """Return the store at `file:///folder` or `s3://bucket/prefix?endpoint=https://…&region=…`.

    `access_key` and `secret_key` are references; without them S3 takes its credential from the environment (AWS_…).
    Raises `Permanent` for an address that is not accepted.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        folder = Path(unquote(parts.path))
        try:
            return StoredObjects(LocalStore(folder, mkdir=True))
        except (BaseError, OSError, ValueError):
            raise Permanent(f"The folder {folder} for objects cannot be made.") from None
    if parts.scheme != "s3" or not parts.hostname or parts.username is not None:
        raise Permanent("An object store is named by file:///folder or s3://bucket?endpoint=https://host.")
    options = parse_qs(parts.query)
    if set(options) - {"endpoint", "region"}:
        raise Permanent("The address of an S3 store knows the options endpoint and region only.")
    settings: dict[str, Any] = {"region": options.get("region", ["us-east-1"])[0]}
    endpoint = options.get("endpoint", [""])[0]
    if endpoint:
        settings["endpoint"] = endpoint
        settings["virtual_hosted_style_request"] = False
    if access_key or secret_key:
        if secrets is None or not (access_key and secret_key):
            raise Permanent("An S3 credential is two references: the access key and the secret key.")
        settings["access_key_id"] = secrets.read(access_key).strip()
        settings["secret_access_key"] = secrets.read(secret_key).strip()
    return StoredObjects(_s3_store(parts.hostname, prefix=parts.path.strip("/"), settings=settings, endpoint=endpoint))


def _s3_store(bucket: str, *, prefix: str, settings: dict[str, Any], endpoint: str) -> S3Store:
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options={
                # http is for a server on the same private network; the settings' checks say where it may not be.
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=REQUEST_SECONDS),
            },
            retry_config={"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)},
            **settings,
        )
    except (BaseError, ValueError):
        # The library's message quotes its settings, the secret key among them.
        raise Permanent("The address of the S3 store is not accepted.") from None


def _check_key(key: str) -> None:
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or not key.isprintable():
        raise Permanent("The key of an object is a relative path of plain words.")


def _failure(error: Exception, *, doing: str) -> Transient | Permanent:
    # A listing and a deletion report a refusal as a generic error, in its words alone.
    is_refused = re.search(r"status code: 40[13]\b|AccessDenied", str(error)) is not None
    if is_refused or isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return Permanent(f"The object store does not let this credential {doing}.")
    if isinstance(error, InvalidPathError | ValueError):
        return Permanent(f"The object store cannot {doing}: the key is not one it accepts.")
    if "NoSuchBucket" in str(error):
        return Permanent(f"The object store could not {doing}: its bucket does not exist.")
    return Transient(f"The object store could not {doing} now.")
