"""Signing in, one's zone and one's tokens; nobody signs up by themselves."""

from __future__ import annotations

import hashlib

import pytest
from django.test import Client
from django.urls import reverse

from changecontrol.models import ApiToken

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"


@pytest.fixture
def ada(estate):
    estate.ada.set_password(PASSWORD)
    estate.ada.save()
    return estate.ada


def test_stranger_signs_in_and_comes_back_to_where_he_was(ada) -> None:
    client = Client()

    sent = client.get(reverse("changes"))
    form = client.get(sent["Location"])
    answer = client.post(sent["Location"], {"login": "ada", "password": PASSWORD})

    assert sent["Location"] == f"{reverse('account_login')}?next=%2Fchanges%2F"
    assert form.status_code == 200
    assert answer["Location"] == reverse("changes")


def test_wrong_password_is_refused_with_a_marked_title(ada) -> None:
    answer = Client().post(reverse("account_login"), {"login": "ada", "password": "wrong"})

    assert "<title>Error: Sign in" in answer.text
    assert answer.status_code in {200, 422}


@pytest.mark.parametrize("path", ["signup/", "password/reset/", "email/", "social/signup/", "confirm-email/"])
def test_nobody_signs_up_or_resets_a_password(estate, path: str) -> None:
    assert Client().get(f"/accounts/{path}").status_code == 404


def test_confirming_who_one_is_leads_back_to_the_decision(ada, signed_in) -> None:
    client = signed_in(ada)
    url = f"{reverse('account_reauthenticate')}?next=/changes/CHG-000001/"

    form = client.get(url)
    answer = client.post(url, {"password": PASSWORD, "next": "/changes/CHG-000001/"})

    assert form.status_code == 200
    assert answer.url == "/changes/CHG-000001/"


@pytest.mark.parametrize("name", ["account_logout", "account_change_password", "mfa_index", "account_inactive"])
def test_account_page_of_the_library_is_shown(ada, signed_in, name: str) -> None:
    assert signed_in(ada).get(reverse(name)).status_code == 200


def test_zone_is_chosen_and_used(ada, signed_in) -> None:
    client = signed_in(ada)

    refused = client.post(reverse("account"), {"zone": "Mars/Olympus"})
    kept = client.post(reverse("account"), {"zone": "Europe/Helsinki"})

    assert refused.status_code == 422
    assert kept.url == reverse("account")
    ada.refresh_from_db()
    assert ada.zone == "Europe/Helsinki"
    assert "12:12\N{NO-BREAK SPACE}EET" in client.get(reverse("home")).text


def test_token_is_shown_once_and_ends_when_it_is_revoked(ada, signed_in) -> None:
    client = signed_in(ada)

    made = client.post(reverse("token-create"), {"name": "nightly report", "days": "30", "scopes": ["change.view"]})
    later = client.get(reverse("account"))
    token = ApiToken.objects.get()
    ended = client.post(reverse("token-revoke", args=[token.pk]))

    secret = made.context["secret"]
    assert hashlib.sha256(secret.encode()).hexdigest() == token.secret_sha256
    assert secret in made.text
    assert "no-store" in made.headers["Cache-Control"]
    assert secret not in later.text
    assert ended.url == reverse("account")
    assert ApiToken.objects.get().revoked_at is not None


def test_token_without_a_name_is_refused_with_everything_kept(ada, signed_in) -> None:
    answer = signed_in(ada).post(reverse("token-create"), {"name": "", "days": "90"})

    assert answer.status_code == 422
    assert '<option value="90" selected>' in answer.text
    assert not ApiToken.objects.exists()


def test_token_of_somebody_else_is_missing(ada, estate, signed_in) -> None:
    signed_in(ada).post(reverse("token-create"), {"name": "mine", "days": "30"})

    answer = signed_in(estate.ben).post(reverse("token-revoke", args=[ApiToken.objects.get().pk]))

    assert answer.status_code == 404
    assert ApiToken.objects.get().revoked_at is None
