"""The `ObjectStore` port through obstore: a local folder (`file:///dir`), S3 (`s3://bucket/prefix?endpoint=…`), Google
Cloud Storage (`gs://bucket/prefix`) or Azure (`az://account/container/prefix`).

Objects are created once and never overwritten; which of two writers wins is decided by the store, not here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import Secrets, StoredObject

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_SECONDS = 3
REQUEST_SECONDS = 60
MAX_RETRIES = 2
PROBE_PREFIX = "reachable"
LISTED_AT_ONCE = 1000
_RETRYING: RetryConfig = {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)}


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


def open_store(url: str, *, credential: str = "", secrets: Secrets | None = None) -> StoredObjects:
    """Return the store at an address.

    `credential` is a reference: to `ACCESS_KEY:SECRET_KEY` for S3, to a service account's JSON for Google Cloud,
    to an account's key for Azure. Without one the usual variables of the environment count (AWS_…, GOOGLE_…, AZURE_…).
    Raises `Permanent` for an address or a credential that is not accepted.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        folder = Path(unquote(parts.path))
        try:
            return StoredObjects(LocalStore(folder, mkdir=True))
        except (BaseError, OSError, ValueError):
            raise Permanent(f"The folder {folder} for objects cannot be made.") from None
    if parts.scheme not in ("s3", "gs", "az") or not parts.hostname or parts.username is not None:
        raise Permanent(
            "An object store is named by file:///folder, s3://bucket?endpoint=https://host, gs://bucket or "
            "az://account/container."
        )
    secret = _secret(credential, secrets)
    if parts.scheme == "s3":
        return StoredObjects(_open_s3(parts, secret=secret))
    if parts.query:
        raise Permanent("The address of this store knows no options.")
    return StoredObjects(_open_gcs(parts, secret=secret) if parts.scheme == "gs" else _open_azure(parts, secret=secret))


def _secret(credential: str, secrets: Secrets | None) -> str:
    if not credential:
        return ""
    if secrets is None:
        raise Permanent("A credential is a reference, and there is nothing here to read it with.")
    return secrets.read(credential).strip()


def _open_s3(parts: SplitResult, *, secret: str) -> S3Store:
    options = parse_qs(parts.query)
    if set(options) - {"endpoint", "region"}:
        raise Permanent("The address of an S3 store knows the options endpoint and region only.")
    settings: dict[str, Any] = {"region": options.get("region", ["us-east-1"])[0]}
    endpoint = options.get("endpoint", [""])[0]
    if endpoint:
        settings["endpoint"] = endpoint
        settings["virtual_hosted_style_request"] = False
    if secret:
        access_key, colon, secret_key = secret.partition(":")
        if not (access_key and colon and secret_key):
            raise Permanent("The credential of an S3 store is ACCESS_KEY:SECRET_KEY.")
        settings |= {"access_key_id": access_key, "secret_access_key": secret_key}
    return _s3_store(parts.hostname or "", prefix=parts.path.strip("/"), settings=settings, endpoint=endpoint)


def _open_gcs(parts: SplitResult, *, secret: str) -> GCSStore:
    settings: dict[str, Any] = {"service_account_key": secret} if secret else {}
    try:
        return GCSStore(
            parts.hostname or "",
            prefix=parts.path.strip("/") or None,
            client_options=_client_options(),
            retry_config=_RETRYING,
            **settings,
        )
    except (BaseError, ValueError):
        raise Permanent("The address or credential of the Google Cloud Storage is not accepted.") from None


def _open_azure(parts: SplitResult, *, secret: str) -> AzureStore:
    container, _, prefix = parts.path.strip("/").partition("/")
    settings: dict[str, Any] = {"account_key": secret} if secret else {}
    try:
        return AzureStore(
            container,
            prefix=prefix or None,
            account_name=parts.hostname or "",
            client_options=_client_options(),
            retry_config=_RETRYING,
            **settings,
        )
    except (BaseError, ValueError):
        raise Permanent("The address or credential of the Azure container is not accepted.") from None


def _client_options(*, allow_http: bool = False) -> ClientConfig:
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }


def _s3_store(bucket: str, *, prefix: str, settings: dict[str, Any], endpoint: str) -> S3Store:
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            # http is for a server on the same private network; the settings' checks say where it may not be.
            client_options=_client_options(allow_http=endpoint.startswith("http://")),
            retry_config=_RETRYING,
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
