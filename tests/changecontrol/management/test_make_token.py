"""`manage.py make_token`."""

from __future__ import annotations

import hashlib
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from changecontrol.models import ApiToken, AuditEvent
from tests.factories import small_estate

pytestmark = pytest.mark.django_db


def make(*words: str) -> str:
    out = StringIO()
    call_command("make_token", *words, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def test_the_secret_is_all_that_is_printed() -> None:
    small_estate()

    secret = make("ada", "--name", "pipeline", "--days", "7", "--scope", "change.view", "--scope", "change.create")

    token = ApiToken.objects.get()
    assert token.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert (token.name, token.scopes, token.user.username) == ("pipeline", ["change.create", "change.view"], "ada")
    assert (token.expires_at - token.created_at).days == 7
    event = AuditEvent.objects.get(tag="access:token:created")
    assert (event.actor, '"via":"command"' in event.body, secret in event.body) == (token.user, True, False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nobody"], "There is no active person called “nobody”."),
        (["ada", "--days", "0"], "A token ends within 366 days."),
        (["ada", "--days", "9999999999"], "A token ends within 366 days."),
        (["ada", "--scope", "change.fly"], "There is no ability called change.fly."),
        (["ada", "--name", " "], "Give the token a name of at most 120 characters."),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(words: list[str], sentence: str) -> None:
    small_estate()

    with pytest.raises(CommandError, match=sentence.replace(".", r"\.")):
        make(*words)

    assert not ApiToken.objects.exists()
    assert not AuditEvent.objects.filter(tag="access:token:created").exists()


def test_somebody_who_has_left_gets_none() -> None:
    person = small_estate().ada
    person.is_active = False
    person.save()

    with pytest.raises(CommandError, match="no active person"):
        make("ada")
