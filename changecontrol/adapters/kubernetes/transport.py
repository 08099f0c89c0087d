"""Sends one request to one API server and returns status, headers and JSON. The only importer of the client library.

No redirect is followed, no proxy asked, nothing retried: a write whose answer was lost is the caller's to observe.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject

from changecontrol.adapters.kubernetes.kubeconfig import ClusterAccess
from changecontrol.adapters.kubernetes.refusals import refusal_of
from changecontrol.errors import Permanent, Transient

MAX_ANSWER_BYTES = 64 * 1024 * 1024
THREADS = 8
"""Requests that one call makes at the same time."""
CALLERS = 8
"""Calls that are made to one cluster at the same time: as many as a wave has environments looked at together."""
POOL_SIZE = CALLERS * THREADS
"""A connection beyond these is thrown away after one request, and costs the next its TLS handshake."""

APPLY_PATCH = "application/apply-patch+yaml"
JSON = "application/json"


_until: ContextVar[float] = ContextVar("until", default=float("inf"))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound all requests made here together: none begins, or is waited for, once the time is up."""
    token = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is parsed JSON, or text where it is none."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Transport:
    """One cluster's connections. `read_access` is asked again, once per request, when the server answers 401."""

    def __init__(
        self,
        read_access: Callable[[], ClusterAccess],
        *,
        connect_seconds: float,
        read_seconds: float,
    ) -> None:
        self._read_access = read_access
        self._timeout = (connect_seconds, read_seconds)
        self._lock = threading.Lock()
        self._access = read_access()
        self._rest = _rest_client(self._access)

    @property
    def server(self) -> str:
        """Return the server's host and port, for sentences."""
        return urlsplit(self._access.server).netloc

    def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Answer:
        """Return the answer, whatever its status but 401: that raises `NotAllowed`. No answer raises `Transient`."""
        used = self._access
        answer = self._send(
            method, path, doing=doing, params=params, body=body, content_type=content_type, accept=accept
        )
        if answer.status == 401 and self._renew(used):
            answer = self._send(
                method, path, doing=doing, params=params, body=body, content_type=content_type, accept=accept
            )
        if answer.status == 401:
            raise refusal_of(401, answer.body, headers=answer.headers, doing=doing)
        return answer

    def _renew(self, used: ClusterAccess) -> bool:
        """Read the credential again; True where it differs from the one the server refused."""
        with self._lock:
            if self._access != used:
                return True
            access = self._read_access()
            if access == used:
                return False
            if access.server != used.server:
                raise Permanent("The credential now names another server. Check the cluster's address before going on.")
            self._access, self._rest = access, _rest_client(access)
            return True

    def _send(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        accept: str,
    ) -> Answer:
        access = self._access
        rest: Any = self._rest
        left = _until.get() - time.monotonic()
        if left <= 0:
            raise Transient(f"The cluster at {self.server} answers too slowly to {doing}.")
        url = access.server + path + (f"?{urlencode(params)}" if params else "")
        headers = {"Accept": accept, "User-Agent": "changecontrol"}
        if access.token:
            headers["Authorization"] = f"Bearer {access.token}"
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            timeout = tuple(min(seconds, left) for seconds in self._timeout)
            response = rest.request(method, url, headers=headers, body=body, _request_timeout=timeout)
            raw = response.response.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            if len(raw) > MAX_ANSWER_BYTES:
                response.response.close()
                raise Permanent(f"The answer of the cluster is larger than {MAX_ANSWER_BYTES // 2**20} MiB.")
            response.response.release_conn()
        except ApiException as error:
            raise _tls_error(str(error.reason), server=self.server) from None
        except urllib3.exceptions.HTTPError as error:
            raise _network_error(error, server=self.server, doing=doing) from None
        return Answer(status=response.status, headers=dict(response.headers), body=_parse(raw))


def path_of(*segments: str) -> str:
    """Return a path of these segments, each quoted, so that a name can never climb out of its place."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw[:2000].decode("utf-8", "replace")


def _rest_client(access: ClusterAccess) -> RESTClientObject:
    configuration = Configuration(
        host=access.server, retries=False, connection_pool_maxsize=POOL_SIZE, no_proxy="*", tls_server_name=None
    )
    # The client would take a proxy from the environment, and send the token through it.
    configuration.proxy = None
    rest = RESTClientObject(configuration)
    rest.pool_manager.connection_pool_kw["ssl_context"] = _tls_context(access)
    if access.tls_server_name:
        rest.pool_manager.connection_pool_kw["server_hostname"] = access.tls_server_name
        rest.pool_manager.connection_pool_kw["assert_hostname"] = access.tls_server_name
    return rest


def _tls_context(access: ClusterAccess) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=access.ca_pem or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if access.certificate_pem:
            _load_client_certificate(context, access)
    except (ssl.SSLError, ValueError):
        raise Permanent("The certificates of this kubeconfig cannot be read.") from None
    return context


def _load_client_certificate(context: ssl.SSLContext, access: ClusterAccess) -> None:
    # OpenSSL reads it from a file only; the file is private and gone before the first request.
    descriptor, name = tempfile.mkstemp(prefix="client-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(access.certificate_pem.rstrip() + "\n" + access.key_pem.rstrip() + "\n")
        # An empty passphrase keeps OpenSSL from asking the terminal for one.
        context.load_cert_chain(name, password="")
    finally:
        os.unlink(name)


def _tls_error(reason: str, *, server: str) -> Transient | Permanent:
    if "CERTIFICATE_VERIFY_FAILED" in reason or "doesn't match" in reason or "CertificateError" in reason:
        return Permanent(
            f"The certificate of the cluster at {server} is not one this credential trusts. Check its certificate "
            "authority and address."
        )
    return Transient(f"The cluster at {server} broke off the TLS connection.")


def _network_error(error: urllib3.exceptions.HTTPError, *, server: str, doing: str) -> Transient:
    if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
        return Transient(f"The cluster at {server} cannot be reached.")
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return Transient(f"The cluster at {server} did not answer in time when asked to {doing}.")
    return Transient(f"The connection to the cluster at {server} was cut when asked to {doing}; it may have done it.")
