"""API tokens: made for oneself, limited to some abilities, shown once, and ended at any time."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.refusals import audited
from changecontrol.errors import Forbidden, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import ApiToken
from changecontrol.rules.roles import Ability

PREFIX = "cc_"
SECRET_BYTES = 32
MAX_LIFE = timedelta(days=366)
PREFIX_LENGTH = 10


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token and its secret, which is nowhere else and cannot be shown again."""

    token: ApiToken
    secret: str


@audited
@transaction.atomic
def create_token(
    *, actor: Actor, name: str, scopes: Iterable[str] = (), expires_at: datetime, at: datetime
) -> NewToken:
    """Make a token for oneself. `scopes` are abilities it is limited to; none is no limit. At most a year."""
    person = actor.person
    if actor.scopes is not None or actor.authentication.startswith("token "):
        # Else a stolen token would outlive its revocation.
        raise Forbidden("A token cannot make another one; sign in to do that.")
    wanted = sorted(set(scopes))
    problems = {}
    if not name.strip() or len(name.strip()) > 120:
        problems["name"] = ["Give the token a name of at most 120 characters."]
    if unknown := [one for one in wanted if one not in set(Ability)]:
        problems["scopes"] = [f"There is no ability called {', '.join(unknown)}."]
    if not at < expires_at <= at + MAX_LIFE:
        problems["expires_at"] = [f"A token ends within {MAX_LIFE.days} days."]
    if problems:
        raise Invalid("The token could not be made.", fields=problems)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = ApiToken.objects.create(
        user=person,
        name=name.strip(),
        prefix=secret[:PREFIX_LENGTH],
        secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
        scopes=wanted,
        created_at=at,
        expires_at=expires_at,
    )
    data = {"name": token.name, "prefix": token.prefix, "scopes": wanted, "expires_at": expires_at.isoformat()}
    audit.record(Tag.TOKEN_CREATED, subject=person, actor=actor, at=at, data=data)
    return NewToken(token=token, secret=secret)


@audited
@transaction.atomic
def revoke_token(*, actor: Actor, token_id: int, at: datetime) -> ApiToken:
    """End a token now: one's own, or anybody's for a platform administrator. Twice is once."""
    tokens = ApiToken.objects.select_for_update(of=("self",)).select_related("user").filter(pk=token_id)
    if not access.scope_of(actor).sees_everything:
        tokens = tokens.filter(user=actor.person)
    token = tokens.first()
    if token is None:
        raise NotFound("There is no such token.")
    if token.revoked_at is not None:
        return token
    token.revoked_at = at
    token.save(update_fields=["revoked_at"])
    data = {"name": token.name, "prefix": token.prefix}
    audit.record(Tag.TOKEN_REVOKED, subject=token.user, actor=actor, at=at, data=data)
    return token
