"""Turns what an API server answers instead of success into this project's errors, each with a sentence a user may read.

Pure. Which answers mean what was recorded from a real API server; `tests/contracts/adapters` replays them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from changecontrol.adapters.kubernetes.redaction import redact_text
from changecontrol.errors import Permanent, Transient
from changecontrol.ports import ApplyConflict, FieldConflict, NotAllowed, OverQuota, Rejected

MAX_WAIT_SECONDS = 300.0
MAX_MESSAGE_CHARACTERS = 500

_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]*)"')
_RBAC = re.compile(r"cannot (?P<verb>[\w*]+) (?P<what>resource|path)\b")
_RBAC_RESOURCE = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>[\w*]+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
)
_RIGHTS = "deploy/rbac.yaml"
_OPERATED, _JOBS, _REHEARSED = "deploy/rbac-cloudnativepg.yaml", "deploy/rbac-jobs.yaml", "deploy/rbac-rehearsal.yaml"
_GRANTED_BY = {
    ("postgresql.cnpg.io", "backups"): {"create": _OPERATED, "get": _OPERATED, "patch": _OPERATED},
    ("postgresql.cnpg.io", "clusters"): dict.fromkeys(("create", "delete", "get", "list", "patch"), _OPERATED),
    ("barmancloud.cnpg.io", "objectstores"): {"get": _OPERATED, "list": _OPERATED},
    ("", "secrets"): {"get": _OPERATED},
    ("", "pods"): {"delete": _JOBS, "get": _JOBS},
    ("", "events"): {"list": _JOBS},
    ("", "namespaces"): dict.fromkeys(("create", "delete", "get", "patch"), _REHEARSED),
}
"""Which file grants a right, by API group and resource, then verb; what is not here stands in `deploy/rbac.yaml`."""
_TYPED = (
    "failed to create typed patch object",
    "strict decoding error",
    "failed to create typed live object",
    "unable to convert unstructured object",
)
_REJECTED_STATUSES = {400, 405, 406, 413, 415, 422}


def refusal_of(
    status: int, body: Any, *, headers: Mapping[str, str], doing: str, kind: str = "", server: str = "The cluster"
) -> Transient | Permanent:
    """Return the error for an answer of 400 or more.

    `doing` names verb and object ("apply Deployment shop/web"); `kind` is the object's, so that a Secret's content is
    not quoted back; `server` begins the sentence.
    """
    answer = body if isinstance(body, Mapping) else {}
    message = _message(answer, kind=kind)
    if status == 401:
        return NotAllowed(f"{server} no longer accepts this credential. Renew it where it is stored.")
    if status == 403:
        return _forbidden(answer, doing=doing, message=message, server=server)
    if status == 404:
        return _missing(answer, doing=doing, message=message, server=server)
    if status == 409:
        return _conflict(answer, doing=doing, server=server)
    if status == 429:
        return Transient(f"{server} asks for fewer requests.", after=retry_after(headers))
    if status in _REJECTED_STATUSES or _is_typed_refusal(status, answer):
        return Rejected(f"{server} refused to {doing}: {message}")
    if status >= 500 or status in (408, 410):
        return Transient(f"{server} could not {doing} now (HTTP {status}).", after=retry_after(headers))
    return Permanent(f"{server} answered HTTP {status} when asked to {doing}.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a server asks to wait, at most `MAX_WAIT_SECONDS`, or None (RFC 9110 10.2.3)."""
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), "").strip()
    if not value:
        return None
    if value.isdigit():
        return min(float(value), MAX_WAIT_SECONDS)
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max((at - datetime.now(UTC)).total_seconds(), 0.0), MAX_WAIT_SECONDS)


def _causes(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    details = answer.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    return [cause for cause in causes if isinstance(cause, Mapping)] if isinstance(causes, list) else []


def _message(answer: Mapping[str, Any], *, kind: str) -> str:
    if kind == "Secret":
        # The server quotes the offending value, which here is the secret.
        fields = ", ".join(sorted({str(cause["field"]) for cause in _causes(answer) if cause.get("field")}))
        return f"see {fields} (the values are withheld)." if fields else "the reason is withheld, as it may quote it."
    message = redact_text(" ".join(str(answer.get("message") or "no reason given").split()))
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return message if message.endswith((".", "…")) else f"{message}."


def _is_typed_refusal(status: int, answer: Mapping[str, Any]) -> bool:
    # A field in an apply that is unknown, or cannot be read (a quantity "much"), is answered with 500, though it is the
    # manifest's fault and stays so.
    return status == 500 and any(words in str(answer.get("message", "")) for words in _TYPED)


def _forbidden(answer: Mapping[str, Any], *, doing: str, message: str, server: str) -> Transient | Permanent:
    raw = str(answer.get("message", ""))
    if any(cause.get("reason") == "NamespaceTerminating" for cause in _causes(answer)):
        return Rejected(f"{server} refused to {doing}: its namespace is being deleted. Wait until it exists again.")
    right = _RBAC_RESOURCE.search(raw)
    if right:
        resource = f"{right['resource']}.{right['group']}" if right["group"] else right["resource"]
        return NotAllowed(
            f"The executor may not {doing}: {right['user']} lacks the right to {right['verb']} {resource}. "
            f"Grant it as {_file_of(right)} does."
        )
    if _RBAC.search(raw) or answer.get("reason") != "Forbidden" or ("is forbidden" not in raw and "denied" not in raw):
        return NotAllowed(f"The executor may not {doing}. Grant it the rights of deploy/rbac.yaml.")
    if "exceeded quota" in raw:
        return OverQuota(f"The quota of the namespace is too small to {doing}: {message}")
    return Rejected(f"A policy of the cluster refused to {doing}: {message}")


def _file_of(right: re.Match[str]) -> str:
    return _GRANTED_BY.get((right["group"], right["resource"]), {}).get(right["verb"], _RIGHTS)


def _missing(answer: Mapping[str, Any], *, doing: str, message: str, server: str) -> Permanent:
    details = answer.get("details")
    if isinstance(details, Mapping) and details.get("kind") == "namespaces":
        name = details.get("name", "")
        return Rejected(f"{server} has no namespace {name}, so it cannot {doing}. Create the namespace first.")
    if not isinstance(details, Mapping):
        return Rejected(f"{server} could not {doing}: it does not serve this kind.")
    return Rejected(f"{server} could not {doing}: {message}")


def _conflict(answer: Mapping[str, Any], *, doing: str, server: str) -> Transient | Permanent:
    conflicts = tuple(
        FieldConflict(manager=manager["manager"], path=str(cause.get("field", "")))
        for cause in _causes(answer)
        if cause.get("reason") == "FieldManagerConflict"
        and (manager := _MANAGER.search(str(cause.get("message", "")))) is not None
    )
    if not conflicts:
        # "the object has been modified", "already exists": a race that the next look at the world settles.
        return Transient(f"{server} saw another writer when asked to {doing}.")
    owners = ", ".join(sorted({conflict.manager for conflict in conflicts}))
    paths = ", ".join(sorted({conflict.path for conflict in conflicts})[:10])
    return ApplyConflict(
        f"Could not {doing}: {paths} belongs to {owners}. Take the field out of the definition, or have the other "
        "manager release it.",
        conflicts=conflicts,
    )
