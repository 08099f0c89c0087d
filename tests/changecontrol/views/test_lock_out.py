"""Failed sign-ins lock a name out of one address, and the name typed is kept nowhere: it may be a password."""

from __future__ import annotations

import pytest
from axes.models import AccessAttempt
from django.test import Client

from changecontrol.models import User

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
