"""A plain HTTPS client for a Kubernetes API server: what the contract suites speak through."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` is JSON where it is JSON, else text."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class Client:
    """One keep-alive connection. `bare` presents no certificate, where `context` presents one."""

    url: str
    context: ssl.SSLContext
    token: str | None
    bare: ssl.SSLContext | None = None
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    def ask(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json",
        token: str | None = "",
        **params: str,
    ) -> Answer:  # fmt: skip
        headers = {"User-Agent": "python-httpx/0.27"}
        used = self.token if token == "" else token
        if token != "" and self.bare is not None:
            with closing(Client(self.url, self.bare, used)) as other:
                return other.ask(method, path, body, content_type=content_type, **params)
        if used is not None:
            headers["Authorization"] = f"Bearer {used}"
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = body if isinstance(body, str) else json.dumps(body)
        if self._connection is None:
            parts = urlsplit(self.url)
            self._connection = http.client.HTTPSConnection(
                str(parts.hostname), parts.port or 443, context=self.context, timeout=30
            )
        target = quote(path) + (f"?{urlencode(params)}" if params else "")
        try:
            self._connection.request(method, target, data, headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        found = {name.lower(): value for name, value in response.getheaders()}
        is_json = found.get("content-type", "").startswith("application/json") and params.get("watch") is None
        return Answer(response.status, found, json.loads(raw) if is_json else raw.decode())

    def apply(self, path: str, body: Any, *, manager: str = "changecontrol", **params: str) -> Answer:
        return self.ask("PATCH", path, body, content_type=APPLY, fieldManager=manager, **params)

    def until(self, path: str, holds: Callable[[Answer], bool], *, seconds: float = 60, **params: str) -> Answer:
        """Ask again until the answer is as wanted; return the last one either way."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.ask("GET", path, **params)
            if holds(answer) or time.monotonic() > deadline:
                return answer
            time.sleep(0.01)

    def first_line(self, path: str, **params: str) -> str:
        """Read one line of a stream and hang up."""
        connection = http.client.HTTPSConnection(
            str(urlsplit(self.url).hostname), urlsplit(self.url).port or 443, context=self.context, timeout=60
        )
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection.request("GET", f"{quote(path)}?{urlencode(params)}", headers=headers)
        response = connection.getresponse()
        line = response.readline().decode()
        response.close()
        connection.close()
        return line

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
