"""Whatever is sent to an address is answered in words: never a fault, and never a row half written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.urls import reverse

from tests.architecture.test_urls import CASES, Place, client_of
from tests.architecture.test_urls import place as place

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(
    {
        name
        for path in [*(ROOT / "templates").rglob("*.html"), *ROOT.glob("*/forms/*.py"), *ROOT.glob("*/views/*.py")]
        for name in re.findall(
            r'name="([a-z][a-z_0-9-]*)"|\bPOST\.get(?:list)?\("([a-z_]+)"|^    ([a-z_]+) = forms\.',
            path.read_text(),
            re.M,
        )
        for name in name
        if name
    }
)
"""Every name that a form of the product has, wherever it is."""

GARBAGE: dict[str, Any] = {
    "blank": " \t\u200b\u2028",
    "nul": "a\x00b",
    "surrogate": "\ud800",
    "long": "x" * 200_000,
    "huge number": "9" * 400,
    "day that is not": "2026-02-30T25:61",
    "year before any": "0001-01-01T00:00",
    "json": '{"a": [1, {"b": null}]}',
    "several": ["1", "2", "x"],
    "digits of elsewhere": "١٢٣",
}
ALONE = ("after", "q", "month")
LISTS = ("changes", "approvals", "calendar", "estate", "estate-stores", "audit", "rollouts", "inbox")
NOT_WRITTEN = {
    "AccessLog",
    "AuditEvent",
    "AuditHead",
    "Session",
    "IdempotencyKey",
    "AccessAttempt",
    "AccessFailureLog",
    "Message",
}
"""What a refusal, a sign-in or a reading writes by itself."""


def rows() -> dict[str, int]:
    return {
        model.__name__: model._default_manager.count()
        for model in apps.get_models()
        if model.__name__ not in NOT_WRITTEN and model._meta.managed
    }


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_every_field_of_every_form_is_refused_in_words(place: Place, garbage: str) -> None:
    body = _encodable(dict.fromkeys(NAMES, GARBAGE[garbage]))
    administrator = client_of(place.administrator)
    before = rows()

    answers = {
        name: client.post(place.url(name), body).status_code
        for name, case in CASES.items()
        for client in ([administrator] if case.who == "administrator" else [client_of(place.person(case.who))])
    }

    assert {name: status for name, status in answers.items() if status >= 500} == {}
    if all(status >= 400 for status in answers.values()):
        assert rows() == before


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_the_address_of_a_list_is_answered(place: Place, garbage: str) -> None:
    value = GARBAGE[garbage] if garbage != "long" else "x" * 2_000

    found = {}
    for name in LISTS:
        client = client_of(place.person(CASES[name].who))
        for one in (NAMES, *([each] for each in ALONE)):
            found[name, one[0]] = client.get(reverse(name), _encodable(dict.fromkeys(one, value))).status_code

    assert {one: status for one, status in found.items() if status >= 500} == {}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"title=" + b"x" * 10_000_000),
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % number for number in range(5_000))),
        ("application/x-www-form-urlencoded", b"title=\xff\xfe&comment=%ff%00"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=title\r\n\r\nno end"),
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n--y--"),
        (
            "multipart/form-data; boundary=x",
            b"".join(
                b'--x\r\nContent-Disposition: form-data; name="f%d"; filename="f"\r\n\r\n1\r\n' % number
                for number in range(500)
            )
            + b"--x--\r\n",
        ),
        ("application/json", b'{"title": "' + b"x" * 10_000_000 + b'"}'),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"title": "\xff"}'),
        ("application/json", b'"\\ud800"'),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:24]),
)
def test_bodies_no_form_sends_are_refused(place: Place, content_type: str, body: bytes) -> None:
    client = client_of(place.estate.ada)
    before = rows()

    for address in (
        reverse("change-new"),
        place.url("change-edit"),
        place.url("vote"),
        "/api/v1/changes/",
        "/api/v1/recovery/points/",
    ):
        answer = client.post(address, body, content_type=content_type)

        assert 400 <= answer.status_code < 500, (address, answer.status_code)
    assert rows() == before


def _encodable(body: dict[str, Any]) -> dict[str, Any]:
    """Send a lone surrogate as the bytes that a broken client would send for it."""
    return {
        name: value.encode("utf-8", "surrogatepass") if value == "\ud800" else value for name, value in body.items()
    }
