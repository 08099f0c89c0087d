"""Granting and revoking roles. Nobody grants to themselves, and every grant is an event (AUD-1)."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.locking import sight_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Forbidden, Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import Environment, Tenant, User
from changecontrol.queries.administration import nameable
from changecontrol.rules.roles import Ability, Role
from changecontrol.rules.years import OUTSIDE, is_within_years


@audited
@transaction.atomic
def grant_role(
    *,
    actor: Actor,
    user_id: int,
    role: str,
    tenant_id: int,
    environment_id: int | None = None,
    expires_at: datetime | None = None,
    at: datetime,
) -> None:
    """Let somebody hold a role on a tenant, or on one environment of it, up to `expires_at`.

    Granting it again sets the new expiry. Only platform administrators make tenant administrators.
    """
    thing, person, chosen = _check(actor, user_id, role, tenant_id=tenant_id, environment_id=environment_id)
    if expires_at is not None and expires_at <= at:
        sentence = "The grant would be over already."
        raise Invalid(sentence, fields={"expires_at": [sentence]})
    if expires_at is not None and not is_within_years(expires_at):
        raise Invalid(OUTSIDE, fields={"expires_at": [OUTSIDE]})
    access.grant_role(person, chosen, thing, expires_at=expires_at)
    data = {**_told(person, chosen, thing), "expires_at": expires_at.isoformat() if expires_at else ""}
    audit.record(Tag.ROLE_GRANTED, subject=person, actor=actor, at=at, data=data, tenant=tenant_id)


@audited
@transaction.atomic
def revoke_role(
    *, actor: Actor, user_id: int, role: str, tenant_id: int, environment_id: int | None = None, at: datetime
) -> None:
    """Take a role from somebody. Revoking what is not held changes nothing, and says nothing."""
    thing, person, chosen = _check(actor, user_id, role, tenant_id=tenant_id, environment_id=environment_id)
    if not access.revoke_role(person, chosen, thing):
        return
    audit.record(
        Tag.ROLE_REVOKED, subject=person, actor=actor, at=at, data=_told(person, chosen, thing), tenant=tenant_id
    )


def _check(
    actor: Actor, user_id: int, role: str, *, tenant_id: int, environment_id: int | None
) -> tuple[Tenant | Environment, User, Role]:
    sight = sight_of(actor)
    # Lock the tenant: two administrators editing one person's roles take turns.
    tenant = access.visible(sight, Tenant.objects.all()).select_for_update(of=("self",)).filter(pk=tenant_id).first()
    if tenant is None:
        raise NotFound("There is no such tenant.")
    scope = access.require(actor, Ability.ACCESS_GRANT, tenant)
    thing: Tenant | Environment = tenant
    if environment_id is not None:
        environment = access.visible(sight, Environment.objects.filter(tenant=tenant, pk=environment_id)).first()
        if environment is None:
            raise NotFound("There is no such environment.")
        thing = environment
    if role not in set(Role) or role == Role.PLATFORM_ADMINISTRATOR:
        sentence = "This role cannot be granted here."
        raise Invalid(sentence, fields={"role": [sentence]})
    chosen = Role(role)
    # Somebody of another tenant alone is as missing as nobody: else names could be tried out (BIZ-1).
    person = nameable(scope, tenant).filter(pk=user_id).first()
    if person is None:
        raise NotFound("There is no such person.")
    if person == actor.person:
        raise Forbidden("Nobody changes their own roles; ask another administrator.")
    if chosen is Role.TENANT_ADMINISTRATOR and not scope.sees_everything:
        raise Forbidden("Only a platform administrator makes or unmakes tenant administrators.")
    return thing, person, chosen


def _told(person: User, role: Role, thing: Tenant | Environment) -> dict[str, str]:
    return {"person": person.username, "role": str(role), "on": audit.subject_of(thing), "slug": thing.slug}
