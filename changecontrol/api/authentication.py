"""Who is calling: a session of the pages, or a bearer token of which only the hash is known."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from changecontrol import clock
from changecontrol.models import ApiToken, User

SEEN_EVERY = timedelta(minutes=1)


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's, but a stranger is asked to authenticate (401), not told that he may not (403)."""

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="changecontrol"'


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer cc_…`."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        at = clock.now()
        digest = hashlib.sha256(secret.strip().encode()).hexdigest()
        token = ApiToken.objects.select_related("user").filter(secret_sha256=digest).first()
        if token is None or not token.is_usable(at) or not token.user.is_active:
            raise exceptions.AuthenticationFailed("This token is unknown, expired or revoked.")
        if token.last_used_at is None or token.last_used_at <= at - SEEN_EVERY:
            # One write a minute at most, so that reading stays reading.
            ApiToken.objects.filter(pk=token.pk, last_used_at=token.last_used_at).update(last_used_at=at)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="changecontrol"'


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "changecontrol.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token made on the page “Your account”."}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "changecontrol.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
