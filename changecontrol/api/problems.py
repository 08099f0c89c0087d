"""Every error of the API as `application/problem+json` (RFC 9457): a sentence, and the field it concerns."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from changecontrol.errors import Conflict, DomainError, Forbidden, IllegalTransition, Invalid, NotFound

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[DomainError], int] = {
    Forbidden: status.HTTP_403_FORBIDDEN,
    IllegalTransition: status.HTTP_409_CONFLICT,
    Conflict: status.HTTP_409_CONFLICT,
    Invalid: status.HTTP_422_UNPROCESSABLE_ENTITY,
    NotFound: status.HTTP_404_NOT_FOUND,
}
TITLES = {
    400: "The request cannot be read",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    415: "Unsupported media type",
    422: "The answers do not make sense",
    429: "Too many requests",
}


def handle(problem: Exception, context: dict[str, Any]) -> Response | None:
    """Map an exception to a problem document; what is not known here is a fault and stays one."""
    if isinstance(problem, DomainError):
        set_rollback()
        fields = problem.fields if isinstance(problem, Invalid) else {}
        return document(STATUS[type(problem)], problem.sentence, fields=fields)
    if isinstance(problem, Http404):
        return document(404, "There is nothing here that you may see.")
    if isinstance(problem, PermissionDenied):
        return document(403, "You may not do this.")
    if isinstance(problem, exceptions.ValidationError):
        set_rollback()
        fields, sentence = _fields(problem.detail)
        return document(422, sentence, fields=fields)
    if isinstance(problem, exceptions.APIException):
        headers = {}
        if challenge := getattr(problem, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        if wait := getattr(problem, "wait", None):
            headers["Retry-After"] = str(int(wait))
        return document(problem.status_code, str(problem.detail), headers=headers)
    return None


def document(
    code: int, detail: str, *, fields: dict[str, list[str]] | None = None, headers: dict[str, str] | None = None
) -> Response:
    body: dict[str, Any] = {"type": "about:blank", "title": TITLES.get(code, "Error"), "status": code, "detail": detail}
    if fields:
        body["errors"] = fields
    return Response(body, status=code, headers=headers, content_type=MEDIA_TYPE)


def _fields(detail: Any) -> tuple[dict[str, list[str]], str]:
    """Flatten DRF's nested errors to `{"links.0.url": ["…"]}` and one sentence."""
    found: dict[str, list[str]] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else str(key), inner)
        elif isinstance(value, list) and all(not isinstance(item, (dict, list)) for item in value):
            found[path or "non_field_errors"] = [str(item) for item in value]
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                walk(f"{path}.{position}" if path else str(position), inner)
        else:
            found[path or "non_field_errors"] = [str(value)]

    walk("", detail)
    first = next(iter(found.items()), ("", ["The request does not make sense."]))
    return found, first[1][0] if first[0] == "non_field_errors" else f"{first[0]}: {first[1][0]}"
