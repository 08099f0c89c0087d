"""Failed sign-ins lock a name out of one address, and the name typed is kept nowhere: it may be a password."""

from __future__ import annotations

import time

import pytest
from allauth.mfa.totp.internal import auth as totp
from axes.models import AccessAttempt
from django.test import Client

from changecontrol.models import AuditEvent, User

pytestmark = pytest.mark.django_db

TYPED = "a-password-in-the-wrong-field"
PASSWORD = "the-right-one-of-ben"


def attempt(name: str, password: str) -> int:
    return Client().post("/accounts/login/", {"login": name, "password": password}).status_code


def test_five_failures_lock_a_name_out_and_no_other() -> None:
    for name in ("ben", "cy"):
        User.objects.create_user(name, password=PASSWORD)

    answers = [attempt("ben", "wrong") for _ in range(5)]

    assert answers[:4] == [200] * 4
    assert attempt("ben", PASSWORD) == 429
    assert attempt("cy", PASSWORD) == 302


def test_name_of_a_failed_sign_in_is_not_kept() -> None:
    attempt(TYPED, "wrong")

    assert [TYPED in str(row) for row in AccessAttempt.objects.values_list()] == [False]


def test_a_lock_out_is_in_the_trail() -> None:  # AUD-1
    ben = User.objects.create_user("ben", password=PASSWORD)

    for _ in range(5):
        attempt("ben", "wrong")

    tags = AuditEvent.objects.filter(subject=f"user:{ben.pk}").order_by("id").values_list("tag", flat=True)
    assert sorted(tags) == ["access:locked_out", *["access:sign_in_failed"] * 5]


def code_now(secret: str) -> str:
    counter = next(iter(totp.yield_hotp_counters_from_time()))
    return str(totp.format_hotp_value(totp.hotp_value(secret, counter)))


def test_wrong_codes_of_the_second_factor_lock_out_like_wrong_passwords() -> None:
    ben = User.objects.create_user("ben", password=PASSWORD)
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(ben, secret)
    client = Client()
    client.post("/accounts/login/", {"login": "ben", "password": PASSWORD})
    wrong = str((int(code_now(secret)) + int(time.time()) % 7 + 1) % 1_000_000).zfill(6)

    answers = [client.post("/accounts/second-factor/authenticate/", {"code": wrong}) for _ in range(5)]
    right = client.post("/accounts/second-factor/authenticate/", {"code": code_now(secret)})

    assert [one.status_code for one in answers] == [200, 200, 200, 200, 429]
    assert right.status_code == 200
    assert "Too many wrong answers" in right.text
    assert "_auth_user_id" not in client.session
    assert AuditEvent.objects.filter(tag="access:sign_in_failed").count() == 5


def test_a_right_code_after_a_wrong_one_signs_in() -> None:
    ben = User.objects.create_user("ben", password=PASSWORD)
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(ben, secret)
    client = Client()
    client.post("/accounts/login/", {"login": "ben", "password": PASSWORD})
    client.post("/accounts/second-factor/authenticate/", {"code": "000000"})

    client.post("/accounts/second-factor/authenticate/", {"code": code_now(secret)})

    assert client.session["_auth_user_id"] == str(ben.pk)


def test_another_password_is_in_the_trail_and_the_password_is_not() -> None:  # AUD-1
    ben = User.objects.create_user("ben", password=PASSWORD)
    client = Client()
    client.post("/accounts/login/", {"login": "ben", "password": PASSWORD})
    words = {"oldpassword": PASSWORD, "password1": "quite-another-one-7", "password2": "quite-another-one-7"}

    client.post("/accounts/password/change/", words)

    ben.refresh_from_db()
    assert ben.check_password("quite-another-one-7")
    event = AuditEvent.objects.get(tag="access:password_changed")
    assert (event.actor, "quite-another-one" in event.body) == (ben, False)
