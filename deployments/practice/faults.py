"""Faults on demand: what to answer wrongly, how often, to which requests. Bounded, and cleared in one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deployments.practice import status
from deployments.practice.status import ApiError

MAXIMUM_RULES = 100
MAXIMUM_SECONDS = 120.0
_STATUSES: dict[str, tuple[int, str, str]] = {
    "401": (401, "Unauthorized", "Unauthorized"),
    "403": (403, "Forbidden", "forbidden by a practice fault"),
    "409": (409, "Conflict", "Operation cannot be fulfilled: a practice fault"),
    "429": (429, "TooManyRequests", "The server has received too many requests and has asked us to try again later"),
    "500": (500, "InternalError", "Internal error occurred: a practice fault"),
    "503": (503, "ServiceUnavailable", "the server is currently unable to handle the request"),
}
KINDS = (*_STATUSES, "slow", "cut-before", "cut-after")


@dataclass(slots=True)
class Fault:
    """One rule. `times` is how many requests it still strikes, None until cleared; `skip` lets the first ones pass."""

    kind: str
    method: str = ""
    path: str = ""
    times: int | None = 1
    skip: int = 0
    seconds: float = 1.0
    struck: int = 0

    def matches(self, method: str, path: str) -> bool:
        return (not self.method or self.method == method) and path.startswith(self.path)

    def error(self) -> ApiError | None:
        """Return the answer in place of the real one; None where the connection itself is at fault."""
        if self.kind not in _STATUSES:
            return None
        code, reason, message = _STATUSES[self.kind]
        headers = {"Retry-After": str(max(1, round(self.seconds)))} if code in (429, 503) else {}
        details = {"retryAfterSeconds": max(1, round(self.seconds))} if code == 429 else None
        return ApiError(code, reason, message, headers=headers, details=details)

    def shown(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "method": self.method, "path": self.path, "times": self.times, "skip": self.skip,
            "seconds": self.seconds, "struck": self.struck,
        }  # fmt: skip


class Faults:
    """The rules in force, first match first."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._rules)

    def add(self, body: Any) -> list[dict[str, Any]]:
        """Add one rule, or a list of them. Raises the 400 for one that makes no sense."""
        asked = body if isinstance(body, list) else [body]
        rules = [_rule(entry) for entry in asked]
        if len(self._rules) + len(rules) > MAXIMUM_RULES:
            raise status.bad_request(f"at most {MAXIMUM_RULES} fault rules at a time")
        self._rules += rules
        return self.shown()

    def clear(self) -> None:
        self._rules.clear()

    def shown(self) -> list[dict[str, Any]]:
        return [rule.shown() for rule in self._rules]

    def strike(self, method: str, path: str) -> Fault | None:
        """Return the fault this request suffers, and count it."""
        for rule in self._rules:
            if not rule.matches(method, path) or rule.times == 0:
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.times is not None:
                rule.times -= 1
            rule.struck += 1
            return rule
        return None


def _rule(entry: Any) -> Fault:
    if not isinstance(entry, dict) or str(entry.get("kind")) not in KINDS:
        raise status.bad_request(f"a fault names its kind: one of {', '.join(KINDS)}")
    unknown = set(entry) - {"kind", "method", "path", "times", "skip", "seconds"}
    if unknown:
        raise status.bad_request(f"a fault has no field {sorted(unknown)[0]!r}")
    times, seconds, skip = entry.get("times", 1), entry.get("seconds", 1.0), entry.get("skip", 0)
    if times is not None and (not isinstance(times, int) or times < 1):
        raise status.bad_request("a fault's times is a number above zero, or null for until cleared")
    if not isinstance(seconds, int | float) or not 0 <= seconds <= MAXIMUM_SECONDS:
        raise status.bad_request(f"a fault's seconds lie between 0 and {MAXIMUM_SECONDS:.0f}")
    if not isinstance(skip, int) or skip < 0:
        raise status.bad_request("a fault's skip is a number of requests")
    method, path = str(entry.get("method", "")).upper(), str(entry.get("path", ""))
    return Fault(str(entry["kind"]), method, path, times, skip, float(seconds))
