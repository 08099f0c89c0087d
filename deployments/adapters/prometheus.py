"""The `Indicators` port against a Prometheus query API: instant queries, read strictly.

An answer that is not exactly what the API promises is a failure, never "no data".
"""

from __future__ import annotations

import json
import math
import re
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from changecontrol.errors import Permanent, Transient
from changecontrol.ports import Secrets
from deployments.ports import Sample

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
QUERY_TIMEOUT_SECONDS = 8
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_SERIES = 10_000
MAX_QUERY_CHARACTERS = 20_000
MAX_WAIT_SECONDS = 300.0

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WORDS_FOR_VALUES = {"NaN": math.nan, "+Inf": math.inf, "Inf": math.inf, "-Inf": -math.inf}


def open_indicators(
    *, url: str, credential: str = "", authority: str = "", secrets: Secrets | None = None
) -> PrometheusIndicators:
    """Return the metrics server at a base address, such as `https://metrics.example/prometheus`.

    `credential` is a reference to a bearer token, `authority` one to the PEM of the only authority to trust; without
    it the system's are trusted. Raises `Permanent` for an address that is not accepted.
    """
    return PrometheusIndicators(url=url, credential=credential, authority=authority, secrets=secrets)


class PrometheusIndicators:
    """One server. The token is read anew for each query."""

    def __init__(self, *, url: str, credential: str = "", authority: str = "", secrets: Secrets | None = None) -> None:
        self._url = _judge_url(url, has_token=bool(credential))
        self._credential = credential
        self._secrets = secrets
        self._host = urlsplit(url).netloc
        self._session = requests.Session()
        # Neither a proxy nor a .netrc of the environment may see the query or add a credential.
        self._session.trust_env = False
        if authority:
            self._session.mount("https://", _OneAuthority(_context_of(self._read(authority))))

    def observe_query(self, query: str, *, at: datetime) -> Sequence[Sample]:
        if not query.strip() or len(query) > MAX_QUERY_CHARACTERS:
            raise Permanent(f"A query has between 1 and {MAX_QUERY_CHARACTERS:,} characters.")
        status, headers, body = self._ask(query, at=at)
        if status != 200:
            raise self._refusal(status, headers, body)
        return _samples(body)

    def _ask(self, query: str, *, at: datetime) -> tuple[int, Mapping[str, str], Any]:
        data = {"query": query, "time": f"{at.astimezone(UTC).timestamp():.3f}", "timeout": f"{QUERY_TIMEOUT_SECONDS}s"}
        try:
            with self._session.post(
                f"{self._url}/api/v1/query",
                data=data,
                headers=self._headers(),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                raw = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
                if len(raw) > MAX_ANSWER_BYTES:
                    raise Permanent(f"The query answers more than {MAX_ANSWER_BYTES // 2**20} MiB. Aggregate it.")
                return response.status_code, response.headers, _parse(raw)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error) or "doesn't match" in str(error):
                raise Permanent(f"The certificate of the metrics server at {self._host} is not trusted.") from None
            raise Transient(f"The metrics server at {self._host} broke off the TLS connection.") from None
        except requests.exceptions.Timeout:
            raise Transient(f"The metrics server at {self._host} did not answer in time.") from None
        except (requests.exceptions.RequestException, OSError):
            raise Transient(f"The metrics server at {self._host} cannot be reached.") from None

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "changecontrol"}
        if self._credential:
            token = self._read(self._credential).strip()
            if not token.isascii() or any(character.isspace() for character in token):
                raise Permanent("The token of the metrics server holds characters a token cannot have.")
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _read(self, reference: str) -> str:
        if self._secrets is None:
            raise Permanent("The metrics server is configured by reference, and there is nothing to read it with.")
        return self._secrets.read(reference)

    def _refusal(self, status: int, headers: Mapping[str, str], body: Any) -> Transient | Permanent:
        answer = body if isinstance(body, dict) else {}
        reason = " ".join(str(answer.get("error", "")).split())[:300]
        if status in (400, 422) and answer.get("errorType") in ("bad_data", "execution"):
            return Permanent(f"The metrics server cannot evaluate this query: {reason or 'no reason given'}.")
        if status in (401, 403):
            return Permanent(f"The metrics server at {self._host} does not accept this credential (HTTP {status}).")
        if status == 429 or status >= 500:
            wait = headers.get("Retry-After", "")
            after = min(float(wait), MAX_WAIT_SECONDS) if wait.isdigit() else None
            return Transient(f"The metrics server at {self._host} could not answer now (HTTP {status}).", after=after)
        return Permanent(f"The metrics server at {self._host} answered HTTP {status}. Check its address.")


class _OneAuthority(HTTPAdapter):
    """Trusts what its TLS context trusts, and not the public authorities that requests would add."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **words: Any) -> None:
        super().init_poolmanager(*args, **words, ssl_context=self._context)

    def cert_verify(self, *args: Any, **words: Any) -> None:
        """Leave the connection's authorities as the context has them."""


def _context_of(pem: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise Permanent("The certificate authority of the metrics server is not a PEM certificate.") from None


def _samples(body: Any) -> tuple[Sample, ...]:
    try:
        if body["status"] != "success":
            raise _unreadable()
        data = body["data"]
        if data["resultType"] == "scalar":
            return (_sample({}, data["result"]),)
        if data["resultType"] != "vector":
            raise Permanent(f"A rule needs a query for numbers at one moment, not a {str(data['resultType'])[:20]}.")
        series = data["result"]
        if not isinstance(series, list):
            raise _unreadable()
        if len(series) > MAX_SERIES:
            raise Permanent(f"The query answers {len(series):,} series; {MAX_SERIES:,} is the most. Aggregate it.")
        return tuple(_sample(_labels(one["metric"]), one["value"]) for one in series)
    except (KeyError, TypeError, ValueError, OverflowError):
        # A histogram has no "value", a proxy's page has no "status": neither is a number.
        raise _unreadable() from None


def _labels(metric: Any) -> dict[str, str]:
    if not isinstance(metric, dict) or not all(isinstance(value, str) for value in metric.values()):
        raise _unreadable()
    return metric


def _sample(labels: Mapping[str, str], pair: Any) -> Sample:
    at, text = pair
    if isinstance(at, bool) or not isinstance(at, int | float) or not isinstance(text, str):
        raise _unreadable()
    if text not in _WORDS_FOR_VALUES and not _NUMBER.fullmatch(text):
        raise _unreadable()
    value = _WORDS_FOR_VALUES[text] if text in _WORDS_FOR_VALUES else float(text)
    return Sample(labels=labels, at=datetime.fromtimestamp(at, UTC), value=value)


def _unreadable() -> Transient:
    return Transient("The metrics server gave an answer that cannot be read.")


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _judge_url(url: str, *, has_token: bool) -> str:
    if not url:
        raise Permanent("No metrics server is named, so this rule cannot be judged.")
    try:
        parts = urlsplit(url)
        is_sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_sound = False
    if not is_sound or parts.scheme not in ("https", "http") or parts.query or parts.fragment:
        raise Permanent("A metrics server is named by its http or https address.")
    if parts.username is not None:
        raise Permanent("The address of a metrics server holds no credential; name a token by reference instead.")
    if has_token and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Permanent("A token is sent to a metrics server over https only.")
    return url.rstrip("/")
