from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from recovery.rules.policies import MOST, PolicyContent, policy_problems

WHOLE = PolicyContent(
    engine="postgres",
    rrule="FREQ=DAILY",
    starts_local=datetime(2026, 11, 1, 2, 0),  # noqa: DTZ001 - wall-clock time
    zone="Europe/Lisbon",
    source="file:/run/secrets/northwind",
    filestore="s3://attachments/northwind",
    store="s3://points/northwind",
    copy_store="gs://copies/northwind",
    recipients=("age1" + "q" * 58, "age1" + "z" * 58),
    wal_seconds=10,
    filestore_seconds=60,
)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"incrementals": 6},
        {"filestore": "", "filestore_seconds": None, "wal_seconds": None},
        {"store": "file:///srv/points", "copy_store": ""},
        {"store_credential": "vault:points#key", "copy_credential": "env:COPIES"},
        {"engine": "cloudnativepg", "source": ""},
        {"engine": "external", "source": "", "recipients": ()},
    ],
)
def test_a_policy_that_holds_has_no_problem(words: dict[str, Any]) -> None:
    assert policy_problems(replace(WHOLE, **words)) == {}


@pytest.mark.parametrize("name", MOST)
def test_every_number_has_its_bounds(name: str) -> None:
    least, most, sentence = MOST[name]

    def problems(value: int) -> dict[str, list[str]]:
        words: dict[str, Any] = {name: value}
        return policy_problems(replace(WHOLE, **words))

    assert problems(least) == problems(most) == {}
    assert problems(least - 1) == problems(most + 1) == {name: [sentence]}


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = policy_problems(replace(WHOLE, engine="tape", store="ftp://x", keep_last=0, rrule="", recipients=()))

    assert set(found) == {"engine", "store", "keep_last", "rrule", "recipients"}


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ftp://points", "An address begins with s3://, gs://, az:// or file://."),
        ("points", "An address begins with s3://, gs://, az:// or file://."),
        ("s3://[points", "This is not an address."),
        ("s3://key:word@points", "An address carries no user, password or query: name a credential instead."),
        ("s3://points?word=1", "An address carries no user, password or query: name a credential instead."),
        ("s3://points#word", "An address carries no user, password or query: name a credential instead."),
        ("s3://" + "x" * 500, "An address begins with s3://, gs://, az:// or file://."),
    ],
)
def test_an_address_carries_no_secret(address: str, sentence: str) -> None:
    for name in ("store", "copy_store", "filestore"):
        words: dict[str, Any] = {name: address}
        assert policy_problems(replace(WHOLE, **words)) == {name: [sentence]}


@pytest.mark.parametrize("name", ["source", "filestore_credential", "store_credential", "copy_credential"])
def test_a_secret_is_a_reference_and_never_quoted(name: str) -> None:
    words: dict[str, Any] = {name: "hunter2"}

    found = policy_problems(replace(WHOLE, **words))

    assert list(found) == [name]
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "recipient", ["age1", "age1" + "b" * 58, "age1" + "Q" * 58, "AGE1" + "q" * 58, "ssh-ed25519 AA"]
)
def test_a_recipient_is_an_age_key(recipient: str) -> None:
    assert list(policy_problems(replace(WHOLE, recipients=(recipient,)))) == ["recipients"]
