"""The `ObjectStore` port through obstore: a local folder (`file:///dir`), S3 (`s3://bucket/prefix?endpoint=…`), Google
Cloud Storage (`gs://bucket/prefix`) or Azure (`az://account/container/prefix`), these two with `?endpoint=…` as well.

Objects are created once and never overwritten; which of two writers wins is decided by the store, not here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
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

from changecontrol.adapters.object_lock import observe_s3_lock
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ObjectLock, Secrets, StoredObject

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

Result = TypeVar("Result")

AZURE_AUTHORITY = "https://login.microsoftonline.com"
CONNECT_SECONDS = 3
REQUEST_SECONDS = 60
MAX_RETRIES = 2
PROBE_PREFIX = "reachable"
LISTED_AT_ONCE = 1000
REFUSED = re.compile(
    r"status code: 40[13]\b|\(code: 40[13]\)|AccessDenied|ExpiredToken|InvalidToken|TokenRefreshRequired"
)
"""A listing and a deletion report a refusal as a generic error, in its words alone; S3 calls a session over a 400."""
PERHAPS_REFUSED = re.compile(r"status code: 400\b")
"""What a look at one object alone is answered, without a word, where the session is over."""
_RETRYING: RetryConfig = {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)}
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|specified (?:bucket|container) does not exist", re.IGNORECASE)
_SAYS = (
    (_NO_BUCKET, "The object store could not {doing}: its bucket does not exist."),
    (
        re.compile(r"InvalidObjectState|BlobArchived|BlobBeingRehydrated"),
        "The object store could not {doing}: it lies in an archive that is not read at once. Bring it back from there.",
    ),
    # In the answer to a batch, which is how Azure deletes, a lock, a hold, a lease and snapshots are 409 and 412.
    (
        re.compile(
            r"RetentionPolicyNotMet|ObjectUnderActiveHold|BlobImmutableDueTo|\(code: 4(?:09|12)\)", re.IGNORECASE
        ),
        "The object store could not {doing}: a lock, a hold, a lease or a snapshot of its own keeps it.",
    ),
)
"""What an error's words say, the narrower cause first: a store says 403 for a lock, too."""

# obstore takes from the environment whatever is not said. Said by their names, these keep a store with its own
# credential as it would be in an empty one.
_S3_PLAIN = {
    "skip_signature": False,
    "unsigned_payload": False,
    "s3_express": False,
    "request_payer": False,
    "conditional_put": "etag",
}
_AZURE_PLAIN = {"skip_signature": False, "use_emulator": False, "use_fabric_endpoint": False}
# Those that no word keeps from counting: a key of the environment would go to whatever server an address names.
_S3_ABOVE_ALL = ("AWS_SERVER_SIDE_ENCRYPTION",)
_GCS_ABOVE_ALL = ("GOOGLE_BEARER_TOKEN",)
_AZURE_ABOVE_ALL = ("AZURE_STORAGE_ENCRYPTION_KEY",)


class Renewal:
    """Reads a credential again that a store refuses. Of the one in use it keeps a digest alone, keyed by chance."""

    def __init__(self, reference: str, *, secrets: Secrets | None, opened: Callable[[str], Any]) -> None:
        self._reference = reference
        self._secrets = secrets
        self._opened = opened
        self._key = os.urandom(32)
        self._digest = b""

    def store(self) -> Any | None:
        """Return the store as the reference opens it now; None where it still says what was said before."""
        secret = _secret(self._reference, self._secrets)
        digest = hashlib.blake2b(secret.encode(), key=self._key).digest()
        if digest == self._digest:
            return None
        store = self._opened(secret)
        self._digest = digest
        return store


class StoredObjects:
    """The store at one address.

    Work of hours outlives a credential of one: where the store refuses it, its reference is read again, and the refusal
    is believed where that says nothing new, or what it says is refused as well.
    """

    def __init__(self, store: Any, *, renewal: Renewal | None = None) -> None:
        self._store = store
        self._renewal = renewal
        self._renewing = threading.Lock()

    def ensure_object(self, key: str, data: bytes) -> StoredObject:
        _check_key(key)
        try:
            self._ask(lambda store: obstore.put(store, key, data, mode="create", use_multipart=False))
        except AlreadyExistsError:
            self._check_same(key, data)
        except (BaseError, OSError, ValueError) as error:
            # Azure refuses whoever may only create before it looks whether the object is there, as by an attempt whose
            # answer was lost.
            if not (isinstance(error, PermissionDeniedError) and self._holds(key, data)):
                raise _failure(error, doing=f"store {key}") from None
        return StoredObject(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    def observe_object(self, key: str) -> bytes | None:
        _check_key(key)
        try:
            return self._ask(lambda store: bytes(obstore.get(store, key).bytes()))
        except FileNotFoundError as absent:
            _check_bucket(absent, doing=f"read {key}")
            return None
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"read {key}") from None

    def observe_range(self, key: str, *, start: int, size: int) -> bytes | None:
        _check_key(key)
        try:
            whole = self._ask(lambda store: obstore.head(store, key)["size"])
            end = min(start + size, whole)
            if start >= end:
                return b""
            return self._ask(lambda store: bytes(obstore.get_range(store, key, start=start, end=end)))
        except FileNotFoundError:
            # What is asked by HEAD is answered without words: this raises where the bucket itself is absent.
            self.observe_object(key)
            return None
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"read {key}") from None

    def observe_objects(self, prefix: str) -> Iterator[StoredObject]:
        _check_key(prefix)
        try:
            for found in self._listed(prefix):
                yield StoredObject(key=found["path"], size=found["size"], modified_at=found["last_modified"])
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"list {prefix}") from None

    def observe_lock(self, key: str) -> ObjectLock | None:
        _check_key(key)
        if not isinstance(self._store, S3Store):
            return None
        try:
            return self._ask(lambda store: observe_s3_lock(store, key))
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"tell the lock of {key}") from None

    def ensure_absent(self, key: str) -> None:
        _check_key(key)
        try:
            self._ask(lambda store: obstore.delete(store, key))
        except FileNotFoundError as absent:
            _check_bucket(absent, doing=f"delete {key}")
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing=f"delete {key}") from None

    def observe_reachable(self) -> None:
        try:
            # A listing, because a bucket that does not exist answers a look at one object as if only that were absent.
            self._ask(lambda store: obstore.list(store, prefix=PROBE_PREFIX, chunk_size=1).collect())
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error, doing="answer") from None

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.observe_object(key) == data
        except (Transient, Permanent):
            return False

    def _ask(self, act: Callable[[Any], Result]) -> Result:
        used, may_read = self._store, True
        while True:
            try:
                return act(used)
            except (BaseError, OSError, ValueError) as error:
                if not self._may_be_over(error):
                    raise
                following, has_read = self._following(used, may_read=may_read)
                if following is None:
                    raise
            used, may_read = following, may_read and not has_read

    def _listed(self, prefix: str) -> Iterator[Any]:
        """List in the order of keys, which is that of every store with a credential, and go on behind the last one."""
        used, may_read, last = self._store, True, ""
        while True:
            behind = {"offset": last} if last else {}
            try:
                for chunk in obstore.list(used, prefix=prefix, chunk_size=LISTED_AT_ONCE, **behind):
                    for found in chunk:
                        # Whoever reads this takes the time for each: one listing may outlive several credentials.
                        may_read, last = True, found["path"]
                        yield found
                return
            except (BaseError, OSError, ValueError) as error:
                if not self._may_be_over(error):
                    raise
                following, has_read = self._following(used, may_read=may_read)
                if following is None:
                    raise
            used, may_read = following, may_read and not has_read

    def _may_be_over(self, error: Exception) -> bool:
        is_perhaps = _is_refusal(error) or PERHAPS_REFUSED.search(str(error)) is not None
        return is_perhaps and self._renewal is not None

    def _following(self, refused: Any, *, may_read: bool) -> tuple[Any | None, bool]:
        """Return the store to ask after one that was refused, and whether its credential was read for this; or None.

        Each call reads once: what is refused with what was just read for it is refused. What others read meanwhile is
        tried without that. Raises `Transient` where nobody says now what the credential is.
        """
        assert self._renewal is not None
        with self._renewing:
            if self._store is not refused:
                return self._store, False
            following = self._renewal.store() if may_read else None
            self._store = following or refused
            return following, True

    def _check_same(self, key: str, data: bytes) -> None:
        stored = self.observe_object(key)
        if stored is None:
            raise Transient(f"The object {key} was there and is gone again.")
        if stored != data:
            raise Permanent(f"The object {key} exists with other content, and is never overwritten.")


def open_store(url: str, *, credential: str = "", secrets: Secrets | None = None) -> StoredObjects:
    """Return the store at an address.

    `credential` is a reference: for S3 to `ACCESS_KEY:SECRET_KEY` or the JSON of an AWS credential process; for Google
    Cloud to a service account's JSON; for Azure to an account's key, a shared access signature, or a service
    principal's JSON. Without one the usual variables of the environment count (AWS_…, GOOGLE_…, AZURE_…), and with one
    none of them does. Raises `Permanent` for an address or a credential that is not accepted, and for a variable that
    nothing said here would keep from counting.
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
    opened = {"s3": _open_s3, "gs": _open_gcs, "az": _open_azure}[parts.scheme]
    renewal = Renewal(credential, secrets=secrets, opened=lambda secret: opened(parts, secret=secret))
    return StoredObjects(renewal.store(), renewal=renewal if credential else None)


def _secret(credential: str, secrets: Secrets | None) -> str:
    if not credential:
        return ""
    if secrets is None:
        raise Permanent("A credential is a reference, and there is nothing here to read it with.")
    return secrets.read(credential).strip()


def _options(parts: SplitResult, *, known: Collection[str], kind: str) -> dict[str, str]:
    options = parse_qs(parts.query)
    if set(options) - set(known):
        raise Permanent(f"The address of {kind} knows {' and '.join(known)} only.")
    return {name: values[0] for name, values in options.items()}


def _open_s3(parts: SplitResult, *, secret: str) -> Any:
    options = _options(parts, known=("endpoint", "region"), kind="an S3 store")
    region, endpoint = options.get("region", "us-east-1"), options.get("endpoint", "")
    settings: dict[str, Any] = {"region": region}
    if secret:
        _check_environment(_S3_ABOVE_ALL)
        credential = _s3_credential(secret)
        # A token that is not named is that of the environment; a provider's is the one it says, or none.
        settings |= {**_S3_PLAIN, "credential_provider": lambda: credential}
        endpoint = endpoint or f"https://s3.{region}.amazonaws.com"
    if endpoint:
        # Called so, it wins over every other name of an endpoint in the environment.
        settings |= {"aws_endpoint_url_s3": endpoint, "virtual_hosted_style_request": False}
    return _opened(S3Store, parts.hostname or "", prefix=parts.path, endpoint=endpoint, settings=settings)


def _s3_credential(secret: str) -> dict[str, str | None]:
    if secret.startswith("{"):
        try:
            said = json.loads(secret)
            keys = {"access_key_id": said["AccessKeyId"], "secret_access_key": said["SecretAccessKey"]}
            keys |= {"token": said["SessionToken"]} if said.get("SessionToken") else {}
            is_whole = all(isinstance(one, str) and one for one in keys.values())
        except (ValueError, KeyError):
            is_whole = False
    else:
        access_key, _, secret_key = secret.partition(":")
        keys = {"access_key_id": access_key, "secret_access_key": secret_key}
        is_whole = bool(access_key and secret_key)
    if not is_whole:
        raise Permanent(
            "The credential of an S3 store is ACCESS_KEY:SECRET_KEY, or JSON with AccessKeyId, SecretAccessKey and "
            "SessionToken, as a credential process of AWS writes it."
        )
    return {"token": None, **keys, "expires_at": None}


def _open_gcs(parts: SplitResult, *, secret: str) -> Any:
    endpoint = _options(parts, known=("endpoint",), kind="a bucket of Google Cloud").get("endpoint", "")
    settings: dict[str, Any] = {}
    if secret:
        _check_environment(_GCS_ABOVE_ALL)
        settings |= {"service_account_key": secret, "skip_signature": False}
        endpoint = endpoint or "https://storage.googleapis.com"
    if endpoint:
        settings["base_url"] = endpoint.rstrip("/")
    return _opened(GCSStore, parts.hostname or "", prefix=parts.path, endpoint=endpoint, settings=settings)


def _open_azure(parts: SplitResult, *, secret: str) -> Any:
    endpoint = _options(parts, known=("endpoint",), kind="an Azure container").get("endpoint", "")
    container, _, prefix = parts.path.strip("/").partition("/")
    if not container:
        raise Permanent("The address of an Azure container is az://account/container.")
    account = parts.hostname or ""
    settings: dict[str, Any] = {"account_name": account, **_azure_credential(secret)}
    if secret:
        _check_environment(_AZURE_ABOVE_ALL)
        settings |= _AZURE_PLAIN
        endpoint = endpoint or f"https://{account}.blob.core.windows.net"
    if endpoint:
        settings["endpoint"] = endpoint.rstrip("/")
    return _opened(AzureStore, container, prefix=prefix, endpoint=endpoint, settings=settings)


def _azure_credential(secret: str) -> dict[str, str]:
    """Return a secret as obstore names it, and its kind: else a key in the environment would win over a signature."""
    if not secret:
        return {}
    if secret.startswith("{"):
        try:
            principal = json.loads(secret)
            names = {"client_id": principal["appId"], "client_secret": principal["password"]}
            names |= {"tenant_id": principal["tenant"], "authority_host": principal.get("authority", AZURE_AUTHORITY)}
            return {"credential_type": "client_secret", **names}
        except (ValueError, KeyError):
            raise Permanent(
                "A service principal of Azure is JSON with tenant, appId and password, as it was made."
            ) from None
    if "sig=" in secret:
        return {"credential_type": "sas_token", "sas_token": secret.removeprefix("?")}
    return {"credential_type": "access_key", "account_key": secret}


def _check_environment(names: Collection[str]) -> None:
    """Raise `Permanent` where the environment says for every store what a store with its own credential must not do."""
    if found := sorted({name.upper() for name in os.environ} & set(names)):
        raise Permanent(
            f"{' and '.join(found)} in the environment counts for every store, and this one has its own credential: "
            "take it out of there."
        )


def _opened(kind: Any, bucket: str, *, prefix: str, endpoint: str, settings: dict[str, Any]) -> Any:
    options: ClientConfig = {
        # http is for a server on the same private network; the settings' checks say where it may not be.
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    try:
        return kind(
            bucket, prefix=prefix.strip("/") or None, client_options=options, retry_config=_RETRYING, **settings
        )
    except (BaseError, ValueError, TypeError) as error:
        # The library's message quotes its settings, the secret key among them.
        if "service account path or service account key" in str(error):
            raise Permanent(
                "GOOGLE_SERVICE_ACCOUNT names a service account for every store, and this one has its own: say "
                "GOOGLE_APPLICATION_CREDENTIALS instead."
            ) from None
        raise Permanent(f"The address or credential of {_NAMES[kind]} is not accepted.") from None


_NAMES = {S3Store: "the S3 store", GCSStore: "the Google Cloud Storage", AzureStore: "the Azure container"}


def _check_key(key: str) -> None:
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\\" in key or not key.isprintable():
        raise Permanent("The key of an object is a relative path of plain words.")


def _check_bucket(absent: FileNotFoundError, *, doing: str) -> None:
    """Raise `Permanent` where an object is absent because its bucket is: then nothing is known of the object."""
    if _NO_BUCKET.search(str(absent)):
        raise _failure(absent, doing=doing) from None


def _failure(error: Exception, *, doing: str) -> Transient | Permanent:
    words = str(error)
    for pattern, sentence in _SAYS:
        if pattern.search(words):
            return Permanent(sentence.format(doing=doing))
    if _is_refusal(error):
        return Permanent(f"The object store does not let this credential {doing}.")
    if isinstance(error, InvalidPathError | ValueError):
        return Permanent(f"The object store cannot {doing}: the key is not one it accepts.")
    return Transient(f"The object store could not {doing} now.")


def _is_refusal(error: Exception) -> bool:
    is_one = isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError)
    return is_one or REFUSED.search(str(error)) is not None
