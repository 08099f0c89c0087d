"""Reads a body: JSON, of bounded size, with nothing in it that the database cannot hold."""

from __future__ import annotations

from typing import IO, Any

from django.http import HttpRequest
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

BODY_BYTES_LIMIT = 1024 * 1024


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"A body has at most {BODY_BYTES_LIMIT:,} bytes."
    default_code = "too_large"


def body_of(request: HttpRequest) -> bytes:
    """Return the bytes of the body, read once. Raises `BodyTooLarge` before anything is read."""
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise ParseError("The Content-Length is not a number.") from None
    if length > BODY_BYTES_LIMIT:
        raise BodyTooLarge
    return request.body


class BoundedJSONParser(JSONParser):
    """JSON as DRF reads it, refusing what would become a fault further down."""

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        body_of(parser_context["request"]._request)
        try:
            words = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("This JSON is nested too deeply.") from None
        if not _is_storable(words):
            raise ParseError("Text cannot hold the character U+0000 or half of a surrogate pair.")
        return words


def _is_storable(words: Any) -> bool:
    """Tell whether PostgreSQL can hold every text in it, keys included."""
    waiting = [words]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, str) and ("\x00" in one or any("\ud800" <= character <= "\udfff" for character in one)):
            return False
    return True
