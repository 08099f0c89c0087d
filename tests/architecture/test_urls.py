"""Every named address of the project, asked by nobody, by a stranger to the tenant and by a member of it.

An address without its three cases fails: whoever adds one says here who may see what.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import URLResolver, get_resolver, reverse

from changecontrol.models import ApiToken, User
from changecontrol.urls import CHANGES
from tests.factories import NOW, SmallEstate, authorized_change, requirement_named, small_estate, stranger_estate

pytestmark = pytest.mark.django_db

OF_LIBRARY = ("account_", "mfa_")
"""Each about the person signed in and nobody else; `tests/functional/test_account.py` asks them."""

MEMBER = {
    "home": 200,
    "changes": 200,
    "change-new": 200,
    "change": 200,
    "change-edit": 200,
    "change-difference": 200,
    "evidence-pack": {200, 409},
    "artefact": 404,
    "change-action": 405,
    "approvals": 200,
    "vote": 405,
    "withdraw-vote": 405,
    "inbox": 200,
    "inbox-read": 405,
    "account": 200,
    "token-create": 405,
    "token-revoke": 405,
    "first-run": 404,
}
"""What a member of the tenant gets by GET; what only takes POST says so (405), to strangers too."""
LISTS = frozenset(
    {"home", "changes", "approvals", "inbox", "account", "change-new", "first-run", "inbox-read", "token-create"}
)
"""Pages about nothing in particular: a stranger gets their own, in which nothing of the tenant is named."""
SECRET_WORDS = ("Northwind", "Faster reorder proposals")


def named(resolver: URLResolver) -> Iterator[str]:
    for one in resolver.url_patterns:
        if isinstance(one, URLResolver):
            yield from named(one)
        elif one.name:
            yield one.name


def of_changes() -> list[str]:
    return [one.name for one in CHANGES if one.name]


@pytest.fixture
def estate(settings: Any) -> SmallEstate:
    settings.STATIC_ROOT = settings.BASE_DIR / "static"
    return small_estate()


def address(name: str, estate: SmallEstate) -> str:
    change = authorized_change(estate)
    token = ApiToken.objects.create(
        user=estate.ada, name="t", prefix="cc_", secret_sha256="0" * 64, created_at=NOW, expires_at=NOW
    )
    arguments: dict[str, list[Any]] = {
        "vote": [requirement_named(change, "technical_reviewer").pk],
        "withdraw-vote": [requirement_named(change, "technical_reviewer").pk],
        "token-revoke": [token.pk],
        "artefact": [change.number, "0" * 64],
        "change-action": [change.number, "hold"],
        **{one: [change.number] for one in ("change", "change-edit", "change-difference", "evidence-pack")},
    }
    return reverse(name, args=arguments.get(name, []))


def client_of(person: User | None) -> Client:
    client = Client()
    if person is not None:
        client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_every_address_of_changes_has_its_cases() -> None:
    assert sorted(of_changes()) == sorted(MEMBER)


def test_no_name_is_given_twice() -> None:
    names = [name for name in named(get_resolver()) if not name.startswith(OF_LIBRARY)]

    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", MEMBER)
def test_nobody_is_sent_to_the_sign_in_page(estate: SmallEstate, name: str) -> None:
    url = address(name, estate)

    page, fragment = client_of(None).get(url), client_of(None).get(url, headers={"HX-Request": "true"})

    assert page.status_code == 302
    assert page.headers["Location"].startswith(reverse("account_login"))
    assert fragment.status_code == 401


@pytest.mark.parametrize("name", MEMBER)
def test_stranger_finds_nothing(estate: SmallEstate, name: str) -> None:
    _, eve = stranger_estate()
    url = address(name, estate)

    client = client_of(eve)
    answers = [client.get(url), client.post(url)] if name not in LISTS else [client.get(url)]

    expected = {200, 404, 405} if name in LISTS else {404, 405}
    assert {answer.status_code for answer in answers} <= expected
    assert not any(word in answer.text for answer in answers for word in SECRET_WORDS)
    if name not in LISTS:
        assert 404 in {answer.status_code for answer in answers}


@pytest.mark.parametrize("name", MEMBER)
def test_member_gets_the_page(estate: SmallEstate, name: str) -> None:
    expected = MEMBER[name]

    answer = client_of(estate.ada).get(address(name, estate))

    assert answer.status_code in (expected if isinstance(expected, set) else {expected})
