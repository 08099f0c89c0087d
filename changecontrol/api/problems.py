"""Every error of the API as `application/problem+json` (RFC 9457): a sentence, and the field it concerns."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

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
    406: "Not available in this format",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "The answers do not make sense",
}
NOTHING_HERE = "There is nothing here that you may see."


def handle(problem: Exception, context: dict[str, Any]) -> Response | None:
    """Map an exception to a problem document; what is not known here is a fault and stays one.

    Nothing is rolled back here: actions have their own transactions, and a refusal recorded in the trail stays.
    """
    # Whatever format the answer would have had, a refusal is JSON.
    context["request"].accepted_renderer = JSONRenderer()
    context["request"].accepted_media_type = JSONRenderer.media_type
    if isinstance(problem, DomainError):
        fields = problem.fields if isinstance(problem, Invalid) else {}
        return document(STATUS[type(problem)], problem.sentence, fields=fields)
    if isinstance(problem, Http404):
        return document(404, NOTHING_HERE)
    if isinstance(problem, PermissionDenied):
        return document(403, "You may not do this.")
    if isinstance(problem, exceptions.ValidationError):
        fields, sentence = _fields(problem.detail)
        return document(422, sentence, fields=fields)
    if isinstance(problem, exceptions.APIException):
        challenge = getattr(problem, "auth_header", None)
        headers = {"WWW-Authenticate": challenge} if challenge else {}
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
                # What is said of a whole list or object is said of the field it stands in.
                walk(path if path and key == "non_field_errors" else f"{path}.{key}" if path else str(key), inner)
        elif isinstance(value, list) and all(not isinstance(item, (dict, list)) for item in value):
            found[path or "non_field_errors"] = [str(item) for item in value]
        elif isinstance(value, list):
            for position, inner in enumerate(value):
                walk(f"{path}.{position}" if path else str(position), inner)
        else:
            found[path or "non_field_errors"] = [str(value)]

    walk("", detail)
    where, sentences = next(iter(found.items()), ("non_field_errors", ["The request does not make sense."]))
    return found, sentences[0] if where == "non_field_errors" else f"{where}: {sentences[0]}"
