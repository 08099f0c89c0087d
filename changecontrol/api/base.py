"""What every call of the API shares: who acts, what is in sight, and one answer to one `Idempotency-Key`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.db import transaction
from django.db.models import Model, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from changecontrol import access, clock
from changecontrol.access import Actor, Scope
from changecontrol.errors import Conflict, DomainError, Invalid, NotFound
from changecontrol.models import ApiToken, IdempotencyKey
from changecontrol.views.edge import actor_of

KEY_LENGTH_LIMIT = 200

H = TypeVar("H", bound=Callable[..., Response])
M = TypeVar("M", bound=Model)

PROBLEM = OpenApiResponse(OpenApiTypes.OBJECT, description="A problem document (RFC 9457): `detail` says it in words.")
REFUSALS = {401: PROBLEM, 403: PROBLEM, 404: PROBLEM, 409: PROBLEM, 422: PROBLEM}
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of yours. The same key and body get the first answer again; nothing is done twice.",
)


def acting(request: Request) -> Actor:
    """Return who calls, limited to the token's scopes."""
    token = request.auth if isinstance(request.auth, ApiToken) else None
    return actor_of(request._request, token=token, user=request.user)


def scope_for(request: Request) -> Scope:
    """Return what the caller may see, asked once a request."""
    found: Scope | None = getattr(request._request, "_scope", None)
    if found is None:
        found = access.scope_of(acting(request))
        request._request._scope = found  # type: ignore[attr-defined]
    return found


def one_of(request: Request, things: QuerySet[M], **conditions: Any) -> M:
    """Return one thing in sight. What is hidden is exactly as missing as what is not there."""
    try:
        found = access.visible(scope_for(request), things).filter(**conditions).first()
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise NotFound("There is nothing here that you may see.")
    return found


def idempotent(handler: H) -> H:
    """Answer a repeated `Idempotency-Key` with what the first call was told.

    Key, effect and answer are one transaction: a crash leaves none of them, and of two calls at once the second waits
    for the first. A refused call leaves no key behind, so that a mended one may use it.
    """

    @wraps(handler)
    def wrapped(view: APIView, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return handler(view, request, *args, **kwargs)
        if len(key) > KEY_LENGTH_LIMIT:
            raise Invalid(f"An Idempotency-Key has at most {KEY_LENGTH_LIMIT} characters.")
        where = f"{request.method} {request.path}"
        seen = hashlib.sha256(request._request.body).hexdigest()
        with transaction.atomic():
            row, is_first = IdempotencyKey.objects.get_or_create(
                user=acting(request).person,
                key=key,
                defaults={"method_and_path": where, "request_sha256": seen, "created_at": clock.now()},
            )
            if not is_first:
                if (row.method_and_path, row.request_sha256) != (where, seen):
                    raise Conflict("This Idempotency-Key was used for another request.")
                return Response(row.body, status=row.status, headers={"Idempotent-Replay": "true"})
            try:
                response = handler(view, request, *args, **kwargs)
            except DomainError as problem:
                # Committed on purpose: the refusal stands in the audit trail, and the key is free for a mended call.
                row.delete()
                refusal = problem
            else:
                row.status, row.body = response.status_code, response.data
                row.save(update_fields=["status", "body"])
                return response
        raise refusal

    return cast("H", wrapped)


def command(**schema: Any) -> Callable[..., Any]:
    """Describe a command in the schema, with its refusals and its `Idempotency-Key`."""
    responses = schema.pop("responses")
    answers = responses if isinstance(responses, dict) else {200: responses}
    parameters = [IDEMPOTENCY_KEY, *schema.pop("parameters", [])]
    return extend_schema(responses={**answers, **REFUSALS}, parameters=parameters, **schema)
