"""One answer to one `Idempotency-Key`, however often a call is repeated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeVar, cast

from django.db import transaction
from django.http import HttpResponse, HttpResponseBase
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from changecontrol import clock
from changecontrol.api.base import acting
from changecontrol.api.parsing import body_of
from changecontrol.errors import Conflict, DomainError, Invalid
from changecontrol.models import IdempotencyKey
from changecontrol.workflow.delivery import ANSWERS_KEPT_FOR

KEY_LENGTH_LIMIT = 200

H = TypeVar("H", bound=Callable[..., HttpResponseBase])


def idempotent(handler: H) -> H:
    """Answer a repeated `Idempotency-Key` with the very bytes that the first call was told.

    Key, effect and answer are one transaction: a crash leaves none of them, and of two calls at once the second waits
    for the first. A refused call leaves no key behind, so that a mended one may use it.
    """
    return _idempotent(handler, never_kept=())


def idempotent_but_for(*names: str) -> Callable[[H], H]:
    """Like `idempotent`, for an answer with a secret in it: these fields are not kept, and null when told again."""
    return lambda handler: _idempotent(handler, never_kept=names)


def _idempotent(handler: H, *, never_kept: Collection[str]) -> H:
    @wraps(handler)
    def wrapped(view: APIView, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            return handler(view, request, *args, **kwargs)
        if len(key) > KEY_LENGTH_LIMIT or not (key.isascii() and key.isprintable()):
            raise Invalid(f"An Idempotency-Key is at most {KEY_LENGTH_LIMIT} characters of plain ASCII.")
        with transaction.atomic():
            row, is_first = _row(request, key)
            if not is_first:
                return _again(request, row)
            try:
                response = handler(view, request, *args, **kwargs)
            except DomainError as problem:
                # Committed on purpose: the refusal stands in the audit trail, and the key is free for a mended call.
                row.delete()
                refusal = problem
            else:
                _keep(row, response, never_kept=never_kept)
                return response
        raise refusal

    return cast("H", wrapped)


def _row(request: Request, key: str) -> tuple[IdempotencyKey, bool]:
    at = clock.now()
    mine = IdempotencyKey.objects.filter(user=acting(request).person, key=key)
    mine.filter(created_at__lte=at - ANSWERS_KEPT_FOR).delete()
    return IdempotencyKey.objects.get_or_create(
        user=acting(request).person,
        key=key,
        defaults={"method_and_path": _where(request), "request_sha256": _digest(request), "created_at": at},
    )


def _again(request: Request, row: IdempotencyKey) -> HttpResponse:
    if (row.method_and_path, row.request_sha256) != (_where(request), _digest(request)):
        raise Conflict("This Idempotency-Key was used for another request.")
    return HttpResponse(
        row.body, status=row.status, content_type="application/json", headers={"Idempotent-Replay": "true"}
    )


def _keep(row: IdempotencyKey, response: HttpResponseBase, *, never_kept: Collection[str]) -> None:
    """Keep the answer as the text it is sent as: as JSON the database would reorder it."""
    if not isinstance(response, Response):
        raise TypeError("Only answers in JSON can be kept.")
    told = {**response.data, **dict.fromkeys(never_kept)} if never_kept else response.data
    row.status, row.body = response.status_code, JSONRenderer().render(told).decode()
    row.save(update_fields=["status", "body"])


def _where(request: Request) -> str:
    return f"{request.method} {request.path}"


def _digest(request: Request) -> str:
    return hashlib.sha256(body_of(request._request)).hexdigest()
