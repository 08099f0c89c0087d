"""Making people. They come with a first role and a password that is shown once and stored only as a hash."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.validators import ASCIIUsernameValidator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from changecontrol import access, audit
from changecontrol.access import Actor
from changecontrol.actions.access import grant_role
from changecontrol.actions.locking import sight_of
from changecontrol.actions.refusals import audited
from changecontrol.errors import Invalid, NotFound
from changecontrol.events import Tag
from changecontrol.models import Tenant, User
from changecontrol.rules.roles import Ability
from changecontrol.rules.words import seen

PASSWORD_BYTES = 12
EMAIL_LENGTH = 254


@dataclass(frozen=True, slots=True)
class NewPerson:
    """A person and the password they sign in with first. It is nowhere else and cannot be shown again."""

    user: User
    password: str


@audited
@transaction.atomic
def create_person(
    *,
    actor: Actor,
    tenant_id: int,
    username: str,
    display_name: str,
    email: str = "",
    role: str,
    expires_at: datetime | None = None,
    at: datetime,
) -> NewPerson:
    """Make a person who holds a role on a tenant. Raises `Invalid` with everything that is wrong, by field.

    Names and addresses are unique over all tenants, and nobody learns from that who there is elsewhere (BIZ-1): a name
    that a tenant's administrator gives ends with `@` and the tenant, and an address of somebody they cannot see is left
    out.
    """
    tenant = access.visible(sight_of(actor), Tenant.objects.filter(pk=tenant_id)).first()
    if tenant is None:
        raise NotFound("There is no such tenant.")
    scope = access.require(actor, Ability.ACCESS_GRANT, tenant)
    name, address = username.strip(), email.strip()
    known = User.objects.filter(email__iexact=address)
    if not scope.sees_everything:
        ending = f"@{tenant.slug}"
        name = name if name.endswith(ending) or not name else f"{name}{ending}"
        book = access.holder_book(tenant_ids=[tenant.pk], environment_ids=[], at=at)
        if known.exists() and not known.filter(pk__in=book.people).exists():
            address = ""
    _check(name, display_name.strip(), address)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    person = User.objects.create_user(name, address, password, display_name=display_name.strip())
    data = {"person": name, "display_name": person.display_name}
    audit.record(Tag.PERSON_CREATED, subject=person, actor=actor, at=at, data=data, tenant=tenant)
    grant_role(actor=actor, user_id=person.pk, role=role, tenant_id=tenant_id, expires_at=expires_at, at=at)
    return NewPerson(user=person, password=password)


def username_problem(username: str) -> str:
    """Say why nobody can be called this; empty where somebody can.

    Plain ASCII, and no two that differ by case alone: nobody may be taken for somebody else in a trail.
    """
    try:
        ASCIIUsernameValidator()(username)
    except ValidationError:
        return "Use the letters a to z, digits and @ . + - _ only."
    if not 0 < len(username) <= 150:
        return "Give a user name of at most 150 characters."
    return "This user name is taken." if User.objects.filter(username__iexact=username).exists() else ""


def _check(username: str, display_name: str, email: str) -> None:
    problems: dict[str, list[str]] = {}
    if sentence := username_problem(username):
        problems["username"] = [sentence]
    if not seen(display_name) or len(display_name) > 120:
        problems["display_name"] = ["Give the name that others read, of at most 120 characters."]
    if email:
        try:
            validate_email(email)
        except ValidationError:
            problems["email"] = ["This is no e-mail address."]
        if len(email) > EMAIL_LENGTH:
            problems["email"] = [f"An e-mail address has at most {EMAIL_LENGTH} characters."]
        if User.objects.filter(email__iexact=email).exists():
            problems["email"] = ["Somebody has this address already."]
    if problems:
        raise Invalid("The person cannot be added as written.", fields=problems)
