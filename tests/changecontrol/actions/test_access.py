"""Roles, tokens and messages, as people change them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from changecontrol import access
from changecontrol.access import Actor, can
from changecontrol.actions.access import grant_role, revoke_role
from changecontrol.actions.inbox import read_messages
from changecontrol.actions.people import create_person
from changecontrol.actions.profile import set_zone
from changecontrol.actions.tokens import create_token, revoke_token
from changecontrol.errors import Forbidden, Invalid, NotFound
from changecontrol.models import ApiToken, AuditEvent, Message, User
from changecontrol.queries.inbox import messages_of, unread_count
from changecontrol.rules.roles import Ability, Role
from tests.changecontrol.actions.events import events
from tests.factories import (
    NOW,
    SmallEstate,
    actor,
    add_person,
    grant,
    scheduled_change,
    small_estate,
    stranger_estate,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def estate() -> SmallEstate:
    return small_estate()


@pytest.fixture
def admin(estate: SmallEstate) -> User:
    person = add_person("admin")
    grant(person, Role.TENANT_ADMINISTRATOR, estate.tenant)
    return person


def words(estate: SmallEstate, by: User, to: User, role: str = "engineer", **more: Any) -> dict[str, Any]:
    return {"actor": actor(by), "user_id": to.pk, "role": role, "tenant_id": estate.tenant.pk, "at": NOW, **more}


def test_granting_and_revoking_each_leave_their_event(estate: SmallEstate, admin: User) -> None:  # AUD-1
    with events() as tags:
        grant_role(**words(estate, admin, estate.cy))
        assert can(actor(estate.cy), Ability.CHANGE_CREATE, estate.tenant)
        revoke_role(**words(estate, admin, estate.cy))

    assert not can(actor(estate.cy), Ability.CHANGE_CREATE, estate.tenant)
    assert tags == ["access:role:granted", "access:role:revoked"]


def test_revoking_what_is_not_held_says_nothing(estate: SmallEstate, admin: User) -> None:
    with events() as tags:
        revoke_role(**words(estate, admin, estate.cy))

    assert tags == []


def test_a_role_on_one_environment_is_granted_there_alone(estate: SmallEstate, admin: User) -> None:
    grant_role(**words(estate, admin, estate.cy, environment_id=estate.staging.pk))

    assert can(actor(estate.cy), Ability.CHANGE_CREATE, estate.staging)
    assert not can(actor(estate.cy), Ability.CHANGE_CREATE, estate.production)


def test_nobody_grants_to_themselves(estate: SmallEstate, admin: User) -> None:
    with events() as tags, pytest.raises(Forbidden, match="their own roles"):
        grant_role(**words(estate, admin, admin, "change_manager"))

    assert tags == ["refused"]


def test_only_platform_administrators_make_tenant_administrators(estate: SmallEstate, admin: User) -> None:
    with pytest.raises(Forbidden, match="Only a platform administrator"):
        grant_role(**words(estate, admin, estate.cy, "tenant_administrator"))

    root = add_person("root", is_superuser=True)
    grant_role(**words(estate, root, estate.cy, "tenant_administrator"))
    assert can(actor(estate.cy), Ability.ACCESS_GRANT, estate.tenant)
    with pytest.raises(Forbidden, match="Only a platform administrator"):
        revoke_role(**words(estate, admin, estate.cy, "tenant_administrator"))


@pytest.mark.parametrize("role", ["platform_administrator", "king"])
def test_a_role_that_is_not_granted_here_is_refused(estate: SmallEstate, admin: User, role: str) -> None:
    with pytest.raises(Invalid):
        grant_role(**words(estate, admin, estate.cy, role))


@pytest.mark.parametrize("until", [NOW, datetime.max.replace(tzinfo=UTC)])
def test_a_grant_that_is_over_already_or_ends_in_no_year_is_refused(
    estate: SmallEstate, admin: User, until: datetime
) -> None:
    with pytest.raises(Invalid) as refused:
        grant_role(**words(estate, admin, estate.cy, expires_at=until))

    assert list(refused.value.fields) == ["expires_at"]


def test_an_administrator_of_another_tenant_finds_nothing(estate: SmallEstate) -> None:
    kite, eve = stranger_estate()

    elsewhere: list[dict[str, Any]] = [{}, {"tenant_id": kite.tenant.pk, "environment_id": estate.staging.pk}]
    for more in elsewhere:
        with pytest.raises(NotFound):
            grant_role(**words(estate, eve, estate.cy, **more))


def test_an_engineer_grants_nothing(estate: SmallEstate) -> None:
    with pytest.raises(Forbidden):
        grant_role(**words(estate, estate.ada, estate.cy))


def test_a_tokens_secret_is_returned_once_and_only_its_hash_is_kept(estate: SmallEstate) -> None:
    with events() as tags:
        made = create_token(
            actor=actor(estate.ada), name="CI", scopes=["change.view"], expires_at=NOW + timedelta(days=30), at=NOW
        )

    kept = ApiToken.objects.get()
    assert tags == ["access:token:created"]
    assert made.secret.startswith("cc_")
    assert len(made.secret) == 3 + 43
    assert kept.secret_sha256 == hashlib.sha256(made.secret.encode()).hexdigest()
    assert kept.scopes == ["change.view"]
    assert not AuditEvent.objects.filter(body__contains=made.secret[10:]).exists()


def test_a_token_ends_at_its_owners_word(estate: SmallEstate) -> None:
    made = create_token(actor=actor(estate.ada), name="CI", expires_at=NOW + timedelta(days=30), at=NOW)
    root = add_person("root", is_superuser=True)

    with pytest.raises(NotFound):
        revoke_token(actor=actor(estate.ben), token_id=made.token.pk, at=NOW)
    with events() as tags:
        revoke_token(actor=actor(estate.ada), token_id=made.token.pk, at=NOW)
        revoke_token(actor=actor(root), token_id=made.token.pk, at=NOW)

    assert tags == ["access:token:revoked"]
    assert not ApiToken.objects.get().is_usable(NOW)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": " "}, "name"),
        ({"scopes": ["change.everything"]}, "scopes"),
        ({"expires_at": NOW}, "expires_at"),
        ({"expires_at": NOW + timedelta(days=367)}, "expires_at"),
    ],
)
def test_a_token_that_does_not_hold_is_refused(estate: SmallEstate, more: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        create_token(
            **{"actor": actor(estate.ada), "name": "CI", "expires_at": NOW + timedelta(days=1), "at": NOW, **more}
        )

    assert list(refused.value.fields) == [field]


def test_a_token_makes_no_token(estate: SmallEstate) -> None:
    by_token = Actor(user=estate.ada, via="api", authentication="token cc_abcdefg")

    with events() as tags, pytest.raises(Forbidden):
        create_token(actor=by_token, name="CI", expires_at=NOW + timedelta(days=1), at=NOW)

    assert tags == ["refused"]


def test_messages_are_read_by_their_recipient_alone(estate: SmallEstate) -> None:
    scheduled_change(estate)
    message = messages_of(estate.ben)[0]

    assert read_messages(actor=actor(estate.ada), message_id=message.pk, at=NOW) == 0
    assert unread_count(estate.ben) == 1
    assert read_messages(actor=actor(estate.ben), message_id=message.pk, at=NOW) == 1
    assert read_messages(actor=actor(estate.ben), message_id=message.pk, at=NOW + timedelta(hours=1)) == 0

    assert (unread_count(estate.ben), Message.objects.get(pk=message.pk).read_at) == (0, NOW)


def test_reading_all_reads_ones_own(estate: SmallEstate) -> None:
    scheduled_change(estate)

    read_messages(actor=actor(estate.ada), at=NOW)

    assert (unread_count(estate.ada), unread_count(estate.ben)) == (0, 1)


def test_a_refusal_is_kept_where_the_person_is_and_not_in_another_tenant(estate: SmallEstate) -> None:  # AUD-1
    other, _ = stranger_estate()
    environment = other.production

    with pytest.raises(Forbidden):
        grant_role(**words(estate, estate.ada, estate.cy, environment_id=environment.pk))

    refused = AuditEvent.objects.get(tag="refused")
    assert (refused.subject, refused.tenant) == (f"tenant:{estate.tenant.pk}", estate.tenant)


def test_an_address_longer_than_any_is_named_as_wrong(estate: SmallEstate, admin: User) -> None:
    email = f"new@{'.'.join(['b' * 60] * 5)}.example"

    with pytest.raises(Invalid) as refused:
        create_person(
            actor=actor(admin), tenant_id=estate.tenant.pk, username="new", display_name="New", email=email,
            role="engineer", at=NOW,
        )  # fmt: skip

    assert list(refused.value.fields) == ["email"]


def test_making_a_person_tells_nothing_of_people_elsewhere(estate: SmallEstate) -> None:  # BIZ-1
    _, eve = stranger_estate()
    tina = add_person("tina")
    grant(tina, Role.TENANT_ADMINISTRATOR, estate.tenant)
    asked: Any = {
        "actor": actor(tina),
        "tenant_id": estate.tenant.pk,
        "display_name": "Eve",
        "role": "engineer",
        "at": NOW,
    }

    namesake = create_person(**asked, username="eve", email=eve.email.upper()).user
    free = create_person(**asked, username="fay", email="fay@retailer.example").user

    assert (namesake.username, namesake.email) == ("eve@northwind", "")
    assert (free.username, free.email) == ("fay@northwind", "fay@retailer.example")
    with pytest.raises(Invalid) as refused:
        create_person(**asked, username="Eve@northwind", email=free.email)
    assert refused.value.fields == {
        "username": ["This user name is taken."],
        "email": ["Somebody has this address already."],
    }


def test_a_platform_administrator_names_people_freely_and_learns_who_is_there(estate: SmallEstate) -> None:
    _, eve = stranger_estate()
    root = add_person("root", is_superuser=True)
    asked: Any = {
        "actor": actor(root),
        "tenant_id": estate.tenant.pk,
        "display_name": "E",
        "role": "engineer",
        "at": NOW,
    }

    assert create_person(**asked, username="fay").user.username == "fay"
    with pytest.raises(Invalid) as refused:
        create_person(**asked, username="EVE", email=eve.email)
    assert refused.value.fields.keys() == {"username", "email"}


@pytest.mark.parametrize("name", ["бen", "ben\u200b", "a b", "", "x" * 151])
def test_nobody_gets_a_name_that_reads_like_another(estate: SmallEstate, admin: User, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        create_person(
            actor=actor(admin), tenant_id=estate.tenant.pk, username=name, display_name="N", role="engineer", at=NOW
        )

    assert list(refused.value.fields) == ["username"]


def test_trying_names_tells_a_tenants_administrator_nothing(estate: SmallEstate, admin: User) -> None:  # BIZ-1
    kite, eve = stranger_estate()
    nobody = User.objects.latest("pk").pk + 1000
    sentences = set()

    with events() as tags:
        for person in (eve.pk, kite.ada.pk, nobody):
            for act, role in (
                (grant_role, "engineer"),
                (grant_role, "tenant_administrator"),
                (revoke_role, "engineer"),
            ):
                with pytest.raises(NotFound) as missing:
                    act(actor=actor(admin), user_id=person, role=role, tenant_id=estate.tenant.pk, at=NOW)
                sentences.add(missing.value.sentence)

    assert (len(sentences), tags) == (1, [])


def test_a_tenants_administrator_grants_to_the_people_of_the_tenant(estate: SmallEstate, admin: User) -> None:
    leaver = add_person("leaver@northwind")  # whom its administrators made, and who holds nothing any more
    there = add_person("there")
    grant(there, Role.AUDITOR, estate.staging)
    member = add_person("member")
    group = Group.objects.create(name="operators")
    member.groups.add(group)
    access.grant_role(group, Role.RELEASE_OPERATOR, estate.tenant)

    for person in (leaver, there, member):
        grant_role(**words(estate, admin, person))
        assert can(actor(person), Ability.CHANGE_CREATE, estate.production)


def test_the_role_of_somebody_deactivated_can_be_taken(estate: SmallEstate, admin: User) -> None:
    User.objects.filter(pk=estate.ada.pk).update(is_active=False)

    with events() as tags:
        revoke_role(**words(estate, admin, estate.ada))

    assert tags == ["access:role:revoked"]


def test_another_zone_is_recorded_and_the_same_one_is_not(estate: SmallEstate) -> None:  # AUD-1
    with events() as tags:
        for _ in range(2):
            set_zone(actor=actor(estate.ada), zone="Europe/Lisbon", at=NOW)

    assert tags == ["access:profile:changed"]
    told = AuditEvent.objects.get(tag="access:profile:changed")
    assert (told.subject, told.tenant) == (f"user:{estate.ada.pk}", None)
    assert '"zone":["UTC","Europe/Lisbon"]' in told.body


def test_no_two_people_differ_by_case_alone_however_they_are_made(estate: SmallEstate) -> None:
    with pytest.raises(IntegrityError, match="one_person_per_username_in_any_case"), transaction.atomic():
        User.objects.create_superuser("ADA")
