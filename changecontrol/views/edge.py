"""Where HTTP becomes words of the domain, and the domain's refusals become HTTP, once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from changecontrol.access import Actor, Scope, scope_of
from changecontrol.errors import Conflict, DomainError, Forbidden, IllegalTransition, Invalid, NotFound
from changecontrol.models import ApiToken, User

STATUS: dict[type[DomainError], int] = {
    Forbidden: 403,
    IllegalTransition: 409,
    Conflict: 409,
    Invalid: 422,
    NotFound: 404,
}


def actor_of(request: HttpRequest, *, token: ApiToken | None = None, user: Any = None) -> Actor:
    """Return who asks, how and when they proved it, and from where. `user` stands in for the session's."""
    who = user or request.user
    methods = [] if token is not None else request.session.get("account_authentication_methods", [])
    at = max((record.get("at", 0) for record in methods), default=None)
    names = sorted({_name_of(record) for record in methods})
    return Actor(
        user=who if isinstance(who, User) else None,
        via="api" if request.path.startswith("/api/") else "page",
        source_address=address_of(request),
        correlation_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
        authentication=f"token {token.prefix}" if token is not None else "+".join(names) or "session",
        authenticated_at=datetime.fromtimestamp(at, UTC) if at else None,
        scopes=frozenset(token.scopes) if token is not None and token.scopes else None,
    )


def _name_of(record: dict[str, str]) -> str:
    """Return `password`, or for a second factor its type, such as `totp`."""
    method = record.get("method", "")
    return record.get("type", method) if method == "mfa" else method


def address_of(request: HttpRequest) -> str | None:
    """Return the client's address: the trusted proxy's word where one is configured, else the connection's own."""
    if settings.CLIENT_ADDRESS_HEADER:
        handed_on = request.headers.get(settings.CLIENT_ADDRESS_HEADER, "").split(",")[-1].strip()
        return handed_on or None
    return request.META.get("REMOTE_ADDR") or None


def scope_for(request: HttpRequest) -> Scope:
    """Return what the person holds, asked once a request. Pages and queries use it; actions ask afresh."""
    found: Scope | None = getattr(request, "_scope", None)
    if found is None:
        found = scope_of(actor_of(request))
        request._scope = found  # type: ignore[attr-defined]
    return found


class DomainErrorMiddleware:
    """Turns a domain error that a page did not handle into a page with its sentence and the right status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, problem: Exception) -> HttpResponse | None:
        if not isinstance(problem, DomainError):
            return None
        status = STATUS[type(problem)]
        context = {"sentence": problem.sentence, "status": status}
        return render(request, "changecontrol/refused.html", context, status=status)
